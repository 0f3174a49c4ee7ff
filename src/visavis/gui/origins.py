"""Origins: who a page belongs to, as browsers see it. What a browser and Python might read differently has none."""

import re
from collections.abc import Iterable
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from visavis.errors import InputError

__all__ = ["check_pattern", "matches", "origin"]

PORTS, LAST_PORT = {"http": 80, "https": 443}, 65535
ANYWHERE, FILES = "*", "file://"
PATTERN = re.compile(r"(https?)://(\*\.)?([a-z0-9._-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}|\*))?")
# To the first slash, question mark or hash. A backslash is a slash to browsers, a tab or a line end is nothing; other
# letters than these they map by rules of their own. What follows has no say in whose a page is.
_ADDRESS = re.compile(r"(https?|file)://([^/?#\\]*)(?:[/?#].*)?", re.DOTALL | re.IGNORECASE | re.ASCII)
_PLACE = re.compile(r"(?:[!-~]*@)?([a-z0-9._-]+|\[[0-9a-f:.]+\])(?::([0-9]{0,5}))?", re.IGNORECASE | re.ASCII)


def origin(url: str) -> str | None:
    r"""Scheme, host and port of an address, the port only where it is not the scheme's own; "file://" for files.

    Returns:
        None for an address that has no origin (data:, blob:, about:, javascript: ...) or is not written plainly: a
        name in letters beyond ASCII, for one, has to be in the form of "xn--...", as browsers report it.

    Example:
        >>> origin("HTTPS://ada@Example.org:443/a?b#c")
        'https://example.org'
        >>> origin("https://evil.org\\@example.org/") is None
        True
    """
    address = _ADDRESS.fullmatch(url)
    if address is None:
        return None
    scheme, place = address[1].lower(), address[2]
    if scheme == "file":
        return FILES if not place else None
    found = _PLACE.fullmatch(place)
    if found is None or not _is_plain(name := found[1].lower().rstrip(".")):
        return None
    port = int(found[2] or PORTS[scheme])
    if port > LAST_PORT:
        return None
    return f"{scheme}://{name}" + ("" if port == PORTS[scheme] else f":{port}")


def matches(url: str | None, patterns: Iterable[str]) -> bool:
    """Whether an address is of one of some origins.

    Args:
        url: None is of none, except of "*".
        patterns: "https://example.org", with a port if need be; "https://*.example.org" for all below it but not
            itself; "http://127.0.0.1:*" for any port; "file://" for files; "*" for anything at all.

    Example:
        >>> matches("https://shop.example.org/cart", ["https://*.example.org"])
        True
        >>> matches("https://example.org.evil.org/", ["https://example.org"])
        False
    """
    found = None if url is None else origin(url)
    return any(pattern == ANYWHERE or (found is not None and _fits(found, pattern)) for pattern in patterns)


def check_pattern(name: str, pattern: str) -> None:
    """Refuse what `matches` would never match.

    Raises:
        InputError: a pattern of another form.
    """
    if pattern not in (ANYWHERE, FILES) and not PATTERN.fullmatch(pattern):
        raise InputError(
            f'{name}: expected an origin in lower case and without a path, such as "https://example.org", '
            f'"https://*.example.org" or "http://127.0.0.1:*", got {pattern!r}'
        )


def _is_plain(name: str) -> bool:
    """Whether a name, or a number in its one plain form: to browsers 0x7f.1 is 127.0.0.1."""
    try:
        if name.startswith("["):
            return str(IPv6Address(name[1:-1])) == name[1:-1]
        if re.fullmatch(r"[0-9]+|0x[0-9a-f]*", name.rpartition(".")[2]):
            return str(IPv4Address(name)) == name
    except AddressValueError:
        return False
    return "" not in name.split(".")


def _fits(found: str, pattern: str) -> bool:
    if FILES in (found, pattern):
        return found == pattern
    have, want = PATTERN.fullmatch(found), PATTERN.fullmatch(pattern)
    if have is None or want is None:
        return False
    host_fits = have[3].endswith("." + want[3]) if want[2] else have[3] == want[3]
    own = str(PORTS[have[1]])
    return have[1] == want[1] and host_fits and (want[4] == "*" or (want[4] or own) == (have[4] or own))

"""Where a gallery on Milvus is: `milvus://HOST:PORT/NAME`, and what it takes to be let in."""

import os
import re
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from visavis.errors import InputError

__all__ = ["TOKEN_VARIABLE", "Address", "is_address"]

PORT = 19530
SCHEMES = {"milvus": "http", "milvus+tls": "https"}
TOKEN_VARIABLE = "VISAVIS_MILVUS_TOKEN"  # noqa: S105  the name of one
_NAME = re.compile(r"[A-Za-z](_?[A-Za-z0-9])*")  # a double underscore parts a gallery's name from its tables'


def is_address(place: object) -> bool:
    """Whether a place names a gallery on Milvus, and no folder."""
    return isinstance(place, str) and place.partition("://")[0] in SCHEMES


@dataclass(frozen=True, slots=True)
class Address:
    """A gallery's address; the token is shown nowhere."""

    place: str  # as the user wrote it, without what is secret
    uri: str  # as the client takes it
    database: str
    name: str
    token: str = field(repr=False)

    @classmethod
    def parse(cls, url: str) -> "Address":
        """Read `milvus[+tls]://[USER:PASSWORD@]HOST[:PORT]/[DATABASE/]NAME`.

        Without USER:PASSWORD the variable VISAVIS_MILVUS_TOKEN tells it, or a token that the server gave.

        Raises:
            InputError: it is another URL.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port or PORT
        except ValueError:
            host, port = None, PORT
        path = [] if host is None else parts.path.strip("/").split("/")
        well_formed = len(path) in (1, 2) and all(_NAME.fullmatch(name) for name in path) and len(path[-1]) <= 64
        if host is None or not well_formed or parts.query or parts.fragment:
            raise InputError(
                "gallery: expected milvus://HOST:PORT/NAME, the name of letters, digits and single underscores, "
                f"got {_without_secret(url)!r}"
            )
        host = f"[{host}]" if ":" in host else host
        token = os.environ.get(TOKEN_VARIABLE, "")
        if parts.username is not None:
            token = ":".join(unquote(text) for text in (parts.username, parts.password) if text is not None)
        where = f"{host}:{port}"
        return cls(
            f"{parts.scheme}://{where}/{'/'.join(path)}",
            f"{SCHEMES[parts.scheme]}://{where}",
            path[0] if len(path) == 2 else "",
            path[-1],
            token,
        )


def _without_secret(url: str) -> str:
    return re.sub(r"//.*@", "//...@", url)

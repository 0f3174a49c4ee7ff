"""The names of keys: one for each key, whatever a model or a program calls it.

A key that writes a character has that character's name, lower case: `a`, `7`, `+`, `é`. Every other has one of `KEYS`.
"""

from collections.abc import Iterator

from visavis.errors import InputError

__all__ = ["KEYS", "MODIFIERS", "canonical", "join", "split"]

MODIFIERS = frozenset({"alt", "altgr", "ctrl", "meta", "shift"})
KEYS = MODIFIERS | {
    *("backspace", "capslock", "delete", "down", "end", "enter", "escape", "home", "insert", "left", "menu", "numlock"),
    *("pagedown", "pageup", "pause", "printscreen", "right", "scrolllock", "space", "tab", "up"),
    *(f"f{number}" for number in range(1, 25)),
}

# Written without spaces, hyphens and underscores; `meta` is the key with a window, a command sign or nothing on it.
_ALIASES = {
    "alt": "opt option",
    "altgr": "altgraph isolevel3shift",
    "backspace": "bksp",
    "capslock": "caps",
    "ctrl": "control ctl",
    "delete": "del",
    "down": "arrowdown downarrow",
    "enter": "kpenter numpadenter return",
    "escape": "esc",
    "insert": "ins",
    "left": "arrowleft leftarrow",
    "menu": "apps contextmenu",
    "meta": "cmd command super win windows",
    "pagedown": "next pagedn pgdn pgdown",
    "pageup": "pgup prior",
    "pause": "break",
    "printscreen": "prtsc prtscn sysrq",
    "right": "arrowright rightarrow",
    "space": "spacebar",
    "up": "arrowup uparrow",
    "'": "apostrophe",
    "*": "asterisk",
    "+": "plus",
    ",": "comma",
    "-": "dash hyphen minus",
    ".": "dot period",
    "/": "slash",
    ";": "semicolon",
    "=": "equal equals",
    "\\": "backslash",
    "_": "underscore",
    "`": "backquote backtick grave",
}
_NAMES = {name: key for key in KEYS | set(_ALIASES) for name in (key, *_ALIASES.get(key, "").split()) if len(name) > 1}
_NAMES |= {
    sided: key
    for name, key in _NAMES.items()
    if key in MODIFIERS
    for side in ("left", "right", "l", "r")
    for sided in (name + side, side + name)
}
_WHITESPACE = {" ": "space", "\n": "enter", "\r": "enter", "\t": "tab"}
_FILLERS = " -_"
_LONGEST = 32  # no name is longer
_LONGEST_HOTKEY = 200


def _find(key: str) -> str | None:
    """The one name of a key, or None."""
    if len(key) == 1:
        lower = key.lower()
        return _WHITESPACE.get(key) or ((lower if len(lower) == 1 else key) if key.isprintable() else None)
    if not key or len(key) > _LONGEST or key[0] in _FILLERS or key[-1] in _FILLERS:
        return None
    return _NAMES.get(key.lower().translate({ord(filler): None for filler in _FILLERS}))


def canonical(key: str) -> str:
    """The one name of a key, from any of its names.

    Raises:
        InputError: no key has this name.

    >>> canonical("Control"), canonical("page_down"), canonical("A"), canonical("Return"), canonical("plus")
    ('ctrl', 'pagedown', 'a', 'enter', '+')
    """
    found = _find(key)
    if found is None:
        shown = key if len(key) <= _LONGEST else f"{key[:_LONGEST]}..."
        raise InputError(
            f"key: expected a character or a name such as enter, ctrl, pagedown, f5, got {shown!r}; "
            "keys pressed together are named one by one, with spaces between"
        )
    return found


def split(text: str) -> tuple[str, ...]:
    """The keys of a hotkey, between spaces, plus signs or hyphens; errors as `canonical`.

    A plus sign or hyphen that stands alone between two others joins them; at the end it is a key.

    >>> split("ctrl c"), split("Ctrl+Shift+T"), split("ctrl + -"), split("page down"), split("ctrl++")
    (('ctrl', 'c'), ('ctrl', 'shift', 't'), ('ctrl', '-'), ('pagedown',), ('ctrl', '+'))
    """
    if len(text) > _LONGEST_HOTKEY:
        raise InputError(f"keys: expected at most {_LONGEST_HOTKEY} characters, got {len(text)}; use type for a text")
    words = text.split()
    if not words:
        raise InputError("keys: expected the names of keys, got none")
    keys: list[str] = []
    at = 0
    while at < len(words):
        word = words[at]
        pair = words[at] + words[at + 1] if at + 1 < len(words) else ""
        if _find(pair) and not (_find(word) and _find(words[at + 1])):  # "page down", "left arrow"
            keys.append(canonical(pair))
            at += 2
            continue
        if not (word in ("+", "-") and 0 < at < len(words) - 1):
            keys.extend([canonical(word)] if _find(word) else map(canonical, _parts(word)))
        at += 1
    return tuple(keys)


def join(keys: tuple[str, ...]) -> str:
    """The hotkey that `split` takes apart into these keys.

    >>> join(("ctrl", "+"))
    'ctrl plus'
    """
    return " ".join({"+": "plus", "-": "minus"}.get(key, key) for key in keys)


def _parts(word: str) -> Iterator[str]:
    """What stands between plus signs or hyphens; one that follows another is a part itself."""
    start = 0
    while start <= len(word):
        ends = [end for end in (word.find("+", start + 1), word.find("-", start + 1)) if end >= 0]
        end = min(ends, default=len(word))
        yield word[start:end]
        start = end + 1

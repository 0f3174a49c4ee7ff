"""Keys as a browser is told of them, on a keyboard of the United States."""

from typing import Any

__all__ = ["BITS", "STROKES", "stroke"]

BITS = {"alt": 1, "ctrl": 2, "meta": 4, "shift": 8}

# By our name: the browser's `key`, its `code`, the Windows virtual key code.
_NAMED = {
    "alt": ("Alt", "AltLeft", 18),
    "altgr": ("AltGraph", "AltRight", 18),
    "backspace": ("Backspace", "Backspace", 8),
    "capslock": ("CapsLock", "CapsLock", 20),
    "ctrl": ("Control", "ControlLeft", 17),
    "delete": ("Delete", "Delete", 46),
    "down": ("ArrowDown", "ArrowDown", 40),
    "end": ("End", "End", 35),
    "enter": ("Enter", "Enter", 13),
    "escape": ("Escape", "Escape", 27),
    "home": ("Home", "Home", 36),
    "insert": ("Insert", "Insert", 45),
    "left": ("ArrowLeft", "ArrowLeft", 37),
    "menu": ("ContextMenu", "ContextMenu", 93),
    "meta": ("Meta", "MetaLeft", 91),
    "numlock": ("NumLock", "NumLock", 144),
    "pagedown": ("PageDown", "PageDown", 34),
    "pageup": ("PageUp", "PageUp", 33),
    "pause": ("Pause", "Pause", 19),
    "printscreen": ("PrintScreen", "PrintScreen", 44),
    "right": ("ArrowRight", "ArrowRight", 39),
    "scrolllock": ("ScrollLock", "ScrollLock", 145),
    "shift": ("Shift", "ShiftLeft", 16),
    "space": (" ", "Space", 32),
    "tab": ("Tab", "Tab", 9),
    "up": ("ArrowUp", "ArrowUp", 38),
    **{f"f{number}": (f"F{number}", f"F{number}", 111 + number) for number in range(1, 25)},
}
_TEXTS = {"enter": "\r", "space": " "}
# Each key that writes: what it writes alone and with Shift, its code, its virtual key code.
_WRITING = [
    *((letter, letter.upper(), f"Key{letter.upper()}", ord(letter.upper())) for letter in "abcdefghijklmnopqrstuvwxyz"),
    *((digit, shifted, f"Digit{digit}", ord(digit)) for digit, shifted in zip("1234567890", "!@#$%^&*()", strict=True)),
    ("-", "_", "Minus", 189),
    ("=", "+", "Equal", 187),
    ("[", "{", "BracketLeft", 219),
    ("]", "}", "BracketRight", 221),
    ("\\", "|", "Backslash", 220),
    (";", ":", "Semicolon", 186),
    ("'", '"', "Quote", 222),
    ("`", "~", "Backquote", 192),
    (",", "<", "Comma", 188),
    (".", ">", "Period", 190),
    ("/", "?", "Slash", 191),
]
STROKES = {
    **{name: (key, code, number, _TEXTS.get(name, ""), False) for name, (key, code, number) in _NAMED.items()},
    **{plain: (plain, code, number, plain, False) for plain, _, code, number in _WRITING},
    **{shifted: (shifted, code, number, shifted, True) for _, shifted, code, number in _WRITING},
    " ": (" ", "Space", 32, " ", False),
    "\n": ("Enter", "Enter", 13, "\r", False),
    "\t": ("Tab", "Tab", 9, "", False),
}
"""By our name of a key or by a character: `key`, `code`, virtual key code, what it writes, whether Shift is held."""

_SHIFTED = {plain: shifted for plain, shifted, _, _ in _WRITING}


def stroke(name: str, held: int, *, down: bool) -> dict[str, Any]:
    """The parameters of ``Input.dispatchKeyEvent``.

    Args:
        name: of `STROKES`, or a character no key has.
        held: the modifiers, as the sum of `BITS`; with Ctrl, Alt or Meta a key writes nothing.
        down: or up.
    """
    name = _SHIFTED.get(name, name) if held & BITS["shift"] else name
    key, code, number, text, shifted = STROKES.get(name, (name, "", 0, name, False))
    held |= BITS["shift"] if shifted else 0
    if held & (BITS["ctrl"] | BITS["alt"] | BITS["meta"]):
        text = ""
    event = {"key": key, "code": code, "windowsVirtualKeyCode": number, "modifiers": held}
    if not down:
        return {"type": "keyUp", **event}
    return {"type": "keyDown" if text else "rawKeyDown", "text": text, "unmodifiedText": text, **event}

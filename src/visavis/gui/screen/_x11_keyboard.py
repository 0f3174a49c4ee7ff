"""Keys of an X display: which to press for a key's name or for a character, of any language.

A character of the layout in use is typed as people do, with Shift and AltGr. Any other is put on a key that the layout
leaves free, and stays there until that key is needed for another or the keyboard is closed: a program looks up what a
key writes when it handles it, which is later than when it is pressed.
"""

import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from visavis.errors import InputError, ScreenError
from visavis.gui.screen._x11_display import Connection

__all__ = ["Keyboard"]

_KEYSYMS = {
    "alt": "Alt_L",
    "altgr": "ISO_Level3_Shift",
    "backspace": "BackSpace",
    "capslock": "Caps_Lock",
    "ctrl": "Control_L",
    "enter": "Return",
    "meta": "Super_L",
    "numlock": "Num_Lock",
    "pagedown": "Next",
    "pageup": "Prior",
    "printscreen": "Print",
    "scrolllock": "Scroll_Lock",
    "shift": "Shift_L",
    "space": "space",
}  # every other key's name with a capital
_TYPED = {"\n": "enter", "\r": "enter", "\t": "tab"}
_FIRST_FUNCTION, _UNICODE = 0xFE00, 0x1000000  # keysyms: of keys that write nothing; of characters of no older set
_SYNC_EVERY = 32  # characters; in between, nothing waits for the server


class _Stroke(NamedTuple):
    code: int
    shift: bool
    altgr: bool


class Keyboard:
    """The keys of a display, and the characters put on free ones.

    Args:
        connection: to the display.
        handled: returns when programs have handled the keys pressed so far.
    """

    def __init__(self, connection: Connection, handled: Callable[[], None]) -> None:
        self._connection, self._handled = connection, handled
        self._lent: dict[int, int] = {}  # keysym by free keycode, the longest lent first

    def press(self, keys: Iterable[str]) -> list[int]:
        """Hold down keys of `actions.keys`, in order, each with the Shift or AltGr that its character takes.

        Returns:
            The keycodes that were not down before.
        """
        syms = [self._keysym(key) for key in keys]
        strokes = self._provide(syms)
        codes = [code for sym in syms for code in self._codes(strokes, strokes[sym])]
        return [code for code in codes if self._connection.hold("key", code)]

    def release(self, codes: Collection[int]) -> None:
        """Let go of keycodes, the last pressed first."""
        for code in reversed(list(codes)):
            self._connection.let_go("key", code)

    def type(self, text: str) -> None:
        """Type a text; caps lock is off meanwhile, newline and tab are keys.

        Raises:
            InputError: a control character, which no key writes.
        """
        for character in text:
            if unicodedata.category(character) == "Cc" and character not in _TYPED:
                raise InputError(f"text: expected characters that keys write, got U+{ord(character):04X}; use hotkey")
        syms = [self._keysym(_TYPED.get(character, character)) for character in text.replace("\r\n", "\n")]
        with self._no_caps_lock():
            while syms:
                part = syms[: self._reach(syms)]
                strokes = self._provide(part)
                for number, sym in enumerate(part, 1):
                    codes = self._codes(strokes, strokes[sym])
                    self.release([code for code in codes if self._connection.hold("key", code)])
                    if number % _SYNC_EVERY == 0:
                        self._connection.sync()
                syms = syms[len(part) :]

    def close(self) -> None:
        """Take the characters off the free keys."""
        self._layout()
        for code in self._lent:
            self._map(code, 0)
        self._lent.clear()

    def _keysym(self, key: str) -> int:
        if len(key) > 1:
            return self._connection.keysym(_KEYSYMS.get(key, key.capitalize()))
        point = ord(key)
        return point if 0x20 <= point <= 0x7E or 0xA0 <= point <= 0xFF else _UNICODE | point

    def _codes(self, strokes: dict[int, _Stroke], stroke: _Stroke) -> list[int]:
        """The keycodes to hold down for a stroke, its own the last."""
        levels = [key for key, on in (("shift", stroke.shift), ("altgr", stroke.altgr)) if on]
        return [*(strokes[self._keysym(key)].code for key in levels), stroke.code]

    def _layout(self) -> tuple[dict[int, _Stroke], list[int]]:
        """How each keysym is typed now, and the keycodes that are free."""
        setup = self._connection.display.display.info
        least, most = setup.min_keycode, setup.max_keycode
        rows = self._connection.display.get_keyboard_mapping(least, most - least + 1)
        table = {code: list(row) for code, row in enumerate(rows, least)}
        strokes: dict[int, _Stroke] = {}
        for code, levels in _levels(table, self._connection.group()):
            for level, sym in enumerate(levels):
                if sym:  # of keys that write the same, the first: not the keypad's
                    strokes.setdefault(sym, _Stroke(code, bool(level & 1), bool(level & 2)))
        altgr = self._keysym("altgr")
        if altgr not in strokes:
            strokes = {sym: stroke for sym, stroke in strokes.items() if not stroke.altgr}
        self._lent = {code: sym for code, sym in self._lent.items() if table[code][0] == sym}  # a new layout took it
        return strokes, [code for code in reversed(table) if not any(table[code])]

    def _reach(self, syms: list[int]) -> int:
        """How many of the keysyms, from the first, can have a key at the same time."""
        strokes, free = self._layout()
        room = len(free) + len(self._lent)
        needed: set[int] = set()
        for at, sym in enumerate(syms):
            if sym not in strokes or strokes[sym].code in self._lent:
                needed.add(sym)
            if len(needed) > room:
                if not room:
                    raise ScreenError("keyboard: expected a layout with a free key for characters it lacks, got none")
                return at
        return len(syms)

    def _provide(self, syms: Iterable[int]) -> dict[int, _Stroke]:
        """How each keysym is typed, once free keys have been given to those that had none."""
        strokes, free = self._layout()
        missing = [sym for sym in dict.fromkeys(syms) if sym not in strokes]
        if not missing:
            return strokes
        if len(missing) > len(free):
            self._handled()
            free += [code for code, sym in self._lent.items() if sym not in syms]
        if len(missing) > len(free):
            raise ScreenError(f"keyboard: expected {len(missing)} free keys in the layout, got {len(free)}")
        for code, sym in zip(free, missing, strict=False):
            self._lent.pop(code, None)
            self._lent[code] = sym
            self._map(code, sym)
        self._connection.sync()
        return self._layout()[0]

    def _map(self, code: int, sym: int) -> None:
        # The same with and without Shift: a lone letter would get its capital there.
        self._connection.display.change_keyboard_mapping(code, [(sym, sym)])

    @contextmanager
    def _no_caps_lock(self) -> Iterator[None]:
        if not self._connection.locked():
            yield
            return
        lock = ("capslock",)
        self.release(self.press(lock))
        try:
            yield
        finally:
            self.release(self.press(lock))


def _levels(table: dict[int, list[int]], group: int) -> Iterator[tuple[int, list[int]]]:
    """What each keycode writes: plain, with Shift, with AltGr, with both.

    A row of the core protocol begins with two levels of the first group and two of the second, a copy of the first
    where the key has one group only. The levels of AltGr come next, but where they begin is not told when there are
    two groups, nor are a third group's levels: characters there are taken for missing.
    """
    alike = {code: not any(row[2:4]) or row[:2] == row[2:4] for code, row in table.items()}
    for code, row in table.items():
        if alike[code] and group < 2:
            yield code, row[:2] + (row[4:6] if all(alike.values()) else [])
        elif group < 2:
            yield code, row[2 * group : 2 * group + 2]
        else:
            yield code, [sym if _FIRST_FUNCTION <= sym < _UNICODE else 0 for sym in row[:2]]

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visavis.errors import InputError
from visavis.gui.actions.keys import KEYS, MODIFIERS, canonical, join, split

# Every printable character that is no space, lower case; and every name.
CANONICAL = st.sampled_from(sorted(KEYS)) | st.characters(codec="utf-8").filter(
    lambda c: (
        c.isprintable() and not c.isspace() and c.lower() in (c, c.lower()) and (len(c.lower()) > 1 or c == c.lower())
    )
)


@pytest.mark.parametrize(
    ("spelling", "key"),
    [
        ("Control", "ctrl"), ("CTRL", "ctrl"), ("ctrl_l", "ctrl"), ("Cmd", "meta"), ("win", "meta"),
        ("Super_L", "meta"), ("lalt", "alt"), ("RightShift", "shift"),
        ("option", "alt"), ("ArrowLeft", "left"), ("arrow_up", "up"), ("Page_Down", "pagedown"), ("page-up", "pageup"),
        ("pgdn", "pagedown"), ("Return", "enter"), ("KP_Enter", "enter"), ("Esc", "escape"), ("Del", "delete"),
        ("F12", "f12"), ("A", "a"), ("É", "é"), (" ", "space"), ("\n", "enter"), ("\t", "tab"), ("plus", "+"),
        ("period", "."), ("中", "中"),
    ],
)  # fmt: skip
def test_one_name_from_any(spelling, key):
    assert canonical(spelling) == key


@pytest.mark.parametrize(
    "nonsense", ["", "ctl+c", "f25", "f0", "enter!", "ctrl-", "-ctrl", "\0", "\ud800", "x" * 10**6]
)
def test_what_is_no_key_is_refused(nonsense):
    with pytest.raises(InputError, match="key: expected a character or a name such as enter"):
        canonical(nonsense)


@given(CANONICAL)
def test_a_canonical_name_is_its_own(key):
    assert canonical(key) == key


@given(st.lists(CANONICAL, min_size=1, max_size=6).map(tuple))
def test_split_undoes_join(keys):
    assert split(join(keys)) == keys


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("ctrl shift t", ("ctrl", "shift", "t")), ("ctrl+shift+t", ("ctrl", "shift", "t")), ("Ctrl-C", ("ctrl", "c")),
        ("ctrl + c", ("ctrl", "c")), ("ctrl ++", None), ("ctrl +", ("ctrl", "+")), ("ctrl++", ("ctrl", "+")),
        ("ctrl+-", ("ctrl", "-")), ("+", ("+",)), ("ctrl - -", ("ctrl", "-")), ("page down", ("pagedown",)),
        ("ctrl page up", ("ctrl", "pageup")), ("arrow left", ("left",)), ("left arrow", ("left",)),
        ("shift left", ("shift", "left")), ("Caps Lock", ("capslock",)), ("page-down", ("pagedown",)),
        ("u p", ("u", "p")),
        ("alt+page_down", ("alt", "pagedown")), ("ctrl+", None), ("ctrl+hello", None), ("", None), ("  ", None),
    ],
)  # fmt: skip
def test_hotkeys_as_models_write_them(text, keys):
    if keys is None:
        with pytest.raises(InputError, match=r"keys?: expected"):
            split(text)
    else:
        assert split(text) == keys


def test_a_long_hotkey_is_a_text():
    with pytest.raises(InputError, match="keys: expected at most 200 characters, got 4000000; use type for a text"):
        split("a+a-" * 10**6)


def test_modifiers_are_keys():
    assert MODIFIERS < KEYS

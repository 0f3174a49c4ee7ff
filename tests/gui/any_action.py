"""Strategies for hypothesis: every action there is, and the texts that break parsers."""

from hypothesis import strategies as st

from visavis.gui.actions import (
    Back,
    CallUser,
    Click,
    Drag,
    Finished,
    Home,
    Hotkey,
    LongPress,
    Move,
    Navigate,
    OpenApp,
    Press,
    Release,
    Scroll,
    Type,
    Wait,
)
from visavis.gui.actions.keys import KEYS

SIZES = st.sampled_from(
    [(210, 160), (1000, 1000), (1280, 800), (1920, 1080), (3840, 2160), (1, 1), (375, 812)]
) | st.tuples(st.integers(40, 8000), st.integers(40, 8000))
# Pieces of the grammars themselves, and of what has broken others.
PIECES = [
    *("'", '"', "\\", "\n", "\r\n", "\t", "'''", '"""', "\\n", "\\'", "\\u0041", "\\x", "it's", "')", "'),", "#", ";"),
    *("Thought: ", "Action: ", "Action:", "\nAction: wait()\n", "\\Action: wait()", "\nAction：wait()", "action : x("),
    *("point=", "start_box=", "<point>1 2</point>", "<|box_start|>(1,2)<|box_end|>", "<|im_end|>", "[EOS]", "```"),
    *("<think>", "</think>", "<tool_call>", '{"name": "wait"}', "[", "{", "]}", "click(point='1 2')"),
    *("中文", "，", "：", "😀", "👩‍👩‍👧", "é", "e\u0301", "\u202e", "\0", "\x1b[2J", "\u2028", "\x85", "\ufeff"),
    *(" ", "  ", "C:\\temp\\new", "{", "%s"),
    *("__import__('os').system('touch x')", "{instruction}", "$(id)", "a", "7", "0", "-", "+"),
]  # fmt: skip
TEXTS = st.text() | st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=8).map("".join)
KEY_NAMES = st.sampled_from(sorted(KEYS)) | st.characters(codec="utf-8").filter(
    lambda character: character.isprintable() and not character.isspace() and len(character.lower()) == 1
).map(str.lower)
NOTCHES = st.integers(-1000, 1000)


def actions(size):
    """Every action there is, on a screenshot of this size."""
    width, height = size
    points = st.tuples(st.integers(0, width - 1), st.integers(0, height - 1))
    some = TEXTS.filter(bool)
    return st.one_of(
        st.builds(Move, points),
        st.builds(Click, points, st.sampled_from(["left", "right", "middle"]), st.integers(1, 3)),
        st.builds(LongPress, points),
        st.builds(Drag, st.lists(points, min_size=2, max_size=5).map(tuple)),
        st.builds(Scroll, points, NOTCHES, NOTCHES).filter(lambda scroll: scroll.down or scroll.right),
        st.builds(Scroll, points, st.sampled_from([5, -5]))
        | st.builds(Scroll, points, st.just(0), st.sampled_from([5, -5])),
        st.builds(Type, TEXTS),
        st.builds(Hotkey, st.lists(KEY_NAMES, min_size=1, max_size=4, unique=True).map(tuple)),
        st.builds(Press, KEY_NAMES),
        st.builds(Release, KEY_NAMES),
        st.builds(Wait, st.floats(0, 3600) | st.just(5.0)),
        st.builds(OpenApp, some),
        st.just(Back()),
        st.just(Home()),
        st.builds(Navigate, some),
        st.builds(Finished, TEXTS),
        st.builds(CallUser, TEXTS),
    )


def decisions(size, every=None):
    """A thought and one to four actions; nothing follows the last of a run."""

    def ends_once(found):
        return not any(isinstance(action, Finished | CallUser) for action in found[:-1])

    found = every if every is not None else actions(size)
    return st.tuples(TEXTS, st.lists(found, min_size=1, max_size=4).filter(ends_once).map(tuple))

import ast
import dataclasses
import json
import subprocess
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.gui.any_action import PIECES, SIZES, TEXTS, decisions
from visavis.errors import InputError, ReplyError
from visavis.gui.actions import (
    ABSOLUTE,
    DOUBAO_1_5,
    GROUNDING,
    JSON_TOOLS,
    MOBILE,
    RELATIVE,
    UI_TARS_1_0,
    UI_TARS_1_5,
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
    Reply,
    Scroll,
    Type,
    Wait,
)

COMPUTER = [UI_TARS_1_0, UI_TARS_1_5, DOUBAO_1_5]
CALLS = [*COMPUTER, MOBILE, dataclasses.replace(MOBILE, coordinates=ABSOLUTE), GROUNDING]
ALL = [*CALLS, JSON_TOOLS, dataclasses.replace(JSON_TOOLS, coordinates=RELATIVE)]
SIZE = (1000, 1000)  # a relative unit is a pixel


def ids(dialect):
    return f"{dialect.name}, {dialect.coordinates.units or 'pixels'}"


def has_words_for(dialect, action):
    if dialect is GROUNDING:
        return isinstance(action, Click) and (action.button, action.count) == ("left", 1)
    if dialect.name == "mobile":
        simple = (LongPress, Type, Scroll, OpenApp, Drag, Home, Back, Finished, Wait, CallUser)
        return isinstance(action, simple) or (isinstance(action, Click) and action == Click(action.point))
    return True


@pytest.mark.parametrize("dialect", ALL, ids=ids)
@given(data=st.data(), size=SIZES)
def test_parse_undoes_format(dialect, data, size):
    """Every action, every text, every pixel; and what a dialect has no words for is refused."""
    thought, found = data.draw(decisions(size))
    sayable = [action for action in found if has_words_for(dialect, action)]
    if len(sayable) < len(found) or (dialect is GROUNDING and len(found) > 1):
        with pytest.raises(InputError, match=r"actions?: expected (one that \S+ has words for|at most 1)"):
            dialect.format(thought, found, size)
        found = tuple(sayable[:1])
    if found:
        assert dialect.parse(dialect.format(thought, found, size), size) == Reply(thought.strip(), found)


@pytest.mark.parametrize("dialect", ALL, ids=ids)
@given(data=st.data(), size=SIZES)
def test_every_pixel_survives(dialect, data, size):
    click = Click(data.draw(st.tuples(st.integers(0, size[0] - 1), st.integers(0, size[1] - 1))))
    assert dialect.parse(dialect.format("", (click,), size), size).actions == (click,)


@pytest.mark.parametrize("dialect", ALL, ids=ids)
@given(text=st.lists(st.sampled_from(PIECES), max_size=12).map("".join) | st.text(st.characters(categories=None)))
def test_whatever_the_reply_there_is_a_reading_or_a_reason(dialect, text):
    for reply in (text, f"Action: {text}", f"Thought: a\nAction: type(content='{text}')", f'{{"thought": "{text}"}}'):
        try:
            found = dialect.parse(reply, SIZE).actions
        except ReplyError as error:
            found = str(error)
        assert found


# What others' parsers get wrong, for UI-TARS 1.5 and Doubao alike on this screen, but for the edge.
RIGHT = [
    ("a documented call", "Thought: Click\nAction: click(point='<point>200 300</point>')", (Click((200, 300)),)),
    ("text ending in a newline", r"Action: type(content='hello\n')", (Type("hello\n"),)),
    ("an escaped apostrophe", r"Action: type(content='it\'s')", (Type("it's"),)),
    ("a bare apostrophe", "Action: type(content='it's')", (Type("it's"),)),
    ("point= in a text", "Action: type(content='set point=5')", (Type("set point=5"),)),
    ("start_box= in a text", "Action: type(content='start_box=(1,2)')", (Type("start_box=(1,2)"),)),
    ("a point in a text", "Action: type(content='<point>1 2</point>')", (Type("<point>1 2</point>"),)),
    ("box tokens", "Action: click(start_box='<|box_start|>(20,30)<|box_end|>')", (Click((20, 30)),)),
    ("box tokens, no quotes", "Action: click(start_box=<|box_start|>(20,30)<|box_end|>)", (Click((20, 30)),)),
    ("a decimal point", "Action: click(point='<point>20.5 30.25</point>')", (Click((20, 30)),)),
    ("a bbox", "Action: click(start_box='<bbox>20 30 40 50</bbox>')", (Click((30, 40)),)),
    ("a box of two corners", "Action: click(start_box='<|box_start|>(20,30),(40,50)<|box_end|>')", (Click((30, 40)),)),
    ("a list", "Action: click(start_box='[20, 30]')", (Click((20, 30)),)),
    ("a list, no quotes", "Action: click(start_box=[20, 30, 40, 50])", (Click((30, 40)),)),
    ("a list of a list", "Action: click(start_box=[[20, 30]])", (Click((20, 30)),)),
    ("no space after Action:", "Thought: a\nAction:click(start_box='(20,30)')", (Click((20, 30)),)),
    ("a full-width colon", "Thought：a\nAction：click(start_box='(20,30)')", (Click((20, 30)),)),
    ("double quotes", 'Action: click(start_box="(20,30)")', (Click((20, 30)),)),
    ("a real newline", "Action: type(content='one\ntwo')", (Type("one\ntwo"),)),
    ("integers as arguments", "Action: type(content=123)\n\nwait(2)", (Type("123"), Wait(2.0))),
    ("keys with plus signs", "Action: hotkey(key='ctrl+shift+t')", (Hotkey(("ctrl", "shift", "t")),)),
    ("scroll right", "Action: scroll(point='<point>20 30</point>', direction='right')", (Scroll((20, 30), right=5),)),
    ("scroll left", "Action: scroll(point='<point>20 30</point>', direction='left')", (Scroll((20, 30), right=-5),)),
    ("wait", "Action: wait()", (Wait(),)),
    ("an action before finished", "Action: press_back()\n\nfinished(content='done')", (Back(), Finished("done"))),
    ("a comma and an escaped quote", r"Action: type(content='a, \'b\', c')", (Type("a, 'b', c"),)),
    ("double quotes and a comma", 'Action: type(content="Hello, world")', (Type("Hello, world"),)),
    ("a blank line in a text", "Action: type(content='one\n\ntwo')", (Type("one\n\ntwo"),)),
    ("Action: in a text", "Action: type(content='Action: wait()')", (Type("Action: wait()"),)),
    ("Action: in a text, on a line", "Action: type(content='a\nAction: wait()')", (Type("a\nAction: wait()"),)),
    ("coordinate 0", "Action: click(point='<point>0 0</point>')", (Click((0, 0)),)),
    ("a drag from 0, 0", "Action: drag(start_box='(0,0)', end_box='(20,0)')", (Drag(((0, 0), (20, 0))),)),
    ("no thought", "Action: finished()", (Finished(),)),
    ("an action alone", "click(start_box='(20,30)')", (Click((20, 30)),)),
    ("all on one line", "Thought: I am done. Action: finished(content='yes')", (Finished("yes"),)),
    ("three quotes", "Thought: '''\nimport os\n'''\nAction: wait()", (Wait(),)),
    ("a text in three quotes", "Action: type(content='''don't \"say\" it''')", (Type("don't \"say\" it"),)),
    ("a fence", "```\nThought: a\nAction: wait()\n```", (Wait(),)),
    ("a fence after Action:", "Thought: a\nAction:\n```python\nwait()\n```", (Wait(),)),
    ("an end token", "Thought: a\nAction: wait()<|im_end|>", (Wait(),)),
    ("a comment", "Action: wait() # for the page", (Wait(),)),
    ("reasoning", "<think>Action: finished()</think>\nThought: a\nAction: wait()", (Wait(),)),
    ("keys as a list", "Action: hotkey(key=['Ctrl', 'c'])", (Hotkey(("ctrl", "c")),)),
    ("a Windows path", r"Action: type(content='C:\Users\dir')", (Type(r"C:\Users\dir"),)),
    ("a character by its number", r"Action: type(content='\u4e2d\U0001f600\x41')", (Type("中😀A"),)),
    ("halves of a character", r"Action: type(content='\ud83d\ude00')", (Type("😀"),)),
    ("other names", "Action: double_click(x=20, y=30)", (Click((20, 30), count=2),)),
    ("no names", "Action: drag('<point>1 2</point>', '<point>3 4</point>')", (Drag(((1, 2), (3, 4))),)),
    ("press and release", "Action: press(key='Shift')\nrelease(key='Shift')", (Press("shift"), Release("shift"))),
    ("capitals", "THOUGHT: a\nACTION: Click(point='<point>20 30</point>')", (Click((20, 30)),)),
    ("the far edge", "Action: click(point='<point>1000 1000</point>')", (Click((999, 999)),)),
]  # fmt: skip


@pytest.mark.parametrize(("reply", "expected"), [row[1:] for row in RIGHT], ids=[row[0] for row in RIGHT])
def test_replies_as_models_write_them(reply, expected):
    assert DOUBAO_1_5.parse(reply, SIZE).actions == expected


def test_the_thought_is_what_stands_before():
    reply = "<think>hm</think>\nThought: one\n\nIt's Action: two.\nAction: wait()"
    assert UI_TARS_1_5.parse(reply, SIZE).thought == "hm\none\n\nIt's Action: two."
    assert UI_TARS_1_5.parse("Reflection: a\nAction_Summary: b\nAction: wait()", SIZE).thought == (
        "Reflection: a\nAction_Summary: b"
    )


WRONG = [
    ("", "line 1, column 1, at the end: the reply has no action; end it with a line that begins with 'Action: '"),
    ("I would click OK.", "line 1, column 18, at the end: the reply has no action"),
    ("Thought: a\nAction: Click the OK", "line 2, column 9, at 'Click the OK': expected an action after 'Action:'"),
    ("Action: clck(point='1 2')", "line 1, column 9, at .*: 'clck' is no action here; the actions are click, left_d"),
    ("Action: click()", "line 1, column 9, at 'click.*': click: the argument point is missing"),
    ("Action: click(point='1 2', button='right', why='x')", "line 1, column 48, .*: click: no argument is called why"),
    ("Action: click(point='1 2', start_box='1 2')", "point and start_box name the same argument"),
    ("Action: click(point='1 2', point='1 2')", "line 1, column 28, .*: point is given twice"),
    ("Action: click(point='1 2', '3 4')", "column 28, .*: expected the name of an argument and '='"),
    ("Action: wait(1, 2)", "wait: one argument too many"),
    ("Action: click(point='1 2', button='any')", "click: expected button to be one of left, right, middle"),
    ("Action: click(point='1 2', count=4)", "click: count: expected a whole number from 1 to 3, got 4"),
    ("Action: click(point='1 2', count=1.5)", "click: expected count to be a whole number"),
    ("Action: click(start_box='=')", "column 25, at .*: expected numbers such as 100 200"),
    ("Action: click(start_box='')", "click: expected a point as 2 numbers, x and y, or a box as 4, got 0"),
    ("Action: click(start_box='(1,2,3)')", "or a box as 4, got 3"),
    ("Action: click(start_box='(1,,3)')", "expected numbers such as 100 200"),
    ("Action: click(start_box='(,1,2)')", "expected numbers such as 100 200"),
    ("Action: click(start_box='(1,2')", "ends before the closing \\)"),
    ("Action: click(start_box='(30,20,10,40)')", "click: expected a box as its left, top, right and bottom"),
    ("Action: click(start_box='(0.5,0.25)')", "x from 0 to 1000 and y from 0 to 1000, got fractions of the screen"),
    ("Action: click(start_box='(0.1,0.2,0.3,1.0)')", "got fractions of the screen"),
    ("Action: click(start_box='(1001,2)')", "click: x: expected 0 to 1000, got 1001"),
    ("Action: click(start_box='(-1,2)')", "click: x: expected 0 to 1000, got -1"),
    ("Action: click(start_box='(1e9,2)')", "click: x: expected 0 to 1000, got 1e\\+09"),
    ("Action: click(start_box='(12px,2)')", "expected a plain number such as 12 or 12.5"),
    ("Action: click(start_box='(1" + 60 * "0" + ",2)')", "expected a plain number such as 12 or 12.5"),
    ("Action: click(start_box='(1e999,2)')", "expected a plain number such as 12 or 12.5"),
    ("Action: click(start_box=__import__('os'))", "column 35, at .*: expected a comma or the closing"),
    ("Action: click(start_box='__import__(1)')", "expected the numbers of a point|comma or the closing end"),
    ("Action: click(start_box='" + "(" * 5000 + "')", "nested more than 10 deep"),
    ("Action: type(content=hello)", "type: expected content to be a text in quotes"),
    ("Action: type(content='f('a') # x')", "expected a comma or the closing parenthesis of type; a quote"),
    ("Action: type(content='say 'a', b')", "a quote inside of a text is written"),
    ("Action: type(content='say ('a')", "a quote inside of a text is written"),
    ("Action: wait() # it's", "a quote inside of a text is written"),
    ("Action: type(content='a", "line 1, column 22, at \"'a\": the text that begins here has no closing '"),
    ("Action: type(content='a'", "line 1, column 25, at the end: the reply ends before the closing paren"),
    ("Action: type(", "line 1, column 14, at the end: the reply ends before the closing parenthesis of type"),
    ("Action: type(content=", "line 1, column 22, at the end: expected a value"),
    (r"Action: type(content='\ud83d')", "half of a character"),
    ("Action: type(content='\ud83d')", "half of a character"),
    ("Action: wait()\nThat opens the menu.", "line 2, column 1, at 'That opens the menu.': expected an action"),
    ("Action: wait() or wait()", "line 1, column 16, at 'or wait.*': expected an action and its arguments"),
    ("Action: wait()wait()", "line 1, column 15, at 'wait.*': expected the end of the line after an action"),
    ("Action: finished()\nwait()", "line 2, column 1, at .*: nothing may follow finished or call_user"),
    ("Action: wait()\n```\nmore", "line 3, column 1, at 'more': expected nothing after the end of the reply"),
    ("<think>Action: wait()", "line 1, column 1, at .*: <think> is never closed by </think>"),
    ("Action: scroll(point='1 2', direction='sideways')", "expected direction to be one of down, up, right, left"),
    ("Action: scroll(direction='down')", "scroll: the argument point is missing"),
    ("Action: scroll(point='1 2', down=0)", "scroll: down, right: expected notches to scroll by, got 0 and 0"),
    ("Action: hotkey(key='ctrl nonsense')", "hotkey: key: expected a character or a name .*, got 'nonsense'"),
    ("Action: hotkey(key='')", "hotkey: keys: expected the names of keys, got none"),
    ("Action: hotkey(key='down down')", "hotkey: keys: expected each key once, got down down"),
    ("Action: press(key='ctrl c')", "press: expected one key, got ctrl c"),
    ("Action: drag(path='1 2 3 4')", "drag: expected path to be a list of points"),
    ("Action: drag(path='(1 2)')", "drag: expected path to be a list of points|at least 2 points"),
    ("Action: wait(seconds='soon')", "wait: expected seconds to be a number"),
    ("Action: wait(seconds=1e9)", "wait: seconds: expected 0 to 3600, got 1000000000.0"),
    ("Action: open_app(app_name='')", "open_app: name: expected some text"),
]  # fmt: skip


@pytest.mark.parametrize(("reply", "message"), WRONG, ids=[repr(row[0])[:50] for row in WRONG])
def test_what_is_not_clear_is_refused_with_a_reason(reply, message):
    with pytest.raises(ReplyError, match=message) as caught:
        DOUBAO_1_5.parse(reply, SIZE)
    assert caught.value.reply == reply


CLICK = (Click((20, 30)),)
SERVED = {"name": "click", "arguments": '{"x": 20, "y": 30}'}
TOOLS = [
    ("our own form", '{"thought": "a", "actions": [{"name": "click", "arguments": {"point": [20, 30]}}]}', CLICK),
    ("one call", '{"name": "click", "arguments": {"point": [20, 30], "button": null}}', CLICK),
    ("a list", '[{"name": "click", "arguments": {"point": [20, 30]}}]', CLICK),
    ("decimals", '{"name": "click", "arguments": {"point": [20.5, 3.05e1]}}', CLICK),
    ("arguments as a text", '{"name": "click", "arguments": "{\\"point\\": [20, 30]}"}', CLICK),
    ("a server's", json.dumps({"tool_calls": [{"id": "1", "type": "function", "function": SERVED}]}), CLICK),
    ("tool use", '{"type": "tool_use", "id": "t", "name": "click", "input": {"coordinate": [20, 30]}}', CLICK),
    ("tags", 'I click.\n<tool_call>\n{"name": "click", "arguments": {"point": [20, 30]}}\n</tool_call>', CLICK),
    ("two tags", '<tool_call>{"name": "wait"}</tool_call>\n<tool_call>{"name": "back"}</tool_call>', (Wait(), Back())),
    ("a fence", 'I click.\n```json\n{"name": "click", "arguments": {"point": {"x": 20, "y": 30}}}\n```', CLICK),
    ("the traces' form", '{"action": "open_app", "name": "Notes"}', (OpenApp("Notes"),)),
    ("a point as UI-TARS writes it", '{"name": "click", "arguments": {"point": "<point>20 30</point>"}}', CLICK),
    ("real newlines", '{"name": "type", "arguments": {"text": "a\nb"}}', (Type("a\nb"),)),
    ("escapes", r'{"name": "type", "arguments": {"text": "\"\\\/\b\f\n\r\t\u4e2d\ud83d\ude00"}}',
     (Type('"\\/\b\f\n\r\t中😀'),)),
    ("an apostrophe", '{"name": "type", "arguments": {"text": "it\'s"}}', (Type("it's"),)),
    ("keys as a text", '{"name": "hotkey", "arguments": {"keys": "ctrl+c"}}', (Hotkey(("ctrl", "c")),)),
    ("a path", '{"name": "drag", "arguments": {"path": [[1, 2], [3, 4], [5, 6]]}}', (Drag(((1, 2), (3, 4), (5, 6))),)),
    ("reasoning", '<think>{"name": "wait"}</think>{"name": "home"}', (Home(),)),
]  # fmt: skip
PIXELS = (1008, 1008)  # a multiple of 28 within the limits: what the model sees is the screenshot


@pytest.mark.parametrize(("reply", "expected"), [row[1:] for row in TOOLS], ids=[row[0] for row in TOOLS])
def test_tool_calls_as_models_and_servers_write_them(reply, expected):
    assert JSON_TOOLS.parse(reply, PIXELS).actions == expected


WRONG_TOOLS = [
    ("", "the reply has no line that begins JSON"),
    ("Action: wait()", "the reply has no line that begins JSON"),
    ("{}", 'expected "name" to be the name of an action'),
    ("[]", "the reply has no action"),
    ("[1]", "line 1, column 2, .*: expected a tool call such as"),
    ('{"thought": "a", "actions": []}', "the reply has no action"),
    ('{"thought": 1, "actions": []}', "expected thought to be a text"),
    ('{"name": "click", "name": "wait"}', "'name' is given twice"),
    ('{"name": "clck"}', "'clck' is no action here; the actions are move, click"),
    ('{"name": "wait", "why": "x"}', "expected no field 'why' beside 'name'"),
    ('{"name": "wait", "arguments": {}, "why": "x"}', "expected no field 'why' beside 'arguments'"),
    ('{"name": "wait", "arguments": []}', "expected the arguments to be a JSON object"),
    ('{"name": "wait", "arguments": "{} {}"}', "expected nothing after the arguments"),
    ('{"name": "wait", "arguments": {}', "column 33, at the end: expected a comma or the closing }"),
    ('{"name": "wait", "arguments": {},', "expected the name of a field in quotes"),
    ('{"name" "wait"}', "expected a colon after 'name'"),
    ('{name: "wait"}', "expected the name of a field in quotes"),
    (r'{"name": "type", "arguments": {"text": "\x41"}}', "column 41, .*: no escape of JSON"),
    (r'{"name": "type", "arguments": {"text": "\ud800"}}', "half of a character"),
    ('{"name": "type", "arguments": {"text": ["a"]}}', "type: expected content to be a text in quotes"),
    ('{"name": "click", "arguments": {"point": [1, NaN]}}', "click: expected the numbers of a point"),
    ('{"name": "click", "arguments": {"point": [1, 2000]}}', "click: y: expected 0 to 1008, got 2000"),
    ('{"name": "click", "arguments": {"point": [0.5, 0.5]}}', "got fractions of the screen"),
    ('{"name": "wait"}\nThat will do.', "line 2, column 1, .*: expected a JSON object or the end of the reply"),
    ('<tool_call>{"name": "wait"}', "expected </tool_call>"),
    ("[" * 100_000, "nested more than 10 deep"),
    ('{"a":' * 100_000, "nested more than 10 deep"),
    ('{"name": "finished"}{"name": "wait"}', "nothing may follow finished or call_user"),
]  # fmt: skip


@pytest.mark.parametrize(("reply", "message"), WRONG_TOOLS, ids=[repr(row[0])[:50] for row in WRONG_TOOLS])
def test_tool_calls_that_are_not_clear_are_refused_with_a_reason(reply, message):
    with pytest.raises(ReplyError, match=message) as caught:
        JSON_TOOLS.parse(reply, PIXELS)
    assert caught.value.reply == reply


@given(TEXTS, TEXTS)
def test_replies_of_tools_are_json(thought, text):
    """By the standard library's reader; and what its writer makes, ours reads, escaped or not."""
    reply = JSON_TOOLS.format(thought, (Type(text),), PIXELS)
    record = json.loads(reply)
    assert record == {"thought": thought.strip(), "actions": [{"name": "type", "arguments": {"text": text}}]}
    assert JSON_TOOLS.parse(json.dumps(record, indent=1), PIXELS) == Reply(thought.strip(), (Type(text),))


@given(TEXTS)
@example("one\r\ntwo\rthree")
def test_python_reads_the_texts_of_calls_as_we_do(text):
    """Its own string literals are the independent reader of ours."""
    reply = UI_TARS_1_5.format("", (Type(text),), SIZE)
    literal = reply.removeprefix("Action: type(content=").removesuffix(")")
    if "\0" not in literal:
        assert ast.literal_eval(literal) == text
    assert UI_TARS_1_5.parse(f"Action: type(content={text!r})", SIZE).actions == (Type(text),)


# An audit hook sees all that Python evaluates, compiles, imports, opens or starts; a hook cannot be taken away again.
EVALUATES = """
import contextlib, sys
from visavis.errors import ReplyError
from visavis.gui.actions import DOUBAO_1_5, GROUNDING, JSON_TOOLS, MOBILE, UI_TARS_1_0, UI_TARS_1_5

seen = []
watched = ("compile", "exec", "import", "open", "os.", "subprocess", "ctypes", "socket", "shutil", "code.")
sys.addaudithook(lambda event, arguments: event.startswith(watched) and seen.append((event, arguments)))
for dialect in (DOUBAO_1_5, GROUNDING, JSON_TOOLS, MOBILE, UI_TARS_1_0, UI_TARS_1_5):
    for reply in sys.argv[1:]:
        with contextlib.suppress(ReplyError):
            dialect.parse(reply, (1000, 1000))
assert not seen, seen
"""


def test_nothing_is_ever_evaluated(tmp_path):
    """The payload that writes a file in another parser, in every place there is."""
    payload = "__import__('pathlib').Path('owned').write_text('x')"
    replies = [
        f"Action: click(point='<point>{payload}</point>')",
        f"Action: click(start_box={payload})",
        f'Action: click(start_box="{payload}")',
        f'Action: type(content="{payload}")',
        f"Thought: '''\n{payload}\n'''\nAction: wait()",
        f'{{"name": "click", "arguments": {{"point": "{payload}"}}}}',
        f'{{"name": "wait", "arguments": {{"seconds": {payload}}}}}',
        f"{payload}",
        "Action: wait()",
        '{"name": "wait"}',
    ]
    command = [sys.executable, "-c", EVALUATES, *replies]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


PLACED = {"point": [672, 189], "button": "left", "count": 1}


@pytest.mark.parametrize(
    ("dialect", "text"),
    [
        (UI_TARS_1_0, "Thought: a\nAction: click(start_box='<|box_start|>(500,250)<|box_end|>')"),
        (UI_TARS_1_5, "Thought: a\nAction: click(point='<point>966 273</point>')"),
        (DOUBAO_1_5, "Thought: a\nAction: click(point='<point>500 250</point>')"),
        (GROUNDING, "Thought: a\nAction: click(point='<point>966 273</point>')"),
        (JSON_TOOLS, json.dumps({"thought": "a", "actions": [{"name": "click", "arguments": PLACED}]})),
    ],
    ids=lambda value: getattr(value, "name", ""),
)  # fmt: skip
def test_each_version_counts_in_its_own_way(dialect, text):
    """Half and a quarter of full HD: of 1000, of 1932 x 1092 (1920 x 1080 in multiples of 28), of 1344 x 756."""
    assert dialect.format("a", (Click((960, 270)),), (1920, 1080)) == text


def test_a_corner_that_would_pass_for_a_fraction_is_written_as_a_box():
    assert DOUBAO_1_5.format("", (Click((1, 1)),), (4000, 4000)) == "Action: click(point='<point>0 0 0.6 0.6</point>')"


def test_several_actions_stand_apart():
    found = (Move((1, 2)), Hotkey(("ctrl", "+")), Navigate("http://a/?b='c'"), CallUser("Which?"))
    assert DOUBAO_1_5.format("x\nAction: y", found, SIZE) == (
        "Thought: x\n\\Action: y\nAction: move(point='<point>1 2</point>')\n\nhotkey(key='ctrl plus')\n\n"
        "navigate(url='http://a/?b=\\'c\\'')\n\ncall_user(content='Which?')"
    )


def test_grounding_is_one_click():
    two = "Action: click(point='<point>1 2</point>')\n\nclick(point='<point>3 4</point>')"
    with pytest.raises(ReplyError, match="line 3, column 1, .*: expected at most 1 action, got 2"):
        GROUNDING.parse(two, SIZE)
    with pytest.raises(ReplyError, match="'type' is no action here; the actions are click$"):
        GROUNDING.parse("Action: type(content='a')", SIZE)


@pytest.mark.parametrize(
    ("thought", "found", "message"),
    [
        ("", (), "actions: expected at least one, got none"),
        ("", (Click((1000, 0)),), "point: expected a pixel of 1000 x 1000"),
        ("", (Finished(), Wait()), "actions: expected none after Finished.*, got Wait"),
        ("\ud800", (Wait(),), "thought: expected characters, got half of one"),
    ],
)
@pytest.mark.parametrize("dialect", [UI_TARS_1_5, JSON_TOOLS], ids=ids)
def test_what_cannot_be_said_is_refused(dialect, thought, found, message):
    with pytest.raises(InputError, match=message):
        dialect.format(thought, found, SIZE)


@pytest.mark.parametrize("dialect", ALL, ids=ids)
def test_the_prompt_has_the_task_and_every_action_it_names_is_one(dialect):
    task = "Write {x} and 'y'\n%s"
    prompt = dialect.prompt(task, (1920, 1080), language="Chinese")
    assert prompt.endswith(f"## User Instruction\n{task}")
    assert dialect is GROUNDING or "Chinese" in prompt
    lines = prompt.split("## Action Space\n")[1].split("\n\n")[0].split("\n")
    if dialect in CALLS:
        numbers = {"x1": "1", "y1": "2", "x2": "3", "y2": "4", "down or up or right or left": "down"}
        for line in lines:
            for name, number in numbers.items():
                line = line.replace(name, number)
            call = line.split(" #")[0]
            [action] = dialect.parse(f"Action: {call}", (1920, 1080)).actions
            assert dialect.format("", (action,), (1920, 1080)).startswith(f"Action: {call.split('(')[0]}(")
    else:
        assert len(lines) == 17

"""The parser of models' replies: beside `ui-tars` of PyPI on what others get wrong, on fuzzed text, and on long text.

    python benchmarks/bench_actions.py [FUZZED]

FUZZED (1,000,000) replies are made by mutating valid ones, and each goes through every dialect; an audit hook counts
what is evaluated, compiled, imported, opened or started meanwhile. Times are CPU time of one thread.
"""

import json
import random
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from harness import quartiles, write_result

from visavis.errors import ReplyError
from visavis.gui.actions import (
    DOUBAO_1_5,
    GROUNDING,
    JSON_TOOLS,
    MOBILE,
    UI_TARS_1_0,
    UI_TARS_1_5,
    Action,
    Click,
    Dialect,
    Drag,
    Finished,
    Hotkey,
    Scroll,
    Type,
    Wait,
    to_json,
)

DIALECTS: list[Dialect] = [UI_TARS_1_0, UI_TARS_1_5, DOUBAO_1_5, MOBILE, GROUNDING, JSON_TOOLS]
SIZE = (1000, 1000)  # one unit of a relative coordinate is one pixel
REFUSED = "refused"
PAYLOAD = "__import__('pathlib').Path('owned').write_text('x')"
WATCHED = ("compile", "exec", "import", "open", "os.", "subprocess.", "socket.", "shutil.", "ctypes.")


@dataclass(frozen=True)
class Case:
    """A reply, and what should come of it."""

    name: str
    reply: str
    expected: tuple[Action, ...]  # none: it is to be refused
    size: tuple[int, int] = SIZE
    entry: str = "first parser"


def click(argument: str, x: int = 200, y: int = 300) -> tuple[str, tuple[Action, ...]]:
    """A reply that clicks, and the click."""
    return f"Thought: Click it.\nAction: click({argument})", (Click((x, y)),)


def scroll(direction: str) -> str:
    """A reply that scrolls."""
    return f"Action: scroll(point='<point>200 300</point>', direction='{direction}')"


CLICK = "Action: click(start_box='(200,300)')"
CASES = [
    # What the facts about `ui-tars` 0.5.1 list.
    Case(
        "the call its documentation shows",
        *click("point='<point>200 300</point>'", 384, 324),
        size=(1920, 1080),
        entry="as documented",
    ),
    Case("code for a coordinate", f'Action: click(point="<point>{PAYLOAD} 1</point>")', (), entry="second parser"),
    Case("three quotes in a thought", f"Thought: '''\n{PAYLOAD}\n'''\nAction: type(content='a')", (Type("a"),)),
    Case("a text that ends in a newline", r"Action: type(content='hello\n')", (Type("hello\n"),)),
    Case("it's, escaped", r"Action: type(content='it\'s')", (Type("it's"),)),
    Case("it's, not escaped", "Action: type(content='it's')", (Type("it's"),)),
    Case("point= in a text", "Action: type(content='set point=5')", (Type("set point=5"),)),
    Case("<|box_start|>", *click("start_box='<|box_start|>(200,300)<|box_end|>'")),
    Case("decimal points", *click("point='<point>200.5 300.25</point>'")),
    Case("<bbox>", *click("start_box='<bbox>190 290 210 310</bbox>'")),
    Case("a list in quotes", *click("start_box='[200, 300]'")),
    Case("a list", *click("start_box=[200, 300]")),
    Case("Action: without a space", "Thought: a\nAction:click(start_box='(200,300)')", (Click((200, 300)),)),
    Case("a full-width colon", "Thought：a\nAction：click(start_box='(200,300)')", (Click((200, 300)),)),
    Case("double quotes", 'Action: type(content="hello")', (Type("hello"),)),
    Case("double quotes and a comma", 'Action: type(content="Hello, world")', (Type("Hello, world"),)),
    Case("a real newline", "Action: type(content='one\ntwo')", (Type("one\ntwo"),)),
    Case("a number for a text", "Action: type(content=123)", (Type("123"),)),
    Case("ctrl+shift+t", "Action: hotkey(key='ctrl+shift+t')", (Hotkey(("ctrl", "shift", "t")),)),
    Case("scroll right", scroll("right"), (Scroll((200, 300), right=5),)),
    Case("scroll left", scroll("left"), (Scroll((200, 300), right=-5),)),
    Case("wait", "Action: wait()", (Wait(),)),
    Case("an action before finished", f"{CLICK}\n\nfinished()", (Click((200, 300)), Finished())),
    # What they list about the parser on npm and the desktop app.
    Case("a comma and an escaped quote", r"Action: type(content='a, \'b\', c')", (Type("a, 'b', c"),)),
    Case("a blank line in a text", "Action: type(content='one\n\ntwo')", (Type("one\n\ntwo"),)),
    Case("Action: in a text", "Action: type(content='Action: wait()')", (Type("Action: wait()"),)),
    Case("text after the action", f"{CLICK}\nNo, better ask first.", ()),
    Case("start_box='='", "Action: click(start_box='=')", ()),
    Case("coordinate 0", *click("point='<point>0 0</point>'", 0, 0)),
    Case("a drag from 0, 0", "Action: drag(start_box='(0,0)', end_box='(200,0)')", (Drag(((0, 0), (200, 0))),)),
    Case("the point of a scroll", scroll("down"), (Scroll((200, 300), down=5),)),
]  # fmt: skip


def theirs() -> list[dict[str, Any]]:
    """What `ui-tars` makes of the cases, in a folder that is thrown away."""
    cases = json.dumps([{**asdict(case), "expected": None} for case in CASES])
    script = Path(__file__).parent / "peers" / "ui_tars_desk.py"
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-W", "ignore", str(script)]
        done = subprocess.run(command, input=cases, cwd=folder, capture_output=True, text=True, check=True, timeout=300)
    results: list[dict[str, Any]] = json.loads(done.stdout)
    return results


def ours(case: Case) -> dict[str, Any]:
    """The same form; there is no file, which the audit of the fuzzing holds for all text."""
    try:
        found = DOUBAO_1_5.parse(case.reply, case.size).actions
    except ReplyError as error:
        return {"events": [], "error": str(error), "files": []}
    return {"events": [to_json(action) for action in found], "error": None, "files": []}


def rows() -> list[dict[str, Any]]:
    """Every case: expected, and what came of it."""
    table = []
    for case, peer in zip(CASES, theirs(), strict=True):
        expected = [to_json(action) for action in case.expected]
        record: dict[str, Any] = {"case": case.name, "reply": case.reply, "expected": expected or REFUSED}
        for name, found in (("ours", ours(case)), ("ui-tars", peer)):
            right = found["events"] == expected and not found["files"] and (found["error"] is None) == bool(expected)
            record[name] = {"right": right, **found}
        table.append(record)
    return table


def seeds() -> list[str]:
    """Valid replies in every dialect, and those of the cases."""
    found = [case.reply for case in CASES]
    texts = ["hello", 'it\'s "quoted"\n', "C:\\temp", "Action: wait()", "中文，😀", "point=<point>1 2</point>"]
    decisions: list[tuple[Action, ...]] = [
        (Click((1, 2)),),
        (Click((500, 999), "right"), Wait()),
        (Drag(((0, 0), (5, 5))),),
        (Drag(((0, 0), (5, 5), (7, 7))),),
        (Scroll((10, 20), down=5), Hotkey(("ctrl", "+"))),
        (Scroll((10, 20), 3, -2),),
        (Wait(0.5), Finished("all done")),
        *((Type(text),) for text in texts),
    ]
    for dialect in (UI_TARS_1_0, DOUBAO_1_5, JSON_TOOLS):
        found += [dialect.format("Click the button.\nThen wait.", decision, SIZE) for decision in decisions]
    found += [
        '<tool_call>\n{"name": "click", "arguments": {"point": [1, 2]}}\n</tool_call>',
        '```json\n{"name": "type", "arguments": "{\\"text\\": \\"a\\"}"}\n```',
        "<think>Action: wait()</think>\nThought: a\nAction: wait() # yes\n[EOS]",
    ]
    return found


PIECES = [
    *"'\"\\\n\t()[]{}<>,:：=#;-.09\0中😀\u202e\ud800",
    *("'''", "1e9", "9" * 400, "\\u", "\\ud800", "null", "click", "type(content='", "point=", "Action: ", "Thought: "),
    *("<point>", "</point>", "<|box_start|>", "<|box_end|>", "<bbox>", "<think>", "```", PAYLOAD),
]  # fmt: skip


def mutated(random_: random.Random, corpus: list[str]) -> str:
    """One to eight changes to a valid reply: pieces put in, taken out, doubled, swapped; two joined; an end cut off."""
    text = random_.choice(corpus)
    for _ in range(random_.choice((1, 1, 1, 2, 3, 8))):
        start = random_.randint(0, len(text))
        end = min(len(text), start + random_.randint(0, 12))
        change = random_.randrange(6)
        if change == 0:
            text = text[:start] + random_.choice(PIECES) + text[start:]
        elif change == 1:
            text = text[:start] + text[end:]
        elif change == 2:
            text = text[:end] + text[start:]
        elif change == 3:
            text = (
                text[:start]
                + chr(random_.choice((random_.randrange(128), random_.randrange(0x11000))))
                + text[start + 1 :]
            )
        elif change == 4:
            other = random_.choice(corpus)
            text = text[:start] + other[random_.randint(0, len(other)) :]
        elif random_.random() < 0.3:
            text = text[:start]
    return text


def fuzz(count: int) -> dict[str, Any]:
    """Every string through every dialect; whatever is read is written and read again."""
    events: list[str] = []
    watching = False

    def watch(event: str, _arguments: tuple[Any, ...]) -> None:
        if watching and event.startswith(WATCHED):
            events.append(event)

    sys.addaudithook(watch)
    random_, corpus = random.Random(0), seeds()
    seconds = {dialect.name: array("d") for dialect in DIALECTS}
    read = dict.fromkeys(seconds, 0)
    crashes: list[str] = []
    changed = characters = 0
    worst: tuple[float, str] = (0.0, "")
    for _ in range(count):
        text = mutated(random_, corpus)
        characters += len(text)
        for dialect in DIALECTS:
            reply = None
            watching = True
            start = time.thread_time()
            try:
                reply = dialect.parse(text, SIZE)
            except ReplyError:
                pass
            except Exception as error:  # what must not happen
                crashes.append(f"{type(error).__name__}: {text!r}")
            spent = time.thread_time() - start
            watching = False
            seconds[dialect.name].append(spent)
            worst = max(worst, (spent, text))
            if reply is not None:
                read[dialect.name] += 1
                again = dialect.parse(dialect.format(reply.thought, reply.actions, SIZE), SIZE)
                changed += again.actions != reply.actions
    everything = np.concatenate([np.frombuffer(times) for times in seconds.values()])
    return {
        "strings": count,
        "parses": len(everything),
        "characters, mean": round(characters / count, 1),
        "crashes": len(crashes),
        "first crashes": crashes[:5],
        "evaluated, imported, opened or started": len(events),
        "read but not as written again": changed,
        "read %": {name: round(100 * many / count, 1) for name, many in read.items()},
        "parses/s": {name: round(count / sum(times)) for name, times in seconds.items()},
        "us, quartiles": quartiles(1e6 * everything, 1),
        "us, p99.9": round(float(np.percentile(everything, 99.9)) * 1e6, 1),
        "ms, worst": round(1e3 * worst[0], 3),
        "characters of the worst": len(worst[1]),
    }


LONG: dict[str, Callable[[int], str]] = {
    "a thought of spaces": lambda n: f"Thought: {' ' * n}a\nAction: wait()",
    "marks": lambda n: "Action:" * (n // 7),
    "marks on lines": lambda n: "Action:\n" * (n // 8),
    "line ends": lambda n: "Thought: a" + "\n" * n + "Action: wait()",
    "quotes": lambda n: "Action: type(content='" + "a'" * (n // 2) + "')",
    "backslashes": lambda n: "Action: type(content='" + "\\" * n + "')",
    "escapes": lambda n: "Action: type(content='" + "\\n" * (n // 2) + "')",
    "a text": lambda n: f"Action: type(content='{'a' * n}')",
    "actions": lambda n: "Action: " + "type(content='a')\n\n" * (n // 19),
    "numbers": lambda n: f"Action: click(point='{'1 ' * (n // 2)}')",
    "digits": lambda n: f"Action: click(point={'1' * n})",
    "brackets": lambda n: "Action: click(point=" + "(" * n,
    "tool calls": lambda n: '{"name": "wait"}' * (n // 16),
    "fields": lambda n: "{" + ",".join(f'"{i:07}":1' for i in range(n // 12)) + "}",
    "unclosed objects": lambda n: '{"a":' * (n // 5),
    "<think>": lambda n: "<think>" * (n // 7),
    "fences": lambda n: "Action: wait()" + "```" * (n // 3),
}
LENGTHS = (100_000, 800_000)


def long() -> dict[str, Any]:
    """CPU ms of a length and of eight times it, the slowest dialect; 8 is linear, 64 would be quadratic."""
    report = {}
    for name, make in LONG.items():
        slowest = [0.0, 0.0]
        for dialect in DIALECTS:
            spent = []
            for length in LENGTHS:
                text, best = make(length), float("inf")
                for _ in range(3):
                    start = time.thread_time()
                    with suppress(ReplyError):
                        dialect.parse(text, SIZE)
                    best = min(best, time.thread_time() - start)
                spent.append(best)
            slowest = max(slowest, spent, key=lambda times: times[1])
        report[name] = {"ms": [round(1e3 * best, 2) for best in slowest], "ratio": round(slowest[1] / slowest[0], 1)}
    return report


PACE = """
import contextlib, io, json, sys, time, warnings
warnings.simplefilter("ignore")
from ui_tars.action_parser import parse_action_to_structure_output
from visavis.gui.actions import DOUBAO_1_5
replies, rounds = json.load(sys.stdin)

def theirs():
    for reply in replies:
        parse_action_to_structure_output(reply, 1000, 1000, 1000, model_type="doubao")

def ours():
    for reply in replies:
        DOUBAO_1_5.parse(reply, (1000, 1000))

times = {"ours": [], "ui-tars": []}
for number in range(rounds + 1):
    for name, run in (("ours", ours), ("ui-tars", theirs)):
        start = time.thread_time()
        run()
        if number:
            times[name].append(len(replies) / (time.thread_time() - start))
spaces = {}
for count in (2000, 4000, 8000):
    start, reply = time.thread_time(), "Thought: " + " " * count + "a\\nAction: wait()"
    with contextlib.redirect_stdout(io.StringIO()):
        parse_action_to_structure_output(reply, 1000, 1000, 1000, model_type="doubao")
    spaces[count] = time.thread_time() - start
json.dump([times, spaces], sys.stdout)
"""


def pace() -> dict[str, Any]:
    """Replies/s of both on replies that both read, in turn within a round; and theirs on a thought of spaces."""
    thought = "The form asks for a name. I type it into the first field, then I press the button below it. " * 3
    decisions: list[tuple[Action, ...]] = [
        (Click((200, 300)),),
        (Drag(((200, 300), (5, 5))),),
        (Scroll((10, 20), down=5),),
        (Type("Ada Lovelace"),),
        (Hotkey(("ctrl", "c")),),
        (Click((1, 2)), Type("one, two")),
    ]
    replies = [DOUBAO_1_5.format(thought, decision, SIZE) for decision in decisions] * 50
    command = [sys.executable, "-W", "ignore", "-c", PACE]
    done = subprocess.run(
        command, input=json.dumps([replies, 21]), capture_output=True, text=True, check=True, timeout=900
    )
    times, spaces = json.loads(done.stdout)
    ratio = [a / b for a, b in zip(times["ours"], times["ui-tars"], strict=True)]
    return {
        "replies/s": {name: quartiles(found, 0) for name, found in times.items()},
        "ratio": quartiles(ratio, 2),
        "ui-tars, ms of a thought of so many spaces": {count: round(1e3 * spent, 1) for count, spent in spaces.items()},
    }


def main() -> None:
    """Measure, and write the result."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    report = {"cases": rows(), "pace": pace(), "long": long(), "lengths": LENGTHS, "fuzz": fuzz(count)}
    write_result("actions", report, packages=("ui-tars",))


if __name__ == "__main__":
    main()

"""What was learnt comes back for tasks like it, on screens like it, and for no others."""

import json
import multiprocessing
import zlib

import numpy as np
import pytest

from tests.gui.memories import HELD_OUT, QUERIES, STORED, UNKNOWN, UNKNOWN_HELD_OUT, screen
from visavis.errors import InputError, TraceError
from visavis.gui import memory as memories
from visavis.gui import trace as traces
from visavis.gui.actions import Click, Drag, Finished, Hotkey, Navigate, OpenApp, Press, Scroll, Type, Wait
from visavis.gui.memory import LEAST_TEXT, LONGEST_STEP, MOST_STEPS, Memory, fingerprint, screen_likeness, text_vector
from visavis.gui.model import Decision
from visavis.gui.screen import Screenshot
from visavis.gui.trace import Attempt, Correction, Ending, Step, TraceWriter

PIXELS = screen("shop")


def step(number, *actions, thought="", changed=True, verdict="performed"):
    decision = Decision("", thought, actions)
    attempts = tuple(Attempt(action, verdict) for action in actions)
    return Step(number, "", decision=decision, attempts=attempts, changed=changed)


def look(name="shop", seed=0):
    return Screenshot(screen(name, seed))


@pytest.fixture
def memory(tmp_path):
    memory = Memory(tmp_path)
    for name, instruction in STORED:
        memory.add(instruction, look(name), (step(1, Click((1, 1)), thought=instruction),))
    return memory


@pytest.mark.parametrize(("queries", "least"), [(QUERIES, len(QUERIES)), (HELD_OUT, len(HELD_OUT) - 1)])
def test_the_right_memory_comes_first(memory, queries, least):
    """All but one of tasks that were written after the thresholds were chosen; the screen shows other contents."""
    firsts = []
    for seed, (index, name, instruction) in enumerate(queries, start=1):
        found = memory.recall(instruction, look(name, seed))
        firsts.append(bool(found) and found[0].instruction == STORED[index][1])
    assert sum(firsts) >= least, [query for query, right in zip(queries, firsts, strict=True) if not right]


@pytest.mark.parametrize(("unknown", "most"), [(UNKNOWN, 0), (UNKNOWN_HELD_OUT, 1)])
def test_for_another_task_nothing_comes(memory, unknown, most):
    wrong = [instruction for name, instruction in unknown if memory.recall(instruction, look(name, 1))]
    assert len(wrong) <= most, wrong


def test_of_two_like_tasks_the_one_of_this_screen_comes_first(tmp_path):
    memory = Memory(tmp_path)
    for name in ("shop", "bank", "mail"):
        memory.add("Log out", look(name), (step(1, Click((1, 1)), thought=f"of the {name}"),))
    for name in ("shop", "bank", "mail"):
        found = memory.recall("Log out please", look(name, 3))
        assert f"of the {name}" in found[0].text
        assert [recalled.score for recalled in found] == sorted((recalled.score for recalled in found), reverse=True)
        assert found[0].screen_likeness > 0.6 > found[1].screen_likeness


def test_the_later_of_equals_comes_first_and_no_text_twice(tmp_path):
    memory = Memory(tmp_path)
    for thought in ("old way", "new way", "new way"):
        memory.add("Log out", look(), (step(1, Click((1, 1)), thought=thought),))
    assert [recalled.text.splitlines()[1] for recalled in memory.recall("Log out", look())] == [
        "1. new way -> click",
        "1. old way -> click",
    ]
    assert len(memory.recall("Log out", look(), most=1)) == 1


def test_likeness_is_a_cosine():
    for _, instruction in STORED:
        vector = text_vector(instruction)
        assert vector @ vector == pytest.approx(1, abs=1e-6)
        assert vector @ text_vector(instruction.upper()) == pytest.approx(1, abs=1e-6)
    assert not text_vector("!? ...").any()
    assert text_vector("Café öffnen") @ text_vector("cafe offnen") == pytest.approx(1, abs=1e-6)
    assert abs(text_vector("red shoes") @ text_vector("把系统语言改成中文")) < LEAST_TEXT / 2


def test_values_count_for_little():
    one, value, word = (
        text_vector(f"Write '{text}' into the {field}")
        for text, field in (("Ada Lovelace", "name"), ("Grace Hopper", "name"), ("Ada Lovelace", "subject"))
    )
    assert one @ value > 0.9 > one @ word


def test_the_same_numbers_everywhere():
    """Hashes are of no process; a memory written today is found tomorrow."""
    assert np.flatnonzero(text_vector("ab")).tolist() == [zlib.crc32(b"word ab") % 4096]


@pytest.mark.parametrize("size", [(300, 400), (16, 16), (7, 5), (1, 1)])
def test_fingerprints_of_any_size(size):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    assert screen_likeness(fingerprint(pixels), fingerprint(pixels)) == 1
    assert screen_likeness(fingerprint(pixels * 0), fingerprint(pixels * 0 + 255)) == 0


def test_a_fingerprint_sees_means_and_roughness():
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[0:2, 0:2] = [[[10, 20, 30], [10, 20, 30]], [[30, 40, 50], [30, 40, 50]]]
    marks = fingerprint(pixels)
    assert marks[0, 0].tolist() == [20, 30, 40, 20]  # twice the standard deviation of 20, 20, 40, 40
    assert not marks[1:].any()


def test_a_screen_of_twice_the_size_is_the_same_screen():
    double = PIXELS.repeat(2, axis=0).repeat(2, axis=1)
    assert (
        screen_likeness(fingerprint(PIXELS), fingerprint(double)) > 0.9
    )  # but for the fields that an edge runs through


# What is told ---------------------------------------------------------------------------------------------------------


def told(steps, **corrections):
    return memories._told("Do it", steps, corrections).splitlines()[1:]


def test_what_had_no_effect_is_not_told():
    steps = (
        step(1, Click((1, 1)), thought="useless", changed=False),
        step(2, Click((1, 1)), thought="forbidden", verdict="refused"),
        step(3, Click((1, 1)), thought="good"),
        Step(4, ""),
    )
    assert told(steps) == ["1. good -> click"]


def test_actions_in_words():
    actions = (
        Click((1, 1), count=2),
        Click((1, 1), "right"),
        Type("ada\n"),
        Scroll((1, 1), down=3),
        Scroll((1, 1), right=-2),
        Hotkey(("ctrl", "c")),
        Press("shift"),
        OpenApp("files"),
        Navigate("https://example.org"),
        Drag(((1, 1), (2, 2))),
        Wait(1.0),
        Finished(),
    )
    text = told((step(1, *actions),))[0]
    assert text == (
        "1. -> double click; right click; type 'ada\\n'; scroll 3 down; scroll -2 right; press ctrl+c; hold shift; "
        "open files; go to https://example.org; drag; wait"
    )


def test_long_runs_and_long_thoughts_are_cut():
    lines = told(tuple(step(number, Click((1, 1)), thought="so " * 999) for number in range(1, 21)))
    assert len(lines) == MOST_STEPS + 1
    assert lines[-1] == "... and 5 more"
    assert all(len(line) <= LONGEST_STEP + 4 for line in lines)


def test_corrected_runs_tell_what_was_wrong(tmp_path):
    folder = tmp_path / "trace"
    with TraceWriter.create(folder, "Open the menu", model="", screen="") as writer:
        picture = writer.screenshot(1, PIXELS)
        writer.step(traces.replace(step(1, Click((1, 1)), thought="that one"), screenshot=picture, size=(400, 300)))
        writer.end(Ending("failed", "steps"))
    memory = Memory(tmp_path / "memory")
    with pytest.raises(InputError, match="^trace: expected a run that is finished or corrected"):
        memory.add_trace(traces.read(folder))
    trace = traces.correct(traces.read(folder), 1, (Hotkey(("alt", "f")),), thought="the menu has a key")
    memory.add_trace(trace)
    (found,) = memory.recall("Open the menu", look())
    assert found.text.endswith("\n1. (not: click) the menu has a key -> press alt+f")
    assert (found.score, found.text_likeness, found.screen_likeness) == pytest.approx((1, 1, 1))
    assert trace.corrections == {1: Correction(1, (Hotkey(("alt", "f")),), "the menu has a key")}


# On disk --------------------------------------------------------------------------------------------------------------


def test_memories_outlive_their_process(memory, tmp_path):
    again = Memory(tmp_path)
    assert len(again) == len(memory) == len(STORED)
    assert again.recall("Turn dark mode on", look("settings")) == memory.recall("Turn dark mode on", look("settings"))


@pytest.mark.usefixtures("memory")
def test_half_a_line_is_no_memory_and_no_hindrance(tmp_path):
    file = tmp_path / "memory.jsonl"
    file.write_bytes(file.read_bytes()[:-7])
    short = Memory(tmp_path)
    assert len(short) == len(STORED) - 1
    short.add("New", look(), (step(1, Click((1, 1))),))
    assert [json.loads(line)["instruction"] for line in file.read_text().splitlines()][-2:] == [STORED[-2][1], "New"]


def remember(folder, number):
    memory = Memory(folder)
    for count in range(10):
        memory.add(f"Task {number} {count}", look(), (step(1, Click((1, 1))),))


def test_several_processes_may_learn_at_once(tmp_path):
    workers = [multiprocessing.get_context("spawn").Process(target=remember, args=(tmp_path, n)) for n in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
        worker.close()
    assert len(Memory(tmp_path)) == 20


@pytest.mark.parametrize("line", ["{", "[]", "{}", '{"instruction": 1, "text": "", "fingerprint": "00"}'])
def test_damage_is_named(tmp_path, line):
    (tmp_path / "memory.jsonl").write_text(line + "\n")
    with pytest.raises(TraceError, match="memory.jsonl:1: expected a memory, got "):
        Memory(tmp_path)


def test_a_folder_that_is_none(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(TraceError, match="file: expected a folder for memories, got "):
        Memory(tmp_path / "file")

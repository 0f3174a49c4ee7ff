"""A trace gives back what was written, to the last bit, whatever the texts hold and wherever the writing was cut."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.gui.disk import full_disk
from visavis.errors import TraceError
from visavis.gui import _files
from visavis.gui import trace as traces
from visavis.gui.actions import Click, Drag, Finished, Hotkey, Press, Scroll, Type, Wait
from visavis.gui.model import Decision
from visavis.gui.trace import Attempt, Correction, Ending, Step, TraceWriter

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)
TEXTS = st.text(st.characters(codec=None), max_size=12)  # halves of surrogate pairs and control characters too
ACTIONS = st.one_of(
    st.builds(Click, st.tuples(st.integers(0, 59), st.integers(0, 39)), st.sampled_from(["left", "right"])),
    st.builds(Type, TEXTS),
    st.builds(Finished, TEXTS),
    st.sampled_from(
        [Drag(((1, 2), (3, 4), (5, 6))), Scroll((0, 0), down=-3), Hotkey(("ctrl", "c")), Press("shift"), Wait(2.5)]
    ),
)
DECISIONS = st.builds(
    Decision, TEXTS, TEXTS, st.lists(ACTIONS, min_size=1, max_size=3).map(tuple), st.integers(0), st.integers(0)
)
STEPS = st.builds(
    Step,
    number=st.just(0),
    at=st.just("2026-01-01T00:00:00.000+00:00"),
    size=st.tuples(st.integers(0), st.integers(0)),
    scale=st.floats(0.5, 4),
    url=st.none() | TEXTS,
    notice=TEXTS,
    decision=st.none() | DECISIONS,
    mistakes=st.lists(st.tuples(TEXTS, TEXTS), max_size=2).map(tuple),
    attempts=st.lists(
        st.builds(
            Attempt,
            ACTIONS,
            st.sampled_from(["performed", "dry", "refused", "failed", "unknown"]),
            TEXTS,
            st.floats(0, 9),
        ),
        max_size=2,
    ).map(tuple),
    changed=st.none() | st.booleans(),
    remarks=st.lists(TEXTS, max_size=2).map(tuple),
    plan=st.lists(st.tuples(TEXTS, st.booleans()), max_size=2).map(tuple),
    memories=st.lists(TEXTS, max_size=2).map(tuple),
    seconds=st.dictionaries(st.sampled_from(["look", "think", "act"]), st.floats(0, 9)),
)


def numbered(steps):
    return [traces.replace(step, number=number) for number, step in enumerate(steps, start=1)]


def create(folder, **options):
    return TraceWriter.create(folder, "do it", model="m", screen="s", **options)


def written(folder, count=3):
    """A trace of some steps, each with its screenshot."""
    with create(folder, settings={"images": 2}) as writer:
        for number in range(1, count + 1):
            name = writer.screenshot(number, PIXELS + np.uint8(number))
            decision = Decision(f"text {number}", "", (Click((number, 0)),))
            writer.step(Step(number, traces.now(), name, (60, 40), decision=decision, remarks=(f"remark {number}",)))
        writer.end(Ending("finished", answer="42"))
    return folder


@given(steps=st.lists(STEPS, max_size=3).map(numbered), text=TEXTS)
def test_what_was_written_is_read(tmp_path_factory, steps, text):
    folder = tmp_path_factory.mktemp("trace")
    ending = Ending("failed", "model", text, text)
    with TraceWriter.create(folder, text, told=text + "!", model=text, screen=text, settings={"n": 5}) as writer:
        for step in steps:
            writer.step(step)
        assert traces.read(folder).ending is None
        writer.end(ending)
    trace = traces.read(folder)
    assert list(trace.steps) == steps
    assert (trace.instruction, trace.told, trace.model, trace.screen) == (text, text + "!", text, text)
    assert (trace.settings, trace.ending) == ({"n": 5}, ending)
    assert trace.started_at <= trace.ended_at


def test_screenshots_are_exact(tmp_path):
    trace = traces.read(written(tmp_path))
    for step in trace.steps:
        np.testing.assert_array_equal(trace.screenshot(step).pixels, PIXELS + np.uint8(step.number))


def test_the_context_of_a_step_is_what_its_model_saw(tmp_path):
    trace = traces.read(written(tmp_path))
    context = trace.context(trace.steps[2])
    assert [turn.remarks for turn in context.turns] == [("remark 1",), ("remark 2",)]
    assert context.turns[0].screenshot is None  # two images in all, this step's among them
    np.testing.assert_array_equal(context.turns[1].screenshot.pixels, PIXELS + np.uint8(2))
    np.testing.assert_array_equal(context.screenshot.pixels, PIXELS + np.uint8(3))
    assert context.instruction == "do it"


def test_notices_stand_with_the_step_before_them(tmp_path):
    def step(number, notice="", decided=True):
        decision = Decision("", str(number), (Wait(),)) if decided else None
        return Step(number, "", notice=notice, decision=decision, remarks=(f"remark {number}",))

    with create(tmp_path) as writer:
        for each in (step(1), step(2, "a"), step(3, "b", decided=False), step(4, "c"), step(5)):
            writer.step(each)
    told = [[turn.remarks for turn in traces.read(tmp_path).turns(before=before)] for before in range(1, 7)]
    one, two, four = ("remark 1", "a"), ("remark 2", "b"), ("remark 4",)
    assert told == [
        [],
        [one],
        [one, two],
        [one, (*two, "c")],
        [one, (*two, "c"), four],
        [one, (*two, "c"), four, ("remark 5",)],
    ]


def test_cut_anywhere_it_loses_the_last_step_at_most(tmp_path):
    whole = written(tmp_path / "whole")
    lines = (whole / "steps.jsonl").read_bytes()
    steps = traces.read(whole).steps
    for length in range(len(lines) + 1):
        (whole / "steps.jsonl").write_bytes(lines[:length])
        assert traces.read(whole).steps == steps[: lines[:length].count(b"\n")]


def test_a_run_goes_on_after_a_cut(tmp_path):
    folder = written(tmp_path)
    lines = (folder / "steps.jsonl").read_bytes()
    (folder / "steps.jsonl").write_bytes(lines[:-5])
    with TraceWriter.append(traces.read(folder)) as writer:
        assert traces.read(folder).ending is None
        writer.step(Step(3, traces.now()))
        writer.end(Ending("stopped", "user"))
    trace = traces.read(folder)
    assert [step.number for step in trace.steps] == [1, 2, 3]
    assert trace.steps[2].decision is None
    assert trace.ending == Ending("stopped", "user")
    assert len(json.loads((folder / "run.json").read_text())["resumed_at"]) == 1


def test_secrets_are_hidden_in_every_text(tmp_path):
    def hide(text):
        return text.replace("hunter2", "***")

    decision = Decision("type hunter2", "hunter2", (Type("hunter2"),))
    with TraceWriter.create(tmp_path, "hunter2", model="hunter2", screen="hunter2", hide=hide) as writer:
        attempt = Attempt(Type("hunter2"), "failed", "cannot type hunter2")
        writer.step(
            Step(
                1,
                "",
                url="http://x/?hunter2",
                decision=decision,
                mistakes=(("hunter2", "hunter2"),),
                attempts=(attempt,),
                remarks=("hunter2",),
                plan=(("hunter2", False),),
                memories=("hunter2",),
            )
        )
        writer.end(Ending("failed", "screen", "hunter2", "hunter2"))
    traces.read(tmp_path)
    for path in tmp_path.rglob("*.json*"):
        assert b"hunter2" not in path.read_bytes()
        assert b"***" in path.read_bytes()


def test_corrections_stand_beside_the_run(tmp_path):
    trace = traces.read(written(tmp_path))
    traces.correct(trace, 2, (Click((9, 9)),))
    corrected = traces.correct(trace, 2, (Click((5, 5)), Wait(1.0)), thought="the other one")
    assert corrected.corrections == {2: Correction(2, (Click((5, 5)), Wait(1.0)), "the other one")}
    assert traces.read(tmp_path) == corrected
    with pytest.raises(TraceError, match="^number: expected a step from 1 to 3, got 4"):
        traces.correct(trace, 4, (Wait(),))


@pytest.mark.parametrize("at", range(1, 9))
def test_a_full_disk_is_an_error_of_ours_and_the_trace_stays_readable(tmp_path, monkeypatch, at):
    """The `at`-th write of anything finds the disk full after half of its bytes; there are eight in all."""
    full_disk(monkeypatch, at)
    with pytest.raises(TraceError, match="that can be written, got .*No space left.*; free some space"):
        written(tmp_path)
    assert not list(tmp_path.rglob("*.part"))
    if at == 1:
        with pytest.raises(TraceError, match="expected the folder of a trace"):
            traces.read(tmp_path)
    else:
        trace = traces.read(tmp_path)
        assert len(trace.steps) == (at - 2) // 2
        assert trace.ending is None


def test_a_disk_that_is_really_full():
    full = Path("/dev/full")
    with pytest.raises(TraceError, match="No space left"), traces._errors(full), full.open("ab", buffering=0) as stream:
        _files.put(stream, b"x")


def test_new_folders_are_numbered(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "0007").mkdir()
    assert [traces.new_folder(tmp_path).name for _ in range(3)] == ["0008", "0009", "0010"]
    assert traces.new_folder(tmp_path / "a" / "b").name == "0001"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("run.json", None, "expected the folder of a trace, got .*No such file"),
        ("run.json", "{", "run.json: expected JSON, got "),
        ("run.json", "[]", "run.json: expected an object, got list"),
        ("run.json", "{}", "run.json: expected a trace of format 1, got None"),
        ("run.json", '{"format": 1}', "run.json: expected a run, got none with 'instruction'"),
        ("steps.jsonl", "{}\n", "steps.jsonl:1: expected a line of a trace, got none with 'decision'"),
        ("steps.jsonl", "[" * 100_000 + "\n", "steps.jsonl:1: expected a line of a trace"),
        ("steps.jsonl", "1\n", "steps.jsonl:1: expected a line of a trace"),
        ("corrections.jsonl", "{}\n", "corrections.jsonl:1: expected a line of a trace"),
    ],
)
def test_damage_is_named(tmp_path, name, text, message):
    written(tmp_path)
    if text is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_text(text)
    with pytest.raises(TraceError, match=message):
        traces.read(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"number": 2}, "steps.jsonl:1: expected step 1, got 2"),
        ({"screenshot": "../../etc/passwd"}, "the screenshot '../../etc/passwd'"),
        ({"attempts": [{"action": {}, "verdict": "done", "note": "", "seconds": 0}]}, "the verdict 'done'"),
        ({"remarks": [1]}, "1 where a text should be"),
    ],
)
def test_a_line_that_no_writer_wrote_is_refused(tmp_path, change, message):
    written(tmp_path, 1)
    line = json.loads((tmp_path / "steps.jsonl").read_text())
    (tmp_path / "steps.jsonl").write_text(json.dumps(line | change) + "\n")
    with pytest.raises(TraceError, match=message):
        traces.read(tmp_path)


def test_an_outcome_that_there_is_not_is_refused(tmp_path):
    run = json.loads((written(tmp_path) / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(run | {"outcome": "won"}))
    with pytest.raises(TraceError, match="run.json: expected a run, got the outcome 'won'"):
        traces.read(tmp_path)


def test_a_picture_that_is_none_is_refused(tmp_path):
    trace = traces.read(written(tmp_path))
    (tmp_path / "screenshots" / "000001.png").write_bytes(b"GIF89a")
    with pytest.raises(TraceError, match="000001.png: expected the PNG of step 1"):
        trace.screenshot(trace.steps[0])
    with pytest.raises(TraceError, match="expected a screenshot in step 9, got none"):
        trace.screenshot(Step(9, ""))


def test_a_folder_takes_one_run(tmp_path):
    written(tmp_path)
    with pytest.raises(TraceError, match="expected a folder without a trace"):
        create(tmp_path)

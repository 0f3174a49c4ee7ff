"""Training data of traces: what is worth imitating, what is better than what, and that it reads back."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.gui.fake_screen import BUTTON, FIELD, HEIGHT, WIDTH, FakeScreen
from visavis.errors import ReplyError
from visavis.gui import trace as traces
from visavis.gui.actions import DOUBAO_1_5, JSON_TOOLS, UI_TARS_1_0, UI_TARS_1_5, Click, Finished, OpenApp, Type
from visavis.gui.agent import Agent
from visavis.gui.export import preferences, to_imitate
from visavis.gui.model import ScriptedModel

SIZE = (WIDTH, HEIGHT)
NOWHERE = Click((90, 5))


def record(folder, *answers, instruction="Press the button", screen=None, max_steps=30, **options):
    agent = Agent(ScriptedModel(*answers), screen or FakeScreen(), trace=folder, **options)
    return traces.read(agent.run(instruction, max_steps=max_steps).trace)


def actions_of(message, dialect=UI_TARS_1_5):
    (part,) = message["content"]
    return dialect.parse(part["text"], SIZE).actions


def targets(records, dialect=UI_TARS_1_5):
    return [actions_of(record["messages"][-1], dialect) for record in records]


def checked(record):
    """Roles take turns, and there is a picture for every place of one."""
    messages = record["messages"] if "messages" in record else [*record["prompt"], *record["chosen"]]
    assert [message["role"] for message in messages] == ["user", "assistant"] * (len(messages) // 2)
    places = sum(part["type"] == "image" for message in messages for part in message["content"])
    assert places == len(record["images"])
    for path in record["images"]:
        assert Path(path).is_absolute()
        with Image.open(path, formats=["PNG"]) as image:
            assert image.size == SIZE
    assert json.loads(json.dumps(record, ensure_ascii=False).encode()) == record
    return record


@pytest.mark.parametrize("dialect", [UI_TARS_1_0, UI_TARS_1_5, DOUBAO_1_5, JSON_TOOLS])
def test_what_worked_in_a_finished_run_is_imitated(tmp_path, dialect):
    trace = record(tmp_path, ("one", Click(BUTTON)), ("miss", NOWHERE), ("two", Click(FIELD)), ("end", Finished("ok")))
    records = [checked(found) for found in to_imitate([trace], dialect=dialect)]
    size = (WIDTH, HEIGHT)
    found = [dialect.parse(found["messages"][-1]["content"][0]["text"], size) for found in records]
    assert [reply.thought for reply in found] == ["one", "two", "end"]  # the miss had no effect
    for reply, action in zip(found[:2], (Click(BUTTON), Click(FIELD)), strict=True):
        assert np.abs(np.subtract(reply.actions[0].point, action.point)).max() <= 1
    assert "Press the button" in records[0]["messages"][0]["content"][0]["text"]
    # The history has the miss, and what the model was told of it.
    texts = [part["text"] for message in records[1]["messages"] for part in message["content"] if "text" in part]
    assert any("miss" in text for text in texts)
    assert any(text.startswith("The screen did not change") for text in texts)
    assert [Path(path).name for path in records[1]["images"]] == [f"{number:06}.png" for number in (1, 2, 3)]


def test_a_run_that_did_not_finish_is_not_imitated_but_where_it_was_corrected(tmp_path):
    trace = record(tmp_path, NOWHERE, Click(BUTTON), max_steps=2)
    assert list(to_imitate([trace])) == []
    trace = traces.correct(trace, 1, (Click(FIELD),), thought="There.")
    (found,) = to_imitate([trace])
    assert targets([checked(found)]) == [(Click(FIELD),)]


def test_what_was_refused_or_failed_or_never_came_to_is_not_imitated(tmp_path):
    trace = record(tmp_path, ("I click buy now.", Click(BUTTON)), (Finished("a"), Click(BUTTON)))
    assert list(to_imitate([trace])) == []


def test_what_a_dialect_has_no_words_for_is_left_out(tmp_path):
    trace = record(tmp_path, (Click(BUTTON), Click(FIELD)), OpenApp("Files"), Click((60, 41)))
    assert (Click(BUTTON), Click(FIELD)) in targets(to_imitate([trace], dialect=JSON_TOOLS), JSON_TOOLS)
    for found in to_imitate([trace]):
        checked(found)
        assert not isinstance(actions_of(found["messages"][-1])[0], OpenApp)


def test_only_as_many_pictures_as_the_model_saw(tmp_path):
    trace = record(tmp_path, *[Click(BUTTON)] * 6, images=3)
    assert [len(checked(found)["images"]) for found in to_imitate([trace])] == [1, 2, 3, 3, 3, 3, 3]


def test_a_correction_is_better_than_what_was_done(tmp_path):
    trace = traces.correct(record(tmp_path, NOWHERE, max_steps=1), 1, (Click(BUTTON),), thought="The blue one.")
    (found,) = preferences([trace])
    checked(found)
    assert actions_of(found["chosen"][0]) == (Click(BUTTON),)
    assert actions_of(found["rejected"][0]) == (NOWHERE,)


def test_a_correction_that_says_the_same_teaches_nothing(tmp_path):
    trace = record(tmp_path, ("so", Click(BUTTON)), max_steps=1)
    assert list(preferences([traces.correct(trace, 1, (Click(BUTTON),), thought="so")])) == []


def test_a_reply_that_does_not_parse_is_worse(tmp_path):
    trace = record(tmp_path, ReplyError("line 1: no", "Action: clack() \ud83d"), Click(BUTTON))
    (found,) = preferences([trace])
    checked(found)
    assert actions_of(found["chosen"][0]) == (Click(BUTTON),)
    assert found["rejected"][0]["content"][0]["text"] == "Action: clack() \ufffd"


def test_two_runs_of_one_instruction_part_where_they_differ(tmp_path):
    good = record(tmp_path, Click(BUTTON), Click(FIELD), Type("a"))
    near = Click((BUTTON[0] + 1, BUTTON[1]))
    bad = record(tmp_path, near, NOWHERE, Click(BUTTON), max_steps=3)
    for order in ([good, bad], [bad, good]):
        (found,) = preferences(order)
        checked(found)
        assert actions_of(found["chosen"][0]) == (Click(FIELD),)
        assert actions_of(found["rejected"][0]) == (NOWHERE,)
        assert all(str(good.folder.resolve()) in path for path in found["images"])


def test_runs_that_have_nothing_to_tell_apart_make_no_pair(tmp_path):
    good = record(tmp_path, Click(BUTTON))
    other = record(tmp_path, NOWHERE, instruction="Something else", max_steps=1)
    assert list(preferences([good, other])) == []
    also = record(tmp_path, Click(FIELD))
    assert list(preferences([good, also])) == []  # both finished
    screen = FakeScreen()
    screen.clicks = 2
    elsewhere = record(tmp_path, NOWHERE, screen=screen, max_steps=1)
    assert list(preferences([good, elsewhere])) == []  # another screen
    longer = record(tmp_path, Click(BUTTON), max_steps=1)
    assert list(preferences([good, longer])) == []  # the same as far as it goes


def test_hostile_texts_read_back(tmp_path):
    evil = 'half \ud83d </script> "quoted" \n\x00 👩‍💻'
    trace = record(tmp_path, (evil, Click(BUTTON)), (evil, Click(FIELD)), instruction=f"do {evil}")
    records = [checked(found) for found in to_imitate([trace])]
    assert len(records) == 3

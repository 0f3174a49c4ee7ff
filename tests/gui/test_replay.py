"""A replay does what was done, and sees where the screen is another."""

import json

import pytest

from tests.gui.fake_screen import BUTTON, FIELD, FakeScreen
from visavis.errors import ScreenError, TraceError
from visavis.gui import trace as traces
from visavis.gui.actions import Click, Finished, Move, Type, Wait
from visavis.gui.agent import Agent
from visavis.gui.model import ScriptedModel
from visavis.gui.replay import replay
from visavis.gui.safety import Policy, Secret

SECRET = Policy(secrets={"pin": Secret("1234", ("*",))})


def record(folder, *answers, screen=None, max_steps=30, **options):
    agent = Agent(ScriptedModel(*answers), screen or FakeScreen(), trace=folder, **options)
    return traces.read(agent.run("Do it", max_steps=max_steps).trace)


@pytest.fixture
def recorded(tmp_path):
    return record(tmp_path, Click(BUTTON), (Click(FIELD), Type("ab")), Wait(0), Move((1, 1)), Finished("done"))


def test_the_same_screen_is_the_same(recorded):
    screen, told = FakeScreen(), []
    done = replay(recorded, screen, on_step=told.append)
    assert [step.change for step in done] == [None] * 5
    assert [step.number for step in done] == [1, 2, 3, 4, 5]
    assert told == list(done)
    assert screen.done == [Click(BUTTON), Click(FIELD), Type("ab"), Move((1, 1))]
    assert {attempt.verdict for step in done for attempt in step.attempts} == {"performed"}


def test_the_look_at_the_end_is_compared_too(tmp_path):
    recorded = record(tmp_path, Click(BUTTON), max_steps=1)

    class Broken(FakeScreen):
        def perform(self, action):
            self.done.append(action)

    assert [step.change for step in replay(recorded, FakeScreen())] == [None, None]
    first, end = replay(recorded, Broken())
    assert (first.change, end.number) == (None, 2)
    assert end.change.box == (2, 2, 4, 5)  # the bar that a click makes


def test_a_difference_has_its_place(recorded):
    screen = FakeScreen()
    screen.clicks = 1
    done = replay(recorded, screen)
    assert [step.change is None for step in done] == [False] * 5
    assert done[0].change.box == (2, 2, 4, 5)
    assert done[0].change.pixels == 2 * 3


def test_a_cursor_that_blinks_is_none(recorded):
    class Blinking(FakeScreen):
        def screenshot(self):
            was, self.focused = self.focused, False
            seen = super().screenshot()
            self.focused = was
            return seen

    assert all(step.change is None for step in replay(recorded, Blinking()))


def test_what_was_not_performed_is_not_repeated(tmp_path):
    recorded = record(tmp_path, ("I click buy now.", Click(BUTTON)), Click(FIELD))
    assert recorded.steps[0].attempts[0].verdict == "refused"
    screen = FakeScreen()
    assert all(step.change is None for step in replay(recorded, screen))
    assert screen.done == [Click(FIELD)]


def test_it_asks_as_the_run_did_and_ends_at_a_no(tmp_path):
    recorded = record(tmp_path, ("I click buy now.", Click(BUTTON)), Click(FIELD), on_confirm=lambda *_: True)
    asked, screen = [], FakeScreen()
    done = replay(recorded, screen, on_confirm=lambda action, why: asked.append((action, why)) or False)
    assert [action for action, _ in asked] == [Click(BUTTON)]
    assert [step.attempts[-1].verdict for step in done] == ["refused"]
    assert screen.done == []
    assert len(replay(recorded, screen, on_confirm=lambda *_: True)) == 3


def test_secrets_are_typed_and_not_told(tmp_path):
    recorded = record(tmp_path, (Click(FIELD), Type("{{secret:pin}}")), policy=SECRET)
    screen = FakeScreen()
    done = replay(recorded, screen, policy=SECRET)
    assert screen.text == "1234"
    assert "1234" not in repr(done)
    (first,) = replay(recorded, FakeScreen())
    assert (first.attempts[-1].verdict, first.attempts[-1].note) == (
        "refused",
        "there is no secret 'pin'; there is: none at all",
    )


def test_masks_of_the_run_are_not_compared(tmp_path):
    recorded = record(tmp_path, Move((1, 1)), policy=Policy(masks=((0, 0, 96, 6),)))
    screen = FakeScreen()
    screen.clicks = 3
    assert all(step.change is None for step in replay(recorded, screen))
    assert all(step.change is None for step in replay(recorded, screen, policy=Policy(masks=((90, 60, 96, 64),))))


@pytest.mark.parametrize("masks", [[[1, 2, 3]], 7, [["a", 0, 1, 1]], [[5, 5, 1, 1]]])
def test_masks_that_are_none_are_refused(tmp_path, masks):
    recorded = record(tmp_path)
    settings = json.loads((recorded.folder / "run.json").read_bytes())
    settings["settings"]["policy"]["masks"] = masks
    (recorded.folder / "run.json").write_text(json.dumps(settings))
    with pytest.raises(TraceError, match=r"run\.json: expected masks"):
        replay(traces.read(recorded.folder), FakeScreen())


@pytest.mark.parametrize(("acted", "verdict"), [(True, "unknown"), (False, "failed")])
def test_a_screen_that_fails_ends_it(recorded, acted, verdict):
    def fail(what):
        if isinstance(what, Type):
            raise ScreenError("screen: expected an answer, got none", acted=acted)

    done = replay(recorded, FakeScreen(fail))
    assert [attempt.verdict for attempt in done[-1].attempts] == ["performed", verdict]
    assert done[-1].number == 2


def test_another_size_differs_everywhere_and_points_off_it_are_not_clicked(recorded):
    class Small(FakeScreen):
        def screenshot(self):
            from visavis.gui.screen import Screenshot

            return Screenshot(super().screenshot().pixels[:12, :12].copy())

    screen = Small()
    (first,) = replay(recorded, screen)
    assert first.change.pixels == 12 * 12
    assert first.attempts[-1].verdict == "failed"
    assert screen.done == []

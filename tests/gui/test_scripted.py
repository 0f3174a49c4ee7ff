import pytest

from tests.gui.test_remote import screenshot
from visavis.errors import EndpointError, ReplyError
from visavis.gui.actions import Click, Finished, Type, Wait
from visavis.gui.model import Context, Decision, ScriptedModel

FIRST, SECOND = Context("one", screenshot()), Context("two", screenshot(1))
CLICK = Click((1, 2))


def test_lines_are_said_in_order_and_then_the_last_for_ever():
    model = ScriptedModel(CLICK, ("I type.", Type("ada"), Type("lovelace")), then=Wait())
    found = [model.decide(context) for context in (FIRST, SECOND, FIRST, FIRST)]
    assert [decision.actions for decision in found] == [(CLICK,), (Type("ada"), Type("lovelace")), (Wait(),), (Wait(),)]
    assert [decision.thought for decision in found] == ["", "I type.", "", ""]
    assert model.asked == [FIRST, SECOND, FIRST, FIRST]
    assert model.name == "scripted"


def test_without_lines_it_is_done():
    assert ScriptedModel().decide(FIRST).actions == (Finished("done"),)


def test_a_decision_is_taken_as_it_is():
    decision = Decision("text", "thought", (), 3, 4)
    assert ScriptedModel(decision, tokens=(100, 10)).decide(FIRST) is decision


def test_tokens_are_those_of_each_decision():
    model = ScriptedModel(CLICK, lambda context: CLICK, tokens=(100, 10))  # noqa: ARG005
    for _ in range(3):
        decision = model.decide(FIRST)
        assert (decision.prompt_tokens, decision.completion_tokens) == (100, 10)


def test_errors_are_raised_and_then_it_goes_on():
    model = ScriptedModel(EndpointError("gone", retry=True), ReplyError("no", "reply"), KeyboardInterrupt(), CLICK)
    for kind in (EndpointError, ReplyError, KeyboardInterrupt):
        with pytest.raises(kind):
            model.decide(FIRST)
    assert model.decide(FIRST).actions == (CLICK,)
    assert len(model.asked) == 4


def test_functions_see_the_context_and_say_a_line_of_any_kind():
    """Or another function."""
    model = ScriptedModel(
        lambda context: (context.instruction, CLICK),
        lambda first: lambda second: Type(f"{first is second}"),
        lambda context: EndpointError(context.instruction, retry=False),
        then=lambda context: Type(context.instruction),
    )
    assert model.decide(FIRST).thought == "one"
    assert model.decide(FIRST).actions == (Type("True"),)
    with pytest.raises(EndpointError, match="^two$"):
        model.decide(SECOND)
    assert model.decide(SECOND).actions == (Type("two"),)


def test_the_text_of_a_decision_tells_decisions_apart():
    one, other = (ScriptedModel(("I click.", Click((1, y)))).decide(FIRST).text for y in (2, 3))
    assert one != other
    assert "I click." in one

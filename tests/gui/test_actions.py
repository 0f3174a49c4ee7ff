import dataclasses
import json
import math
from typing import get_args

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.gui.any_action import SIZES, TEXTS, actions
from visavis.errors import InputError
from visavis.gui.actions import (
    Action,
    CallUser,
    Click,
    Drag,
    Finished,
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
    check,
    from_json,
    schema,
    to_json,
)
from visavis.gui.actions.serialize import ACTIONS

SIZE = (200, 100)
AT = (10, 20)
VALIDATOR = jsonschema.Draft202012Validator(schema())


@given(st.data(), SIZES)
def test_every_action_is_one_and_survives_json(data, size):
    action = data.draw(actions(size))
    check(action, size)
    record = to_json(action)
    VALIDATOR.validate(record)
    assert from_json(json.loads(json.dumps(record))) == action


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (Click((200, 20)), r"point: expected a pixel of 200 x 100, got \(200, 20\)"),
        (Click((199, 100)), "point: expected a pixel of 200 x 100"),
        (Move((-1, 20)), r"point: expected \(x, y\) in whole pixels from 0, got \(-1, 20\)"),
        (Move((1.5, 20)), "point: expected .* whole pixels"),
        (LongPress((True, 20)), "point: expected .* whole pixels"),
        (Click((1, 2, 3)), "point: expected .* whole pixels"),
        (Click([1, 2]), "point: expected .* whole pixels"),
        (Click(AT, "Left"), "button: expected left, right or middle, got 'Left'"),
        (Click(AT, count=0), "count: expected a whole number from 1 to 3, got 0"),
        (Click(AT, count=4), "count: expected a whole number from 1 to 3, got 4"),
        (Click(AT, count=True), "count: expected a whole number"),
        (Drag((AT,)), "path: expected a tuple of at least 2 points"),
        (Drag([AT, AT]), "path: expected a tuple of at least 2 points"),
        (Drag((AT, (0, 100))), r"path\[1\]: expected a pixel of 200 x 100"),
        (Scroll(AT), "down, right: expected notches to scroll by, got 0 and 0"),
        (Scroll(AT, down=1001), "down: expected a whole number from -1000 to 1000"),
        (Scroll(AT, right=0.5), "right: expected a whole number"),
        (Hotkey(()), "keys: expected a tuple of at least 1 key"),
        (Hotkey(("ctrl", "C")), r"keys\[1\]: expected the canonical name of a key, c, got 'C'"),
        (Hotkey(("ctrl", "nonsense")), "key: expected a character or a name such as enter"),
        (Hotkey(("down", "down")), "keys: expected each key once, got down down; repeat the action instead"),
        (Press("Control"), "key: expected the canonical name of a key, ctrl, got 'Control'"),
        (Release(3), "key: expected the canonical name of a key, a string, got 3"),
        (Wait(-1), "seconds: expected 0 to 3600, got -1"),
        (Wait(3600.1), "seconds: expected 0 to 3600"),
        (Wait(math.nan), "seconds: expected 0 to 3600, got nan"),
        (Wait(True), "seconds: expected 0 to 3600"),
        (Type("\ud83d"), r"text: expected characters, got half of one at 0 \(a lone surrogate\)"),
        (Type(None), "text: expected a text, got None"),
        (OpenApp(""), "name: expected some text, got ''"),
        (Navigate(""), "url: expected some text"),
        (Finished(1), "content: expected a text, got 1"),
        (CallUser(b""), "question: expected a text"),
        ("click", "action: expected one of the action space, got 'click'"),
    ],
    ids=lambda value: None if isinstance(value, str) else repr(value)[:40],
)
def test_what_no_screen_could_perform_is_refused(action, message):
    with pytest.raises(InputError, match=message):
        check(action, SIZE)


def test_corners_are_on_the_screen():
    check(Drag(((0, 0), (199, 99))), SIZE)
    check(Click((10**6, 10**6)))  # of a screen of any size


def test_every_action_of_the_space_has_json():
    assert set(ACTIONS.values()) == set(get_args(Action))


# Values near those that are right, so that most of what is drawn is nearly an action.
VALUES = st.sampled_from(
    [None, True, -1, 0, 1, 3, 4, 2.5, 1001, "", "left", "ctrl", "x" * 5, [1, 2], [1, -2], [], [[1, 2], [3, 4]], {}]
)
FIELDS = sorted({field.name for kind in ACTIONS.values() for field in dataclasses.fields(kind)})


@given(actions(SIZE), st.booleans(), st.dictionaries(st.sampled_from([*FIELDS, "other"]), VALUES, max_size=3))
def test_the_schema_and_from_json_agree(start, bare, changes):
    record = to_json(start)
    record = ({"action": record["action"]} if bare else record) | changes
    try:
        action = from_json(record)
    except InputError as error:
        only_ours = "notches to scroll by" in str(error) or "key: expected a character" in str(error)
        assert only_ours or not VALIDATOR.is_valid(record)
    else:
        assert VALIDATOR.is_valid(record)
        assert {**to_json(action), **record} == to_json(action)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ([], "action: expected an object with the name of an action"),
        ({}, "action: expected an object with the name of an action"),
        ({"action": "Click"}, "action: expected one of move, click, .*, got 'Click'"),
        ({"action": "click"}, "click: expected the field point, got none"),
        ({"action": "click", "point": [1, 2], "x": 1}, "click: expected the fields point, button, count, got 'x'"),
        ({"action": "back", "x": 1}, r"back: expected the fields \(none\), got 'x'"),
    ],
)
def test_json_that_is_no_action_is_refused(record, message):
    with pytest.raises(InputError, match=message):
        from_json(record)


@given(TEXTS)
def test_texts_are_kept_to_the_letter(text):
    assert from_json(to_json(Type(text))).text == text

"""A context as a chat: the properties that every chat has; the words of a whole run are in test_remote.py."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.gui.any_action import TEXTS
from visavis.gui.model.messages import LEFT_OUT, Exchange, Message, chat, clean

ANY_TEXT = TEXTS | st.text(st.characters(codec=None), max_size=5)  # lone surrogates too
PICTURES = st.integers(0, 99)  # of any kind: here numbers stand for them
EXCHANGES = st.lists(st.builds(Exchange, st.none() | PICTURES, ANY_TEXT, st.lists(ANY_TEXT, max_size=2).map(tuple)))
PLANS = st.lists(st.tuples(ANY_TEXT, st.booleans()), max_size=3)
MISTAKES = st.lists(st.tuples(ANY_TEXT, ANY_TEXT), max_size=3)


@given(st.lists(ANY_TEXT, min_size=1, max_size=2), EXCHANGES, PICTURES, st.lists(ANY_TEXT), PLANS, MISTAKES)
def test_every_chat(prompt, exchanges, present, memories, plan, mistakes):
    told = chat(prompt, exchanges, present, memories=memories, plan=plan, mistakes=mistakes)
    roles = [message.role for message in told]
    assert roles == ["user", "assistant"] * (len(exchanges) + len(mistakes)) + ["user"]
    parts = [part for message in told for part in message.parts]
    assert all(message.parts for message in told)
    pictures = [part for part in parts if isinstance(part, int)]
    assert pictures == [*(each.picture for each in exchanges if each.picture is not None), present]
    assert told[2 * len(exchanges)].parts[-1] == present
    for exchange, message in zip(exchanges, told[::2], strict=False):
        assert message.parts[-1] == (LEFT_OUT if exchange.picture is None else exchange.picture)
    replies = [message.parts[0] for message in told[1::2]]
    assert all(reply.strip() for reply in replies)
    for exchange, reply in zip(exchanges, replies, strict=False):
        assert reply == (clean(exchange.reply) if exchange.reply.strip() else "(nothing)")
    json.dumps(parts, ensure_ascii=False).encode()  # raises for half a character


def test_remarks_come_before_what_is_seen_next():
    first, second = Exchange(1, "a", ("it did nothing",)), Exchange(None, "b", ("it did", "well"))
    told = chat(["task"], [first, second], 3, memories=["memory"], plan=[("open", True), ("log in", False)])
    assert told == [
        Message("user", ("task", "memory", 1)),
        Message("assistant", ("a",)),
        Message("user", ("it did nothing", LEFT_OUT)),
        Message("assistant", ("b",)),
        Message("user", ("it did", "well", "Your plan:\n1. [x] open\n2. [ ] log in", 3)),
    ]


@pytest.mark.parametrize("length", [1999, 2000, 2001, 50_000])
def test_a_long_mistake_is_shortened(length):
    _, reply, said = chat(["task"], [], 1, mistakes=[("x" * length, "no action")])
    rest = f" [and {length - 2000:,} more]" if length > 2000 else ""
    assert reply.parts == ("x" * min(length, 2000) + rest,)
    assert said.parts == ("This reply was not understood: no action",)


@given(ANY_TEXT)
def test_cleaning_changes_half_characters_alone(text):
    found = clean(text)
    found.encode()
    assert clean(found) == found
    if not any("\ud800" <= letter <= "\udfff" for letter in text):
        assert found == text


def test_two_halves_are_a_character():
    assert clean("\ud83d\ude00") == "😀"
    assert clean("a\ud83d b") == "a\ufffd b"

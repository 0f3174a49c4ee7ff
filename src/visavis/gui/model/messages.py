"""A context as a chat: what a model behind an endpoint is sent, and what training data of runs are made of.

User and assistant take turns, which every chat template takes: where a picture is no longer kept, a note stands in its
place. The order is that of UI-TARS: the task, then what was seen and replied in each step, then what is seen now.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from visavis.gui.actions import Dialect
from visavis.gui.model.protocol import Context
from visavis.gui.plan import PLAN_HELP
from visavis.gui.screen import Screenshot

__all__ = ["PLANNING", "Exchange", "Message", "chat", "clean", "messages"]

Picture = TypeVar("Picture")

LEFT_OUT = "[screenshot left out]"
PLANNING = f"## Plan\n{PLAN_HELP}"
LONGEST_MISTAKE = 2000  # characters of a reply that did not parse which are shown to its model again


@dataclass(frozen=True, slots=True)
class Message(Generic[Picture]):
    """What one side says: texts and pictures, in order."""

    role: Literal["user", "assistant"]
    parts: tuple[str | Picture, ...]


@dataclass(frozen=True, slots=True)
class Exchange(Generic[Picture]):
    """An earlier step: what was seen, what the model replied, and what it was told about that."""

    picture: Picture | None  # None: no longer kept
    reply: str
    remarks: tuple[str, ...] = ()


def messages(
    context: Context, dialect: Dialect, *, images: int | None = None, planning: bool = True, language: str = "English"
) -> list[Message[Screenshot]]:
    """What a model is to answer.

    Args:
        context: what it is given.
        dialect: how it is spoken with.
        images: the most pictures it takes, of which the last ones are shown; None: all that the context has.
        planning: explain how to state a plan.
        language: that it thinks in.
    """
    prompt = dialect.prompt(context.instruction, context.screenshot.size, language=language)
    first = 0 if images is None else len(context.turns) + 1 - images
    exchanges = [
        Exchange(turn.screenshot if index >= first else None, turn.decision.text, turn.remarks)
        for index, turn in enumerate(context.turns)
    ]
    return chat(
        [prompt, PLANNING] if planning else [prompt],
        exchanges,
        context.screenshot,
        memories=context.memories,
        plan=context.plan,
        mistakes=context.mistakes,
    )


def chat(
    prompt: Sequence[str],
    exchanges: Iterable[Exchange[Picture]],
    present: Picture,
    *,
    memories: Sequence[str] = (),
    plan: Sequence[tuple[str, bool]] = (),
    mistakes: Sequence[tuple[str, str]] = (),
) -> list[Message[Picture]]:
    """The messages of `messages`, with pictures of any kind; a message of the user is the last."""
    told: list[Message[Picture]] = []
    parts: list[str | Picture] = [clean(text) for text in (*prompt, *memories)]
    for exchange in exchanges:
        parts.append(LEFT_OUT if exchange.picture is None else exchange.picture)
        told += [Message("user", tuple(parts)), _reply(exchange.reply)]
        parts = [clean(remark) for remark in exchange.remarks]
    if plan:
        lines = (f"{number}. [{'x' if reached else ' '}] {what}" for number, (what, reached) in enumerate(plan, 1))
        parts.append(clean("Your plan:\n" + "\n".join(lines)))
    told.append(Message("user", (*parts, present)))
    for reply, reason in mistakes:
        told += [_reply(_shortened(reply)), Message("user", (clean(f"This reply was not understood: {reason}"),))]
    return told


def clean(text: str) -> str:
    """Without halves of characters, which no tokenizer and no JSON takes."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _reply(text: str) -> Message[Picture]:
    return Message("assistant", (clean(text) if text.strip() else "(nothing)",))


def _shortened(text: str) -> str:
    return (
        text if len(text) <= LONGEST_MISTAKE else f"{text[:LONGEST_MISTAKE]} [and {len(text) - LONGEST_MISTAKE:,} more]"
    )

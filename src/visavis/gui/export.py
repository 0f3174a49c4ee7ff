"""Training data from traces: chats to imitate, and pairs of a better and a worse reply to the same chat.

Records are in the form that trainers of vision-language models read: messages whose contents are texts and places of
images, and `images`, the paths of these in the same order. The pictures are the trace's own, of the size of the screen;
points in replies are of the size that the dialect's model gets them in, `Dialect.image_size`.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from typing import Any

from visavis.errors import InputError
from visavis.gui.actions import UI_TARS_1_5, Action, Dialect
from visavis.gui.agent.reflection import alike, change_between
from visavis.gui.model.messages import PLANNING, Exchange, chat, clean
from visavis.gui.trace import Step, Trace

__all__ = ["preferences", "to_imitate"]

IMAGES = 5  # of a chat, where the trace does not say how many its model saw

Record = dict[str, Any]


def to_imitate(traces: Iterable[Trace], *, dialect: Dialect = UI_TARS_1_5) -> Iterator[Record]:
    """A record for every step that is worth imitating: {"messages", "images"}; the last message is the reply to learn.

    These are steps with a correction, and those of finished runs in which all was performed and the screen answered.
    What a dialect has no words for is left out.
    """
    for trace in traces:
        for step in trace.steps:
            if (reply := _best(trace, step, dialect)) is not None:
                chat, images = _chat(trace, step, dialect)
                yield {"messages": [*chat, _says(reply)], "images": images}


def preferences(traces: Sequence[Trace], *, dialect: Dialect = UI_TARS_1_5) -> Iterator[Record]:
    """Pairs of replies to the same chat: {"prompt", "chosen", "rejected", "images"}.

    They come from corrections, chosen over what was done; from replies that did not parse, rejected for the one that
    did and was worth imitating; and from two runs of one instruction of which one finished: where they part on the
    same screen.

    Raises:
        TraceError: a picture that has to be compared cannot be read.
    """
    for trace in traces:
        for step in trace.steps:
            chosen = _best(trace, step, dialect)
            if chosen is None:
                continue
            rejected = [clean(reply) for reply, _ in step.mistakes]
            if step.number in trace.corrections and step.decision is not None:
                done = _reply(step.decision.thought, step.decision.actions, step, dialect)
                rejected.append(clean(step.decision.text) if done is None else done)
            for worse in rejected:
                if worse != chosen:
                    yield _pair(trace, step, chosen, worse, dialect)
    for one, other in combinations(traces, 2):
        if one.instruction == other.instruction and _finished(one) != _finished(other):
            better, worse_run = (one, other) if _finished(one) else (other, one)
            yield from _parting(better, worse_run, dialect)


def _finished(trace: Trace) -> bool:
    return trace.ending is not None and trace.ending.outcome == "finished"


def _best(trace: Trace, step: Step, dialect: Dialect) -> str | None:
    """The reply to learn from a step, if there is one."""
    if step.screenshot is None:
        return None
    correction = trace.corrections.get(step.number)
    if correction is not None:
        return _reply(correction.thought, correction.actions, step, dialect)
    if step.decision is None or not _finished(trace) or step.changed is False:
        return None
    if len(step.attempts) < len(step.decision.actions) or any(a.verdict != "performed" for a in step.attempts):
        return None
    return _reply(step.decision.thought, step.decision.actions, step, dialect)


def _reply(thought: str, actions: tuple[Action, ...], step: Step, dialect: Dialect) -> str | None:
    try:
        return clean(dialect.format(clean(thought), actions, step.size))
    except InputError:  # more actions than the dialect allows in a reply, or one it has no words for
        return None


def _parting(better: Trace, worse: Trace, dialect: Dialect) -> Iterator[Record]:
    """The first step in which two runs did different things on the same screen."""
    for good, bad in zip(better.steps, worse.steps, strict=False):
        if good.decision is None or bad.decision is None or good.screenshot is None or bad.screenshot is None:
            return
        if change_between(better.screenshot(good).pixels, worse.screenshot(bad).pixels) is not None:
            return
        actions, others = good.decision.actions, bad.decision.actions
        if len(actions) != len(others) or not all(map(alike, actions, others)):
            chosen = _best(better, good, dialect)
            rejected = _reply(bad.decision.thought, others, bad, dialect)
            if chosen is not None and rejected is not None:
                yield _pair(better, good, chosen, rejected, dialect)
            return


def _pair(trace: Trace, step: Step, chosen: str, rejected: str, dialect: Dialect) -> Record:
    chat, images = _chat(trace, step, dialect)
    return {"prompt": chat, "chosen": [_says(chosen)], "rejected": [_says(rejected)], "images": images}


def _chat(trace: Trace, step: Step, dialect: Dialect) -> tuple[list[Record], list[str]]:
    """What the model is told before it replies in a step, and the paths of the pictures in it."""
    number = trace.settings.get("images")
    shown = (number if isinstance(number, int) else IMAGES) - 1
    earlier = [one for one in trace.steps[: step.number - 1] if one.decision is not None]
    exchanges = []
    for index, (one, turn) in enumerate(zip(earlier, trace.turns(before=step.number), strict=True)):
        reply = _reply(turn.decision.thought, turn.decision.actions, one, dialect)
        picture = one if index >= len(earlier) - shown and one.screenshot is not None else None
        exchanges.append(Exchange(picture, turn.decision.text if reply is None else reply, turn.remarks))
    prompt = dialect.prompt(trace.told, step.size)
    told = chat([prompt, PLANNING], exchanges, step, memories=step.memories, plan=step.plan)
    images = [_path(trace, part) for message in told for part in message.parts if isinstance(part, Step)]
    return [{"role": message.role, "content": [_part(part) for part in message.parts]} for message in told], images


def _path(trace: Trace, step: Step) -> str:
    assert step.screenshot is not None
    return str((trace.folder / step.screenshot).resolve())


def _part(part: str | Step) -> Record:
    return {"type": "text", "text": part} if isinstance(part, str) else {"type": "image"}


def _says(reply: str) -> Record:
    return {"role": "assistant", "content": [{"type": "text", "text": reply}]}

"""A model that says what is written for it: for tests, examples, and a task that is done the same way every time."""

from collections.abc import Callable
from typing import TypeAlias

from visavis.gui.actions import Action, Finished
from visavis.gui.model.protocol import Context, Decision

__all__ = ["ScriptedModel"]

DONE = Finished("done")
Line: TypeAlias = "Action | tuple[str | Action, ...] | Decision | BaseException | Callable[[Context], Line]"


class ScriptedModel:
    """Answers one line after the other; for one run, as it counts them.

    Args:
        lines: each an action; actions, with a thought before them if there is one; a whole decision; an exception to
            raise; or a function from the context to any of these.
        then: the line to repeat when there is none left.
        tokens: what each decision says it took to read and to write.

    >>> from visavis.gui.actions import Click, Type
    >>> model = ScriptedModel(("I log in.", Click((40, 20)), Type("ada")), Finished("done"))
    """

    name = "scripted"

    def __init__(self, *lines: Line, then: Line = DONE, tokens: tuple[int, int] = (0, 0)) -> None:
        self.lines = list(lines)
        self.then, self.tokens = then, tokens
        self.asked: list[Context] = []  # every context so far

    def decide(self, context: Context) -> Decision:
        self.asked.append(context)
        line = self.lines.pop(0) if self.lines else self.then
        while callable(line):
            line = line(context)
        if isinstance(line, BaseException):
            raise line
        if isinstance(line, Decision):
            return line
        parts = line if isinstance(line, tuple) else (line,)
        thought = " ".join(part for part in parts if isinstance(part, str))
        actions = tuple(part for part in parts if not isinstance(part, str))
        return Decision(f"{thought} -> {actions}", thought, actions, *self.tokens)

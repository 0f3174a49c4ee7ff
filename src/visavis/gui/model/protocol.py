"""What every model is: from an instruction, a screenshot and what came before, to a thought and actions."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from visavis.gui.actions import Action
from visavis.gui.screen import Screenshot

__all__ = ["Context", "Decision", "Model", "Turn"]


@dataclass(frozen=True, slots=True)
class Decision:
    """A model's answer to a `Context`."""

    text: str  # as the model wrote it
    thought: str
    actions: tuple[Action, ...]  # at least one
    prompt_tokens: int = 0  # 0: the model does not count
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Turn:
    """One earlier step: what was seen, what was decided, and what is to be told about it."""

    screenshot: Screenshot | None  # None: no longer kept
    decision: Decision
    remarks: tuple[str, ...] = ()  # told to the model after it: "the screen did not change", a user's answer, ...


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Context:
    """All that a model is given for one step."""

    instruction: str
    screenshot: Screenshot
    turns: tuple[Turn, ...] = ()  # oldest first
    memories: tuple[str, ...] = ()  # what long-term memory recalled for this task, as text
    plan: tuple[tuple[str, bool], ...] = ()  # milestones, and whether each is reached
    mistakes: tuple[tuple[str, str], ...] = ()  # replies to this very context that did not parse, each with the reason
    # Whether nobody waits for the decision any more, as the run was stopped: a model that can may give it up then.
    abandoned: Callable[[], bool] = field(default=_never, compare=False, repr=False)


class Model(Protocol):
    """Decides; holds no state of a run, so that one model may serve many."""

    @property
    def name(self) -> str:
        """For the trace."""
        ...

    def decide(self, context: Context) -> Decision:
        """The next thought and actions.

        Raises:
            ReplyError: the reply does not parse; its message says where and why, in words for the model.
            EndpointError: nothing usable came back; `retry` says whether asking again may help.
        """
        ...

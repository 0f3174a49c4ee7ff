"""`Agent`: a model, a screen and the rules between them."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from visavis.errors import InputError, TraceError
from visavis.gui import trace as traces
from visavis.gui.actions import Action
from visavis.gui.agent._control import Control
from visavis.gui.agent._session import Limits, Parts, Retries, Session
from visavis.gui.memory import Memory
from visavis.gui.model import Model
from visavis.gui.safety import Policy
from visavis.gui.screen import Screen, Screenshot
from visavis.gui.trace import Ending, Outcome, Reason, Step, Trace, TraceWriter

__all__ = ["STOP_FILE", "Agent", "Run"]

STOP_FILE = "STOP"


@dataclass(frozen=True, slots=True)
class Run:
    """What came of an instruction."""

    outcome: Outcome
    reason: Reason  # "" for `finished` and `call_user`
    answer: str  # what the model answers at the end, or asks the user
    steps: tuple[Step, ...]
    trace: Path | None  # the run's folder
    message: str = ""  # why it failed, in a sentence


class Agent:
    """Carries out instructions on a screen; one at a time.

    Args:
        model: decides.
        screen: is looked at and acted on; the caller closes it.
        policy: what may be done, typed and seen; the default asks about what cannot be taken back.
        memory: where finished runs are kept and recalled from; None: nowhere.
        trace: a folder that gets a new one, 0001, 0002, ..., with every run; None: nothing is written. A file named
            STOP in the folder of a run ends that run at once.
        on_question: called with a question of the model to the user; returns the answer, or None to end the run with
            the outcome `call_user`, as it ends without a callback.
        on_confirm: called with an action that the policy asks about, and why; whether to perform it. Without it, or
            when it says no, the model is told that the action was refused.
        on_step: called with every step when it is done.
        images: screenshots that the model sees at once, the present one included.
        history_tokens: what the thoughts and actions of earlier steps may take; the oldest are left out first.
        retries: how often the model, the screen and actions are tried again.

    Raises:
        InputError: `images` is below 1.
    """

    def __init__(
        self,
        model: Model,
        screen: Screen,
        *,
        policy: Policy | None = None,
        memory: Memory | None = None,
        trace: str | Path | None = None,
        on_question: Callable[[str], str | None] | None = None,
        on_confirm: Callable[[Action, str], bool] | None = None,
        on_step: Callable[[Step], None] | None = None,
        images: int = 5,
        history_tokens: int = 8000,
        retries: Retries | None = None,
    ) -> None:
        if images < 1:
            raise InputError(f"images: expected at least the present screenshot, 1, got {images}")
        self.policy = policy or Policy()
        self.folder: Path | None = None  # of the present or last run
        self._memory = memory
        self._traces = None if trace is None else Path(trace)
        self._parts = Parts(
            model,
            screen,
            self.policy,
            self._recall,
            on_question,
            on_confirm,
            on_step,
            images,
            history_tokens,
            retries or Retries(),
        )
        self._control: Control | None = None
        self._lock = threading.Lock()

    def run(
        self,
        instruction: str,
        *,
        max_steps: int = 30,
        max_seconds: float | None = None,
        max_tokens: int | None = None,
    ) -> Run:
        """Carry out an instruction.

        Args:
            instruction: in words, of any language that the model understands.
            max_steps: a step is one look and one decision of the model.
            max_seconds: of the whole run, without the time that it is paused or the user is asked.
            max_tokens: read and written by the model, as it counts them; a decision that exceeds them is the last.

        Raises:
            InputError: no instruction, a limit below 1, or another run is going on.
            TraceError: the trace cannot be begun. Later trouble with it ends the run with the reason `trace`.
        """
        limits = _limits(max_steps, max_seconds, max_tokens)
        if not instruction.strip():
            raise InputError(f"instruction: expected some words, got {instruction!r}")
        with self._under_control(limits):
            writer = None
            if self._traces is not None:
                writer = TraceWriter.create(
                    traces.new_folder(self._traces),
                    instruction,
                    told=self.policy.told(instruction),
                    model=self._parts.model.name,
                    screen=self._parts.screen.name,
                    settings=self._settings(limits),
                    hide=self.policy.hide,
                )
            return self._go(self.policy.hide(instruction), limits, writer, None)

    def continue_run(
        self,
        folder: str | Path,
        *,
        max_steps: int = 30,
        max_seconds: float | None = None,
        max_tokens: int | None = None,
    ) -> Run:
        """Go on with a run that was killed, stopped, or has failed, from its trace and in it.

        The limits are for the whole run, with what it used before. The step in flight is lost; the model is told that
        it was interrupted, and looks anew.

        Raises:
            InputError: a limit below 1, or another run is going on.
            TraceError: the folder holds no trace, a damaged one, or one of a finished run.
        """
        limits = _limits(max_steps, max_seconds, max_tokens)
        with self._under_control(limits):
            trace = traces.read(folder)
            if trace.ending is not None and trace.ending.outcome == "finished":
                raise TraceError(f"{folder}: expected a run that is not finished, got one that is")
            (trace.folder / STOP_FILE).unlink(missing_ok=True)
            return self._go(trace.instruction, limits, TraceWriter.append(trace, hide=self.policy.hide), trace)

    def stop(self) -> None:
        """End the run that is going on, if one is; from any thread, and at once unless the screen or the user is busy.

        Nothing more is performed, whatever the user says to a question that is open.
        """
        if control := self._control:
            control.stop()

    def pause(self) -> None:
        """Hold the run before its next look or action; from any thread."""
        if control := self._control:
            control.pause()

    def resume(self) -> None:
        """Let a paused run go on; from any thread."""
        if control := self._control:
            control.resume()

    @contextmanager
    def _under_control(self, limits: Limits) -> Iterator[None]:
        """One run at a time, as a screen is used from one thread; from here on it can be stopped."""
        if not self._lock.acquire(blocking=False):
            raise InputError(
                "run: expected an agent at rest, got one with a run going on; stop it, or make another agent"
            )
        self.folder = None
        self._control = Control(max_seconds=limits.seconds, emergency=self._has_stop_file)
        try:
            yield
        finally:
            self._control = None
            self._lock.release()

    def _has_stop_file(self) -> bool:
        return self.folder is not None and (self.folder / STOP_FILE).exists()

    def _go(self, instruction: str, limits: Limits, writer: TraceWriter | None, trace: Trace | None) -> Run:
        steps = trace.steps if trace else ()
        spent = sum(seconds for step in steps for seconds in step.seconds.values())
        self.folder = None if writer is None else writer.folder
        control = self._control
        assert control is not None
        control.begin(spent)
        try:
            turns = trace.turns(before=len(steps) + 1, screenshots=self._parts.images - 1) if trace else ()
            session = Session(self._parts, instruction, limits, control, writer, steps=steps, turns=turns)
            if trace and steps:
                session.first_seen = trace.screenshot(steps[0])
            ending = session.go()
        finally:
            if writer is not None:
                writer.close()
        return Run(
            ending.outcome,
            ending.reason,
            ending.answer,
            tuple(session.steps),
            self.folder,
            self._remember(session, ending),
        )

    def _recall(self, instruction: str, screenshot: Screenshot) -> tuple[str, ...]:
        if self._memory is None:
            return ()
        return tuple(self.policy.hide(found.text) for found in self._memory.recall(instruction, screenshot))

    def _remember(self, session: Session, ending: Ending) -> str:
        """Keep a finished run; the message of the run."""
        if self._memory is not None and ending.outcome == "finished" and session.first_seen and not self.policy.dry_run:
            try:
                self._memory.add(session.instruction, session.first_seen, tuple(session.steps))
            except TraceError as error:
                return f"the run is finished, but is not remembered: {error}"
        return ending.message

    def _settings(self, limits: Limits) -> dict[str, Any]:
        policy = self.policy
        return {
            "images": self._parts.images,
            "history_tokens": self._parts.history_tokens,
            "limits": asdict(limits),
            "retries": asdict(self._parts.retries),
            "policy": {
                "origins": policy.origins,
                "kinds": {kind.__name__: answer for kind, answer in policy.kinds.items()},
                "consequential": policy.consequential,
                "secrets": sorted(policy.secrets),
                "masks": policy.masks,
                "dry_run": policy.dry_run,
            },
        }


def _limits(steps: int, seconds: float | None, tokens: int | None) -> Limits:
    for name, value in (("max_steps", steps), ("max_seconds", seconds), ("max_tokens", tokens)):
        if value is not None and not value > 0:
            raise InputError(f"{name}: expected more than 0, got {value}")
    return Limits(steps, seconds, tokens)

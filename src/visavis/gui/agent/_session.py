"""One run of an agent: look, think, act, until it ends in one of the ways that have a name."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from visavis.errors import EndpointError, InputError, ReplyError, ScreenError, TraceError, VisavisError
from visavis.gui import plan as plans
from visavis.gui.actions import Action, CallUser, Finished, Wait, check
from visavis.gui.agent._control import Control, Stopped, TimeUp
from visavis.gui.agent.reflection import Reflection, effect
from visavis.gui.model import Context, Decision, Model, Turn
from visavis.gui.safety import Judgement, Policy
from visavis.gui.screen import Screen, Screenshot
from visavis.gui.trace import Attempt, Ending, Step, TraceWriter, Verdict, now, picture

__all__ = ["Limits", "Parts", "Retries", "Session", "recent"]

T = TypeVar("T")
LOOK_AGAIN_S = 0.5  # after so much thinking it is worth a second look, at what changes while nothing is done
PATIENCE_STEPS = 8  # without a milestone
MOST_LOOPS = 3  # steps in a row that close a circle, each with a remark
MOST_REFUSALS = 5  # steps in a row
PAUSED = "The run was paused before this was done, and it was not performed. Look at what the screen shows now."
INTERRUPTED = "The run was interrupted here and goes on now; the screen may have changed meanwhile."


@dataclass(frozen=True, slots=True)
class Retries:
    """How often what failed is tried again, and the wait before it, which doubles each time."""

    model: int = 4  # when the endpoint says that asking again may help
    replies: int = 3  # when a reply does not parse; the model is told why
    screenshot: int = 4
    action: int = 2  # only of what was certainly not performed
    first_s: float = 0.5
    longest_s: float = 15.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What a run may use; None: without end."""

    steps: int = 30
    seconds: float | None = None
    tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Parts:
    """What a run is made of."""

    model: Model
    screen: Screen
    policy: Policy
    recall: Callable[[str, Screenshot], tuple[str, ...]]
    on_question: Callable[[str], str | None] | None
    on_confirm: Callable[[Action, str], bool] | None
    on_step: Callable[[Step], None] | None
    images: int
    history_tokens: int
    retries: Retries


class _End(Exception):  # noqa: N818
    def __init__(self, ending: Ending) -> None:
        super().__init__(ending)
        self.ending = ending


@dataclass(slots=True)
class _Draft:
    """The step in flight."""

    at: str
    decision: Decision | None = None
    mistakes: list[tuple[str, str]] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    changed: bool | None = None
    paused: bool = False
    remarks: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


class Session:
    """The state of a run.

    Args:
        turns: of the steps so far, if it was resumed; `steps` are these steps.
    """

    def __init__(
        self,
        parts: Parts,
        instruction: str,
        limits: Limits,
        control: Control,
        writer: TraceWriter | None,
        *,
        steps: tuple[Step, ...] = (),
        turns: tuple[Turn, ...] = (),
    ) -> None:
        self.parts, self.limits, self.control, self.writer = parts, limits, control, writer
        self.instruction = instruction
        self.told = parts.policy.told(instruction)
        self.steps, self.turns = list(steps), list(turns)
        self.first_seen: Screenshot | None = None
        self._reflection = Reflection()
        self._memories = steps[-1].memories if steps else ()
        self._plan: plans.Milestones = ()
        if steps:
            last = steps[-1]
            self._plan = plans.update(last.plan, last.decision.thought if last.decision else "")
        self._tokens = sum(_tokens(step.decision) for step in steps if step.decision)
        self._since_tick = self._loops = self._refusals = 0
        self._reminded = False
        self._seen: Screenshot | None = None  # the look that the next step begins with
        self._look_s = 0.0
        self._notice = ""
        if self.turns:
            self._interrupted()

    def go(self) -> Ending:
        """Run to the end.

        Raises:
            KeyboardInterrupt: Ctrl-C; the trace says so.
            Exception: of a callback, a model or a screen that raises what it must not; the trace says so.
        """
        try:
            while True:
                self._step()
        except _End as end:
            return self._close(end.ending)
        except TraceError as error:
            return self._close(Ending("failed", "trace", message=str(error)))
        except KeyboardInterrupt:
            self._close(Ending("stopped", "interrupt"))
            raise
        except Exception as error:
            message = self.parts.policy.hide(f"{type(error).__name__}: {error}")
            self._close(Ending("failed", "error", message=message))
            if self.parts.policy.hide(str(error)) != str(error):
                raise VisavisError(message) from None  # the first one holds a secret
            raise

    def _close(self, ending: Ending) -> Ending:
        if self.writer is not None:
            try:
                self.writer.end(ending)
            except TraceError as error:
                return ending if ending.reason == "trace" else Ending("failed", "trace", ending.answer, str(error))
        return ending

    def _step(self) -> None:
        draft = _Draft(now())
        number = len(self.steps) + 1
        try:
            self._budgets(number)
            paused = self.control.check()
            if paused and self.turns:
                self._interrupted()
            if self._seen is None or paused:
                self._look(number)
        except (Stopped, TimeUp) as end:
            raise _End(_ending(end)) from None
        except ScreenError as error:
            raise _End(Ending("failed", "screen", message=self._hide(error))) from error
        seen = self._seen
        assert seen is not None
        draft.seconds["look"] = self._look_s
        plan = self._plan
        try:
            self._think(draft, seen)
            ready = self._ready(draft, seen)
            self._act(draft, ready)
            self._reflect(draft, ready, number)
        except (Stopped, TimeUp) as end:
            raise _End(_ending(end)) from None
        except ScreenError as error:
            raise _End(Ending("failed", "screen", message=self._hide(error))) from error
        finally:
            self._write(draft, seen, number, plan)

    def _budgets(self, number: int) -> None:
        if number > self.limits.steps:
            raise _End(Ending("failed", "steps", message=f"not finished after {self.limits.steps} steps"))
        if self.limits.tokens is not None and self._tokens >= self.limits.tokens:
            raise _End(Ending("failed", "tokens", message=f"not finished after {self._tokens} tokens"))

    # Looking ----------------------------------------------------------------------------------------------------------

    def _look(self, number: int) -> None:
        """See what step `number` begins with."""
        began = self.control.elapsed()
        self._seen = None
        seen = self._glance()
        if self.first_seen is None:
            self.first_seen = seen
            self._memories = self._memories or self.parts.recall(self.instruction, seen)
        if self.writer is not None:
            self.writer.screenshot(number, seen.pixels)
        self._seen, self._look_s = seen, self.control.elapsed() - began

    def _glance(self) -> Screenshot:
        return self.parts.policy.mask(self._again(self.parts.screen.screenshot, self.parts.retries.screenshot))

    def _again(self, function: Callable[[], T], times: int, *, acting: bool = False) -> T:
        """Call a function, and again after longer and longer waits while it fails in a way that may pass."""
        wait_s, longest_s = self.parts.retries.first_s, self.parts.retries.longest_s
        for left in range(times, -1, -1):
            asked_s = 0.0
            try:
                return function()
            except EndpointError as error:
                if not left or not error.retry:
                    raise
                asked_s = min(error.wait_s, longest_s)
            except ScreenError as error:
                if not left or (acting and error.acted):
                    raise
            self.control.wait(max(wait_s, asked_s))
            wait_s = min(2 * wait_s, longest_s)
        raise AssertionError("the last try returns or raises")

    # Thinking ---------------------------------------------------------------------------------------------------------

    def _think(self, draft: _Draft, seen: Screenshot) -> None:
        began = self.control.elapsed()
        turns = recent(self.turns, images=self.parts.images - 1, tokens=self.parts.history_tokens)
        context = Context(self.told, seen, turns, self._memories, self._plan, abandoned=self.control.has_left)
        try:
            while True:
                try:
                    decision = self._ask(replace(context, mistakes=tuple(draft.mistakes)))
                    self._tokens += _tokens(decision)
                    draft.decision = self._checked(decision, seen)
                    return
                except ReplyError as error:
                    self._tokens += error.tokens
                    draft.mistakes.append((self._hide(error.reply), self._hide(error)))
                    if len(draft.mistakes) > self.parts.retries.replies:
                        message = f"{len(draft.mistakes)} replies in a row that do not parse; the last: {error}"
                        raise _End(Ending("failed", "replies", message=self._hide(message))) from error
        except EndpointError as error:
            raise _End(Ending("failed", "model", message=self._hide(error))) from error
        finally:
            draft.seconds["think"] = self.control.elapsed() - began

    def _ask(self, context: Context) -> Decision:
        decide = partial(self.parts.model.decide, context)
        return self._again(partial(self.control.call, decide), self.parts.retries.model)

    def _checked(self, decision: Decision, seen: Screenshot) -> Decision:
        """The decision without secrets that the model may have read off the screen.

        Raises:
            ReplyError: it holds an action that is none.
        """
        if not decision.actions:
            raise ReplyError("actions: expected at least one, got none", decision.text)
        try:
            for action in decision.actions:
                check(action, seen.size)
        except InputError as error:
            raise ReplyError(str(error), decision.text) from error
        hide = self.parts.policy.hide
        actions = tuple(self.parts.policy.hide_in(action) for action in decision.actions)
        return replace(decision, text=hide(decision.text), thought=hide(decision.thought), actions=actions)

    # Acting -----------------------------------------------------------------------------------------------------------

    def _ready(self, draft: _Draft, seen: Screenshot) -> Screenshot:
        """The screen right before acting: what changed while the model thought is no effect of what it does."""
        if draft.seconds["think"] < LOOK_AGAIN_S or self.parts.policy.dry_run:
            return seen
        ready = self._glance()
        self._reflection.idle(seen.pixels, ready.pixels)
        return ready

    def _act(self, draft: _Draft, seen: Screenshot) -> None:
        began = self.control.elapsed()
        decision = draft.decision
        assert decision is not None
        before = self._plan
        self._plan = plans.update(self._plan, decision.thought)
        self._since_tick = 0 if self._plan != before else self._since_tick + 1
        try:
            for number, action in enumerate(decision.actions):
                if self._was_paused(draft):
                    return
                match action:
                    case Finished(content):
                        self._finish(draft, action, content)
                    case CallUser(question):
                        self._ask_user(draft, action, question)
                    case Wait(seconds):
                        self._attempt(draft, action, partial(self.control.wait, seconds))
                    case _:
                        self._perform(draft, action, seen, fresh=number == 0)
                if draft.paused or draft.attempts[-1].verdict not in ("performed", "dry"):
                    return  # what follows counts on this one
        finally:
            draft.seconds["act"] = self.control.elapsed() - began

    def _was_paused(self, draft: _Draft) -> bool:
        """Whether the run was paused before the next action, which then is not performed."""
        if not self.control.check():
            return False
        draft.paused = True
        draft.remarks.append(PAUSED)
        return True

    def _finish(self, draft: _Draft, action: Action, content: str) -> None:
        if plans.ended(self._plan) or self._reminded:
            draft.attempts.append(Attempt(action, "performed"))
            raise _End(Ending("finished", answer=content))
        self._reminded = True
        draft.attempts.append(Attempt(action, "refused", "milestones are open"))
        draft.remarks.append(plans.still_open(self._plan))

    def _ask_user(self, draft: _Draft, action: Action, question: str) -> None:
        ask = self.parts.on_question
        answer = self.control.hold(partial(ask, question)) if ask else None
        draft.attempts.append(Attempt(action, "performed"))
        if answer is None:
            raise _End(Ending("call_user", answer=question))
        draft.remarks.append(f"The user answers: {answer}")

    def _perform(self, draft: _Draft, action: Action, seen: Screenshot, *, fresh: bool) -> None:
        policy, url = self.parts.policy, seen.url
        if policy.holds_secret(action) or (policy.origins is not None and not fresh):
            url = self._glance().url  # where the page is now, not where it was when the model began to think
        assert draft.decision is not None
        thought = plans.without_plan(draft.decision.thought) or draft.decision.thought
        judgement = policy.judge(action, thought=thought, url=url)
        if judgement.answer == "ask":
            if self.parts.on_confirm is None:
                judgement = Judgement("refuse", f"{judgement.reason}, and nobody can be asked")
            elif self.control.hold(partial(self.parts.on_confirm, action, judgement.reason)):
                if self._was_paused(draft):  # or stopped, while the user was asked
                    return
                url = self._glance().url  # which may be another by now
                judgement = policy.judge(action, thought=thought, url=url)
            else:
                judgement = Judgement("refuse", "the user does not want it")
        if judgement.answer == "refuse":
            draft.attempts.append(Attempt(action, "refused", judgement.reason))
            draft.remarks.append(f"Not performed: {judgement.reason}.")
            return
        if policy.dry_run:
            draft.attempts.append(Attempt(action, "dry"))
            return
        perform = partial(self.parts.screen.perform, policy.reveal(action, url=url))
        self._attempt(draft, action, partial(self._again, perform, self.parts.retries.action, acting=True))

    def _attempt(self, draft: _Draft, action: Action, function: Callable[[], None]) -> None:
        began = self.control.elapsed()
        verdict: Verdict = "unknown"  # until it is known, by Ctrl-C in its midst too
        note = ""
        try:
            function()
            verdict = "performed"
        except InputError as error:
            verdict, note = "failed", self._hide(error)
            draft.remarks.append(f"Not performed: {note}.")
        except ScreenError as error:
            verdict, note = "unknown" if error.acted else "failed", self._hide(error)
            may = "it is not known whether it was performed" if error.acted else "it was not performed"
            draft.remarks.append(
                f"The screen had a problem with this action, and {may} ({note}). Look before you go on."
            )
        finally:
            draft.attempts.append(Attempt(action, verdict, note, self.control.elapsed() - began))

    # Reflecting -------------------------------------------------------------------------------------------------------

    def _reflect(self, draft: _Draft, seen: Screenshot, number: int) -> None:
        """Look at what came of the step, and find what is to be said about it."""
        done = tuple(attempt.action for attempt in draft.attempts if attempt.verdict in ("performed", "unknown"))
        refused = any(attempt.verdict == "refused" for attempt in draft.attempts)
        self._refusals = self._refusals + 1 if refused else 0
        if self._refusals >= MOST_REFUSALS:
            message = f"{self._refusals} steps in a row were refused; the last: {draft.attempts[-1].note}"
            raise _End(Ending("failed", "refused", message=message))
        self._look(number + 1)
        after = self._seen
        assert after is not None
        if draft.paused:
            return  # what changed meanwhile is somebody else's doing
        change = self._reflection.change(seen.pixels, after.pixels, done)
        draft.changed = change is not None
        if self.parts.policy.dry_run:
            draft.remarks.append("This is a dry run: the action was noted, and not performed.")
            return
        if all(isinstance(action, Wait) for action in done):
            self._reflection.idle(seen.pixels, after.pixels)
        elif not any(isinstance(action, CallUser) for action in done) and (remark := effect(change, done, after.size)):
            draft.remarks.append(remark)
        assert draft.decision is not None
        circle = self._reflection.circle(seen.pixels, draft.decision.actions)
        self._loops = self._loops + 1 if circle else 0
        if self._loops > MOST_LOOPS:
            raise _End(Ending("failed", "loop", message=circle))
        if circle:
            draft.remarks.append(circle)
        if self._since_tick >= PATIENCE_STEPS and not plans.ended(self._plan):
            draft.remarks.append(plans.nothing_reached(self._plan, self._since_tick))
            self._since_tick = 0

    def _interrupted(self) -> None:
        """Have the model told, once."""
        if not self._notice:
            self._notice = INTERRUPTED
            self.turns[-1] = replace(self.turns[-1], remarks=(*self.turns[-1].remarks, INTERRUPTED))

    def _hide(self, what: object) -> str:
        return self.parts.policy.hide(str(what))

    def _write(self, draft: _Draft, seen: Screenshot, number: int, plan: plans.Milestones) -> None:
        step = Step(
            number,
            draft.at,
            None if self.writer is None else picture(number),
            seen.size,
            seen.scale,
            None if seen.url is None else self._hide(seen.url),
            self._notice,
            draft.decision,
            tuple(draft.mistakes),
            tuple(draft.attempts),
            draft.changed,
            tuple(map(self._hide, draft.remarks)),
            plan,
            self._memories,
            draft.seconds,
        )
        self.steps.append(step)
        if self.writer is not None:
            self.writer.step(step)
        self._notice = ""
        if draft.decision is not None:
            self.turns.append(Turn(seen, draft.decision, step.remarks))
            if len(self.turns) >= self.parts.images:  # the screenshot of the next step is one of them
                self.turns[-self.parts.images] = replace(self.turns[-self.parts.images], screenshot=None)
        if self.parts.on_step is not None:
            self.parts.on_step(step)


def recent(turns: list[Turn], *, images: int, tokens: int) -> tuple[Turn, ...]:
    """The latest turns whose texts stay within a number of tokens, the last `images` of them with their screenshots."""
    kept: list[Turn] = []
    for turn in reversed(turns):
        tokens -= _text_tokens(turn.decision.text) + sum(map(_text_tokens, turn.remarks))
        if tokens < 0:
            break
        kept.append(turn if len(kept) < images else replace(turn, screenshot=None))
    return tuple(reversed(kept))


def _text_tokens(text: str) -> int:
    """About as many as a model's tokenizer makes: four letters a token, or one character of the wide scripts."""
    wide = sum(letter > "\u2e7f" for letter in text)
    return wide + -(-(len(text) - wide) // 4)


def _tokens(decision: Decision) -> int:
    return decision.prompt_tokens + decision.completion_tokens


def _ending(end: Stopped | TimeUp) -> Ending:
    if isinstance(end, TimeUp):
        return Ending("failed", "time", message="not finished in time")
    return Ending("stopped", end.reason)

"""Replay: do again what a trace says was done, and see step by step whether the screen is the same."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from visavis.errors import InputError, ScreenError, TraceError
from visavis.gui.actions import Action, CallUser, Finished, Wait, check
from visavis.gui.agent.reflection import Change, change_between
from visavis.gui.safety import Policy
from visavis.gui.screen import Screen, Screenshot
from visavis.gui.trace import Attempt, Step, Trace, Verdict

__all__ = ["Repeated", "replay"]


@dataclass(frozen=True, slots=True)
class Repeated:
    """A step as it went this time."""

    number: int  # of the step; one more than the last step's is the look at the end
    change: Change | None  # what differs from the trace's screenshot before the actions; None: nothing
    attempts: tuple[Attempt, ...] = ()


def replay(
    trace: Trace,
    screen: Screen,
    *,
    policy: Policy | None = None,
    on_confirm: Callable[[Action, str], bool] | None = None,
    on_step: Callable[[Repeated], None] | None = None,
) -> tuple[Repeated, ...]:
    """Perform on a screen what was performed in a run.

    What was refused or failed then is left out. A text cursor that blinks is no difference; what the run masked, or
    the policy does, is not compared. It ends early where an action cannot be performed: what follows counts on it.

    Args:
        trace: of the run.
        screen: in the state that the run began with.
        policy: what may be done, with the secrets that were typed.
        on_confirm: called with an action that the policy asks about, and why; without it, that is refused.
        on_step: called with every step when it is done.

    Raises:
        TraceError: a picture of the trace cannot be read, or its masks are none.
        ScreenError: nothing is to be seen.
    """
    policy = _masked(policy or Policy(), trace)
    done: list[Repeated] = []
    for step in trace.steps:
        seen = policy.mask(screen.screenshot())
        attempts = _repeat(step, screen, seen, policy, on_confirm)
        done.append(Repeated(step.number, _compare(trace.screenshot(step), seen, policy), attempts))
        if on_step is not None:
            on_step(done[-1])
        if attempts and attempts[-1].verdict not in ("performed", "dry"):
            return tuple(done)
    if trace.last_look is not None:
        last = replace(trace.steps[-1], screenshot=trace.last_look.relative_to(trace.folder).as_posix())
        seen = policy.mask(screen.screenshot())
        done.append(Repeated(len(trace.steps) + 1, _compare(trace.screenshot(last), seen, policy)))
        if on_step is not None:
            on_step(done[-1])
    return tuple(done)


def _masked(policy: Policy, trace: Trace) -> Policy:
    """The policy with the masks of the run too."""
    try:
        boxes: Any = trace.settings.get("policy", {}).get("masks", ())
        masks = tuple((int(left), int(top), int(right), int(bottom)) for left, top, right, bottom in boxes)
        return replace(policy, masks=(*policy.masks, *masks))
    except (AttributeError, TypeError, ValueError) as error:
        raise TraceError(f"{trace.folder / 'run.json'}: expected masks in its settings, got {error}") from error


def _compare(then: Screenshot, now: Screenshot, policy: Policy) -> Change | None:
    return change_between(policy.mask(then).pixels, now.pixels)


def _repeat(
    step: Step,
    screen: Screen,
    seen: Screenshot,
    policy: Policy,
    on_confirm: Callable[[Action, str], bool] | None,
) -> tuple[Attempt, ...]:
    attempts: list[Attempt] = []
    thought = "" if step.decision is None else step.decision.thought
    for then in step.attempts:
        action = then.action
        if then.verdict not in ("performed", "unknown") or isinstance(action, Finished | CallUser):
            continue
        url = screen.screenshot().url if attempts else seen.url
        attempt = _attempt(action, thought, screen, seen, url, policy, on_confirm)
        attempts.append(attempt)
        if attempt.verdict not in ("performed", "dry"):
            break
    return tuple(attempts)


def _attempt(
    action: Action,
    thought: str,
    screen: Screen,
    seen: Screenshot,
    url: str | None,
    policy: Policy,
    on_confirm: Callable[[Action, str], bool] | None,
) -> Attempt:
    judgement = policy.judge(action, thought=thought, url=url)
    agreed = judgement.answer == "ask" and on_confirm is not None and on_confirm(action, judgement.reason)
    if judgement.answer != "allow" and not agreed:
        return Attempt(action, "refused", judgement.reason)
    if policy.dry_run:
        return Attempt(action, "dry")
    began = time.monotonic()
    try:
        check(action, seen.size)
        if isinstance(action, Wait):
            time.sleep(action.seconds)
        else:
            screen.perform(policy.reveal(action, url=url))
    except InputError as error:
        return Attempt(action, "failed", policy.hide(str(error)), time.monotonic() - began)
    except ScreenError as error:
        verdict: Verdict = "unknown" if error.acted else "failed"
        return Attempt(action, verdict, policy.hide(str(error)), time.monotonic() - began)
    return Attempt(action, "performed", seconds=time.monotonic() - began)

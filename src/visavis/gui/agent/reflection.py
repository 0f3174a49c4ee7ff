"""Reflection: what the model is told about actions without effect, and about going round in circles.

A screen is the same as before when no pixel differs but those that change by themselves: a text cursor that blinks, and
whatever was seen to change while nothing was done, such as a clock.
"""

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from visavis.gui.actions import Action, Click, Drag, LongPress, Move, Press, Release, Scroll, Wait

__all__ = ["Change", "Reflection", "alike", "change_between", "difference", "effect"]

CURSOR_WIDTH_PX, CURSOR_HEIGHT_PX = 3, (8, 80)  # a text cursor: no wider, and as high as a line of text
CLOSE_PX = 5  # a click this near to another is the same click
REGION_PX = 96  # around a point: where a click is expected to show
SMALL = 1 / 2000  # of the screen: what may well be no answer to a click elsewhere
RESTLESS = 1 / 50  # of the screen: more than this does not just tick, it moves
MARGIN_PX = 3  # around what changes by itself: the next figure of a clock is a little wider
LONGEST_CYCLE = 4
FRAMES = 2 * LONGEST_CYCLE


@dataclass(frozen=True, slots=True)
class Change:
    """What differs between two looks: a box in pixels, right and bottom excluded, and how many pixels in it."""

    box: tuple[int, int, int, int]
    pixels: int

    @property
    def is_cursor(self) -> bool:
        """Whether it may be a text cursor that blinks."""
        left, top, right, bottom = self.box
        return right - left <= CURSOR_WIDTH_PX and CURSOR_HEIGHT_PX[0] <= bottom - top <= CURSOR_HEIGHT_PX[1]

    def is_near(self, actions: tuple[Action, ...]) -> bool:
        """Whether it is around a point of an action."""
        return any(_distance(point, self.box) <= REGION_PX for action in actions for point in _points(action))


class Reflection:
    """Watches one run."""

    def __init__(self) -> None:
        self._restless: Any = None  # bool [H, W]: pixels that change by themselves
        self._past: deque[tuple[Any, tuple[Action, ...]]] = deque(maxlen=FRAMES)

    def idle(self, before: Any, after: Any) -> None:
        """Learn from two looks, uint8 [H, W, 3], between which nothing was done."""
        if before.shape != after.shape:
            return
        differs = _differs(before, after)
        if 0 < differs.mean() <= RESTLESS:
            widened = _widened(differs)
            known = self._restless is not None and self._restless.shape == widened.shape
            self._restless = self._restless | widened if known else widened

    def change(self, before: Any, after: Any, actions: tuple[Action, ...] = ()) -> Change | None:
        """As `change_between`, but for what changes by itself."""
        return change_between(before, after, actions, ignore=self._restless)

    def circle(self, seen: Any, actions: tuple[Action, ...]) -> str:
        """What is to be said if these actions on this screen close a circle; nothing, if they do not."""
        self._past.append((seen, actions))
        for length in range(1, LONGEST_CYCLE + 1):
            rounds = 3 if length == 1 else 2
            again = range(1, length * (rounds - 1) + 1)
            if len(self._past) >= length * rounds and all(self._same(-index, -index - length) for index in again):
                what = "the same action" if length == 1 else f"the same {length} steps"
                return (
                    f"You are going in a circle: {what} on the same screen, {rounds} times. It leads nowhere: choose "
                    "another way, or, if there is none, ask the user."
                )
        return ""

    def _same(self, one: int, other: int) -> bool:
        (seen, actions), (seen_before, actions_before) = self._past[one], self._past[other]
        return (
            len(actions) == len(actions_before)
            and all(map(alike, actions, actions_before))
            and self.change(seen_before, seen) is None
        )


def effect(change: Change | None, actions: tuple[Action, ...], size: tuple[int, int]) -> str:
    """What is to be said about the effect of actions on a screen of some width and height; nothing, if it shows."""
    if all(isinstance(action, Move | Press | Release | Wait) for action in actions):
        return ""
    if change is None:
        return (
            "The screen did not change: the action had no visible effect. Do not repeat it; look again at what is "
            "on the screen, and try another element or another way."
        )
    points = [point for action in actions for point in _points(action)]
    if not points or change.is_near(actions) or change.pixels >= SMALL * size[0] * size[1]:
        return ""
    left, top, right, bottom = change.box
    return (
        f"Nothing changed around {points[-1]}; all that changed on the screen is a small spot at "
        f"({(left + right) // 2}, {(top + bottom) // 2}). Check whether the action did what you wanted."
    )


def change_between(before: Any, after: Any, actions: tuple[Action, ...] = (), *, ignore: Any = None) -> Change | None:
    """As `difference`, but a text cursor counts only where one of the actions pointed at: elsewhere it blinks."""
    change = difference(before, after, ignore=ignore)
    return None if change and change.is_cursor and not change.is_near(actions) else change


def difference(before: Any, after: Any, *, ignore: Any = None) -> Change | None:
    """What differs between two looks.

    Args:
        before: uint8 [H, W, 3].
        after: the same; of another size all of it differs.
        ignore: bool [H, W], pixels that do not count; of another size it is not used.

    Returns:
        None if nothing does.
    """
    height, width = after.shape[:2]
    if before.shape != after.shape:
        return Change((0, 0, width, height), width * height)
    differs = _differs(before, after)
    if ignore is not None and ignore.shape == differs.shape:
        differs &= ~ignore
    rows, columns = np.flatnonzero(differs.any(axis=1)), np.flatnonzero(differs.any(axis=0))
    if not len(rows):
        return None
    left, top, right, bottom = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
    return Change((left, top, right, bottom), int(differs.sum()))


def alike(one: Action, other: Action) -> bool:
    """Whether two actions are the same, up to a tremble of the points."""
    if one == other:
        return True
    mine, theirs = _points(one), _points(other)
    if type(one) is not type(other) or not mine or len(mine) != len(theirs):
        return False
    near = all(max(abs(x - u), abs(y - v)) <= CLOSE_PX for (x, y), (u, v) in zip(mine, theirs, strict=True))
    return near and _but_points(one) == _but_points(other)


def _points(action: Action) -> tuple[tuple[int, int], ...]:
    match action:
        case Click(point) | LongPress(point) | Scroll(point) | Move(point):
            return (point,)
        case Drag(path):
            return path
        case _:
            return ()


def _but_points(action: Action) -> tuple[Any, ...]:
    match action:
        case Click(_, button, count):
            return button, count
        case Scroll(_, down, right):
            return down, right
        case _:
            return ()


def _distance(point: tuple[int, int], box: tuple[int, int, int, int]) -> int:
    """From a point to a box, along the farther axis."""
    (x, y), (left, top, right, bottom) = point, box
    return max(left - x, x - right + 1, top - y, y - bottom + 1, 0)


def _differs(before: Any, after: Any) -> Any:
    channels = before != after
    return channels[..., 0] | channels[..., 1] | channels[..., 2]


def _widened(mask: Any) -> Any:
    wide = mask.copy()
    for shift in range(1, MARGIN_PX + 1):
        wide[shift:] |= mask[:-shift]
        wide[:-shift] |= mask[shift:]
    result = wide.copy()
    for shift in range(1, MARGIN_PX + 1):
        result[:, shift:] |= wide[:, :-shift]
        result[:, :-shift] |= wide[:, shift:]
    return result

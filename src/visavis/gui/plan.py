"""The plan: milestones that the model states and ticks in its thoughts, in whatever dialect it thinks.

The model writes "Plan: 1. ... 2. ..." in a thought, on one line or several, and later "Done: 1" or "Done: 1, 3". A new
plan replaces the old one; a milestone of the same words keeps its tick. The agent shows the plan at every step, reminds
the model of it, and does not take "finished" for an answer at once while milestones are open.
"""

import re

__all__ = ["PLAN_HELP", "Milestones", "ended", "nothing_reached", "still_open", "update", "without_plan"]

Milestones = tuple[tuple[str, bool], ...]

PLAN_HELP = (
    "If the task takes more than a few steps, write its milestones into your first thought, as "
    '"Plan: 1. the settings are open 2. the language is Spanish 3. the change is saved". When the screen shows that '
    'you reached one, write "Done: 1" into your thought. If the plan turns out wrong, write a new one.'
)
MOST = 12  # milestones
LONGEST = 200  # characters of one
_HEADING = r"(?:^|(?<=[\s.;。；!！*#>\"'“「-]))(?:{names})\**[ \t]*[:：]\**"
_PLAN = re.compile(_HEADING.format(names="plan|milestones|计划|計劃|計画|里程碑"), re.IGNORECASE | re.MULTILINE)
_DONE = re.compile(
    _HEADING.format(names="done|reached|完成|已完成") + r"[ \t]*((?:\d{1,2}(?!\d)[ \t]*(?:[,，、&-]|and|和)*[ \t]*)+)",
    re.IGNORECASE | re.MULTILINE,
)
_SENTENCE_END = re.compile(r"(?<!\d)[.;!]\s|[。；！\n]")


def update(plan: Milestones, thought: str) -> Milestones:
    """The plan after a thought.

    Example:
        >>> plan = update((), "Plan: 1. log in 2. open Settings. I click the name field.")
        >>> update(plan, "The page greets Ada. Done: 1")
        (('log in', True), ('open Settings', False))
    """
    reached = {milestone for milestone, done in plan if done}
    if found := _stated(thought):
        plan = tuple((milestone, milestone in reached) for milestone, _, _ in found)
    ticked = {number for done in _DONE.finditer(thought) for number in _numbers(done[1])}
    return tuple((milestone, done or number in ticked) for number, (milestone, done) in enumerate(plan, start=1))


def without_plan(thought: str) -> str:
    """A thought without the plan in it: what is left is about the next action.

    Example:
        >>> without_plan("Plan: 1. open the file 2. delete it. I click File.")
        'I click File.'
    """
    for _, start, end in reversed(_stated(thought)):
        thought = thought[:start] + thought[end:]
    return _DONE.sub("", _PLAN.sub("", thought)).strip()


def ended(plan: Milestones) -> bool:
    """Whether every milestone is reached; so it is where there is none."""
    return all(done for _, done in plan)


def still_open(plan: Milestones) -> str:
    """What the model is told when it says that it has finished, and milestones are open."""
    left = "; ".join(f"{number}. {milestone}" for number, (milestone, done) in enumerate(plan, start=1) if not done)
    return (
        f"By your own plan the task is not finished; not reached: {left}. Do what is missing. If nothing is, say that "
        "you are finished once more."
    )


def nothing_reached(plan: Milestones, steps: int) -> str:
    """What the model is told after some steps without a tick."""
    number, milestone = next((number, text) for number, (text, done) in enumerate(plan, start=1) if not done)
    return (
        f"No milestone was reached in the last {steps} steps; the next is {number}. {milestone}. "
        "If you are past it, write Done; if the plan leads nowhere, write another one."
    )


def _stated(thought: str) -> list[tuple[str, int, int]]:
    """The milestones of the last plan in a thought, each with where its text, number included, begins and ends."""
    headings = list(_PLAN.finditer(thought))
    if not headings:
        return []
    done = _DONE.search(thought, headings[-1].end())
    end = done.start() if done else len(thought)
    starts: list[re.Match[str]] = []
    at = headings[-1].end()
    while len(starts) < MOST:
        # "2." or "2)", but not the 2 of "2.5" or "12."
        item = re.compile(rf"(?<![\d.])\(?{len(starts) + 1}(?:[.)](?!\d)|[、．])\s*").search(thought, at, end)
        if item is None:
            break
        starts.append(item)
        at = item.end()
    found = []
    for index, start in enumerate(starts):
        stop = starts[index + 1].start() if index + 1 < len(starts) else end
        sentence = _SENTENCE_END.search(thought, start.end(), stop)
        stop = sentence.start() + 1 if sentence else stop
        text = " ".join(thought[start.end() : stop].split()).strip(' .;,。；，、*"”」')
        found.append((text[:LONGEST], start.start(), stop))
    return [item for item in found if item[0]]


def _numbers(text: str) -> set[int]:
    """Of "1, 3-5 and 7": 1, 3, 4, 5, 7."""
    found: set[int] = set()
    for first, last in re.findall(r"(\d+)(?:[ \t]*-[ \t]*(\d+))?", text):
        found |= set(range(int(first), int(last or first) + 1))
    return found

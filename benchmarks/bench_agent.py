"""What the agent's runtime costs a step, and how well its long-term memory recalls, beside TF-IDF of scikit-learn.

    python benchmarks/bench_agent.py

The tasks are those of tests/gui/memories.py: thresholds were chosen on one half, ours by hand; the other half was
written afterwards. A peer's threshold is the best there is for the half it is measured on. The model answers at once
and the screen costs next to nothing, so what is timed is the runtime.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from harness import quartiles, write_result
from sklearn.feature_extraction.text import TfidfVectorizer

from visavis.gui.actions import Action, Click, Finished
from visavis.gui.agent import Agent
from visavis.gui.memory import Memory
from visavis.gui.model import Context, Decision
from visavis.gui.screen import Screenshot
from visavis.gui.trace import Attempt, Step

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.gui import memories

HALVES = {
    "chosen on": (memories.QUERIES, memories.UNKNOWN),
    "held out": (memories.HELD_OUT, memories.UNKNOWN_HELD_OUT),
}
SIZE = (1280, 800)
STEPS, ROUNDS = 100, 15
STORED = (100, 1000, 10_000)

Likeness = Callable[[str], np.ndarray]  # of a text to every stored one


def step(text: str) -> tuple[Step, ...]:
    """A run of one click."""
    click = Click((1, 1))
    return (Step(1, "", decision=Decision("", text, (click,)), attempts=(Attempt(click, "performed"),), changed=True),)


def filled(folder: str) -> Memory:
    """A memory of all tasks."""
    memory = Memory(folder)
    for name, instruction in memories.STORED:
        memory.add(instruction, Screenshot(memories.screen(name)), step(instruction))
    return memory


def ours() -> dict[str, Any]:
    """Recall with screens, each showing other contents than when the task was stored."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        memory = filled(folder)
        for half, (queries, unknown) in HALVES.items():
            firsts = [
                memory.recall(text, Screenshot(memories.screen(name, seed)))[:1]
                for seed, (_, name, text) in enumerate(queries, start=1)
            ]
            right = sum(
                bool(first) and first[0].instruction == memories.STORED[index][1]
                for first, (index, _, _) in zip(firsts, queries, strict=True)
            )
            false = sum(bool(memory.recall(text, Screenshot(memories.screen(name, 1)))) for name, text in unknown)
            found[half] = {"tasks": len(queries), "right": right, "unknown": len(unknown), "false": false}
    return found


def peer(likeness: Likeness) -> dict[str, Any]:
    """Recall by texts alone, with the threshold that makes the fewest mistakes on each half."""
    found = {}
    for half, (queries, unknown) in HALVES.items():
        scores = [likeness(text) for _, _, text in queries]
        strangers = [likeness(text).max() for _, text in unknown]

        def count(threshold: float, scores: Any = scores, strangers: Any = strangers, queries: Any = queries) -> Any:
            right = sum(
                score.argmax() == index and score.max() >= threshold
                for score, (index, _, _) in zip(scores, queries, strict=True)
            )
            return int(right), int(sum(stranger >= threshold for stranger in strangers))

        right, false = max(
            (count(threshold) for threshold in np.arange(0, 1, 0.01)), key=lambda pair: pair[0] - pair[1]
        )
        found[half] = {"tasks": len(queries), "right": right, "unknown": len(unknown), "false": false}
    return found


def tfidf(**options: Any) -> Likeness:
    """Scikit-learn's, fitted to the stored tasks."""
    texts = [instruction for _, instruction in memories.STORED]
    vectorizer = TfidfVectorizer(sublinear_tf=True, **options)
    stored = vectorizer.fit_transform(texts)
    return lambda text: (stored @ vectorizer.transform([text]).T).toarray()[:, 0]


class AtOnce:
    """A model that clicks all over the screen, and then is done."""

    name = "at once"

    def decide(self, context: Context) -> Decision:
        number = len(context.turns)
        action: Action = Finished() if number == STEPS else Click((number * 7 % SIZE[0], number * 5 % SIZE[1]))
        return Decision("I click the next element.", "I click the next element.", (action,))


class Drawn:
    """A screen of a mail program, 1280 x 800, on which a mark moves with every action."""

    name = "drawn"

    def __init__(self) -> None:
        small = memories.screen("mail")
        self.base = np.ascontiguousarray(small.repeat(3, axis=0)[:800].repeat(4, axis=1)[:, : SIZE[0]])
        self.count = 0

    def size(self) -> tuple[int, int]:
        return SIZE

    def screenshot(self) -> Screenshot:
        pixels = self.base.copy()
        pixels[100:200, 100 + 5 * self.count : 150 + 5 * self.count] = self.count % 200
        return Screenshot(pixels)

    def perform(self, action: Action) -> None:  # noqa: ARG002
        self.count += 1

    def close(self) -> None:
        pass


def step_ms() -> dict[str, list[float]]:
    """Milliseconds of a step, quartiles over rounds; the ways in turn."""
    taken: dict[str, list[float]] = {"without a trace": [], "with a trace": []}
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            for name, trace in (("without a trace", None), ("with a trace", folder)):
                began = time.perf_counter()
                run = Agent(AtOnce(), Drawn(), trace=trace).run("Click", max_steps=STEPS + 1)  # type: ignore[arg-type]
                taken[name].append((time.perf_counter() - began) * 1e3 / STEPS)
                assert run.outcome == "finished", run
    return {name: quartiles(values, 2) for name, values in taken.items()}


def recall_ms(counts: Sequence[int]) -> dict[str, dict[str, list[float]]]:
    """Milliseconds of the first recall, which makes the vectors, and of later ones."""
    here = Screenshot(Drawn().base)
    found = {}
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            memory = filled(folder)
            small = memory._entries  # the same tasks over and over: adding one by one would time the disk
            memory._entries = [small[index % len(small)] for index in range(count)]
            times = []
            for _ in range(ROUNDS + 1):
                began = time.perf_counter()
                memory.recall("Turn on dark mode", here)
                times.append((time.perf_counter() - began) * 1e3)
            found[str(count)] = {"first": round(times[0], 1), "later": quartiles(times[1:], 1)}
    return found


if __name__ == "__main__":
    recall = {
        "ours": ours(),
        "TF-IDF of words": peer(tfidf(token_pattern=r"(?u)\w+")),
        "TF-IDF of 3 to 5 letters": peer(tfidf(analyzer="char_wb", ngram_range=(3, 5))),
        "TF-IDF of 2 to 4 letters": peer(tfidf(analyzer="char_wb", ngram_range=(2, 4))),
    }
    payload = {"recall": recall, "size": SIZE, "step_ms": step_ms(), "recall_ms": recall_ms(STORED)}
    write_result("agent", payload, packages=("numpy", "pillow", "scikit-learn"))

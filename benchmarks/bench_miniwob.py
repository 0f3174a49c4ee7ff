"""MiniWoB++: what a perfect player reaches in our harness, and how fast it is against the stock one.

python benchmarks/bench_miniwob.py --oracles                 all scripted players, 100 episodes a task
python benchmarks/bench_miniwob.py --oracles --tasks click-link,enter-text --episodes 5      a look; writes nothing
"""

import argparse
import tempfile
from pathlib import Path

from harness import write_result

from visavis.gui.bench.miniwob import OraclePlayer, run
from visavis.gui.bench.miniwob.oracles import ORACLES


def oracles(tasks: list[str], episodes: int, workers: int) -> dict[str, object]:
    """Every task's success, with what went wrong."""
    with tempfile.TemporaryDirectory() as folder:
        results = run(OraclePlayer(), tasks, episodes=episodes, workers=workers, output=Path(folder) / "played.jsonl")
    for task in results.tasks:
        print(f"{task.task:30} {task.wins:4} of {task.episodes:4}  {task.mean_steps:5.1f} steps", *task.problems[:3])
    return results.to_json()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--oracles", action="store_true")
    parser.add_argument("--tasks", default="")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    if options.oracles:
        chosen = options.tasks.split(",") if options.tasks else sorted(ORACLES)
        payload = oracles(chosen, options.episodes, options.workers)
        if not options.tasks:
            write_result("miniwob-oracles", payload, packages=("miniwob", "websockets"))

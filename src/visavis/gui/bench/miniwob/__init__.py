"""MiniWoB++: 128 small tasks on web pages, played from screenshots, many at a time."""

from visavis.gui.bench.miniwob.playing import ModelPlayer, OraclePlayer, Played, Player, play
from visavis.gui.bench.miniwob.running import Results, TaskResult, run
from visavis.gui.bench.miniwob.tasks import EVALUATION_SEEDS, TASKS, TRAINING_SEEDS, Episode, screen_size
from visavis.gui.bench.miniwob.worker import Observation, Worker

__all__ = [
    "EVALUATION_SEEDS",
    "TASKS",
    "TRAINING_SEEDS",
    "Episode",
    "ModelPlayer",
    "Observation",
    "OraclePlayer",
    "Played",
    "Player",
    "Results",
    "TaskResult",
    "Worker",
    "play",
    "run",
    "screen_size",
]

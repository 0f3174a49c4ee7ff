"""Analyses photos on the machines of a Ray cluster, as `visavis.face.workers` does in processes of this one.

This process reads the folders and writes the gallery; the nodes see the photos under the same paths, and have visavis
and the models. A chunk of photos whose process or node has died is given to another; what was found is the same to the
last bit, for a chunk is looked at as a whole wherever it is.
"""

import logging
import os
import secrets
from collections import deque
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Any

from visavis.errors import InputError, MissingExtraError
from visavis.face.analyze import Analyzer
from visavis.face.workers import File, Outcome, Workers

__all__ = ["LOCAL", "RayWorkers"]

LOCAL = "local"
TRIES = 2  # of a chunk as it is, and then of each of its photos alone


@dataclass(frozen=True)
class RayWorkers:
    """A recipe for work on a cluster, which is connected to as long as a `run`.

    Args:
        recipe: how photos are looked at; its count is that of processes where the cluster is `local`.
        address: of the cluster, as Ray takes it: HOST:PORT, ray://HOST:PORT, auto; or local, for one on this computer
            that ends with the run.
    """

    recipe: Workers
    address: str

    def run(self, chunks: Iterable[list[File]]) -> Generator[list[Outcome], None, None]:
        """As `Workers.run`; twice as many chunks are under way as the cluster has processors."""
        source = iter(chunks)
        first = next(source, None)
        if first is None:
            return
        ray = _ray()
        begun = not ray.is_initialized()
        if begun:
            self._connect(ray)
        under_way: dict[Any, tuple[list[File], int]] = {}
        try:
            again = deque([(first, 0)])  # chunks with the number of times they were tried
            recipe, number = ray.put(self.recipe), secrets.token_hex(8)
            look = ray.remote(num_cpus=1, max_retries=0)(_look)
            while True:
                room = 2 * int(ray.cluster_resources().get("CPU", 1))
                while len(under_way) < room:
                    if not again and (chunk := next(source, None)):
                        again.append((chunk, 0))
                    if not again:
                        break
                    files, tried = again.popleft()
                    under_way[look.remote(recipe, number, files)] = files, tried
                if not under_way:
                    return
                [done], _ = ray.wait(list(under_way), num_returns=1)
                files, tried = under_way.pop(done)
                try:
                    yield ray.get(done)
                except ray.exceptions.RayTaskError:
                    raise  # an error of ours, as itself
                except ray.exceptions.RayError:  # the process has died, or the node with what it had found
                    if tried + 1 < TRIES:
                        again.append((files, tried + 1))
                    elif len(files) > 1:
                        again.extend(([file], 0) for file in files)
                    else:
                        yield [
                            Outcome(files[0], "file: decoding it ended the process (damaged, or made to do harm)", [])
                        ]
        finally:
            for reference in under_way:
                ray.cancel(reference, force=True)
            if begun:
                ray.shutdown()

    def _connect(self, ray: Any) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would tell its makers
        own = {"num_cpus": self.recipe.count, "include_dashboard": False} if self.address == LOCAL else {}
        try:
            ray.init(address=self.address, log_to_driver=False, logging_level=logging.ERROR, **own)
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise InputError(f"ray: expected the address of a cluster, got {self.address!r}: {reason}") from error


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise MissingExtraError('ray: expected it to be installed; pip install "visavis[ray]"') from None
    return ray


# What follows runs on a node.

_loaded: tuple[str, Analyzer] | None = None


def _look(recipe: Workers, number: str, files: list[File]) -> list[Outcome]:
    global _loaded
    if _loaded is None or _loaded[0] != number:  # of another run
        _loaded = number, Analyzer(recipe.pack, calibration=recipe.calibration, precision=recipe.precision)
    return recipe.analyze(_loaded[1], files)

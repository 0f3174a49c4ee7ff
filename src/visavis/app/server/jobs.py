"""Index jobs: one at a time, in their order. Their states are kept in a file, so that a restart does not lose them."""

import itertools
import json
import logging
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

from visavis.app.files import draft_of
from visavis.errors import BusyError, VisavisError
from visavis.face.gallery.encryption import wipe
from visavis.face.indexing import IndexReport
from visavis.face.wire import Job, record, told

__all__ = ["Jobs", "Run", "forget_jobs"]

FILE_NAME = "jobs.json"
KEPT = 100  # jobs remembered
WAITING = 20  # at most
NICENESS = 10

Run = Callable[[Path, bool, Callable[[int, int | None], None]], IndexReport]  # folder, prune, progress

_log = logging.getLogger(__name__)


class _CancelledError(Exception):
    """Leaves the run from inside its progress."""


def forget_jobs(folder: Path) -> None:
    """Wipe what is kept of jobs, which holds the paths of photos."""
    wipe(folder / FILE_NAME)


class Jobs:
    """Runs jobs in a thread of their own.

    Args:
        folder: where the states are kept; None: nowhere, and a restart loses them. What was running when the server
            died is "interrupted": the photos it had taken in are kept, and the next job on the folder goes on.
        run: indexes a folder; it is left by an exception out of its progress when the job is cancelled.
    """

    def __init__(self, folder: Path | None, run: Run) -> None:
        self._path, self._run = None if folder is None else folder / FILE_NAME, run
        self._lock = threading.Lock()
        self._cancelled: set[int] = set()
        self._jobs: dict[int, Job] = {}
        with suppress(OSError, ValueError, TypeError):  # no file yet, or one that a failing disk has damaged
            for value in json.loads(self._path.read_bytes()) if self._path else ():
                job: Job = record(Job, value)
                self._jobs[job.id] = job if job.ended else replace(job, state="interrupted")
        self._ids = itertools.count(max(self._jobs, default=0) + 1)
        self._thread = ThreadPoolExecutor(1, "visavis-index", initializer=_give_way)

    def all(self) -> list[Job]:
        """The newest first."""
        with self._lock:
            return sorted(self._jobs.values(), key=lambda job: -job.id)

    def get(self, job_id: int) -> Job | None:
        """The job of that number."""
        return self._jobs.get(job_id)

    def start(self, folder: Path, *, prune: bool) -> Job:
        """Queue a job.

        Raises:
            BusyError: too many wait already.
        """
        with self._lock:
            if sum(job.state == "waiting" for job in self._jobs.values()) >= WAITING:
                raise BusyError(f"jobs: expected at most {WAITING} to wait")
            now = datetime.now(UTC).isoformat(timespec="seconds")
            job = Job(next(self._ids), str(folder), prune, "waiting", now)
            self._jobs[job.id] = job
            for old in [old.id for old in self._jobs.values() if old.ended][: max(0, len(self._jobs) - KEPT)]:
                del self._jobs[old]
            self._save()
        self._thread.submit(self._work, job.id)
        return job

    def cancel(self, job_id: int) -> Job:
        """Stop a job at its next photos; what it has taken in stays. Nothing happens to one that has ended."""
        with self._lock:
            job = self._jobs[job_id]
            if not job.ended:
                self._cancelled.add(job_id)
                if job.state == "waiting":
                    job = self._put(job_id, state="cancelled")
            return job

    def close(self) -> None:
        """Cancel what runs and wait for it."""
        with self._lock:
            self._cancelled |= {job.id for job in self._jobs.values() if not job.ended}
        self._thread.shutdown()

    def _work(self, job_id: int) -> None:
        with self._lock:
            job = self._jobs[job_id]
            if job_id in self._cancelled:
                self._put(job_id, state="cancelled")
                return
            self._put(job_id, state="running")

        def progress(done: int, total: int | None) -> None:
            with self._lock:
                self._jobs[job_id] = replace(self._jobs[job_id], done=done, total=total)
                if job_id in self._cancelled:
                    raise _CancelledError

        try:
            report = self._run(Path(job.folder), job.prune, progress)
        except _CancelledError:
            changes: dict[str, object] = {"state": "cancelled"}
        except (VisavisError, OSError) as error:
            changes = {"state": "failed", "error": str(error)}
        except Exception:
            _log.exception("index job %d", job_id)
            changes = {"state": "failed", "error": "the server failed; its log says how"}
        else:
            changes = {"state": "done", **told(report)}
        with self._lock:
            self._put(job_id, **changes)

    def _put(self, job_id: int, **changes: object) -> Job:
        job = self._jobs[job_id] = replace(self._jobs[job_id], **changes)  # type: ignore[arg-type]  # by name
        self._save()
        return job

    def _save(self) -> None:
        if self._path is None:
            return
        with suppress(OSError), draft_of(self._path) as draft:  # a full disk costs the memory of a job, not the job
            draft.write_bytes(json.dumps([asdict(job) for job in self._jobs.values()]).encode())


def _give_way() -> None:
    """Let the thread and the processes that it starts run where questions leave the processor free (Linux)."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)

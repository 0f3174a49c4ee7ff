"""Index jobs, and what they could not read."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from visavis.face.wire.base import (
    SKIPPED,
    described,
    text_of,
)

if TYPE_CHECKING:
    from visavis.face.indexing import IndexReport

__all__ = ["Job", "JobState", "Skipped", "told"]

SKIPPED_TOLD = 1000  # of a job

JobState = Literal["waiting", "running", "done", "cancelled", "failed", "interrupted"]


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that could not be read as a photo."""

    __pydantic_config__: ClassVar[Any] = described(**SKIPPED)
    path: str
    reason: str

    @classmethod
    def of(cls, path: Path, reason: str) -> "Skipped":
        """From a report or row of the gallery."""
        return cls(text_of(path), reason)


@dataclass(frozen=True, slots=True)
class Job:
    """An index job."""

    __pydantic_config__: ClassVar[Any] = described(
        id=1,
        folder="/home/ada/Photos",
        prune=False,
        state="done",
        created_at="2026-05-01T12:30:00+00:00",
        done=14,
        total=14,
        added=12,
        changed=1,
        known=0,
        removed=0,
        unchanged=286,
        ignored=0,
        faces=17,
        skipped=1,
        skipped_files=[SKIPPED],
        kept_missing=[],
        error=None,
    )
    id: int
    folder: str
    prune: bool
    state: JobState
    created_at: str
    """In UTC."""
    done: int = 0
    """Files looked at."""
    total: int | None = None
    """Files to look at; null: not known yet."""
    added: int = 0
    """Photos; this and what follows is told when the job is done."""
    changed: int = 0
    """Photos under a path that held another one."""
    known: int = 0
    """Files whose content was known under another path: moved, renamed or copied."""
    removed: int = 0
    """Photos whose last file is gone."""
    unchanged: int = 0
    """Files."""
    ignored: int = 0
    """Files that neither are photos nor are named like one."""
    faces: int = 0
    """New ones."""
    skipped: int = 0
    """Files that could not be read."""
    skipped_files: list[Skipped] = field(default_factory=list)
    """The first thousand of them."""
    kept_missing: list[str] = field(default_factory=list)
    """Folders that held photos and now hold no file at all; their photos stay unless pruned."""
    error: str | None = None

    @property
    def ended(self) -> bool:
        return self.state not in ("waiting", "running")


def told(report: "IndexReport") -> dict[str, Any]:
    """What a job tells when it is done."""
    names = ("added", "changed", "known", "removed", "unchanged", "ignored", "faces")
    return {
        **{name: getattr(report, name) for name in names},
        "skipped": len(report.skipped),
        "skipped_files": [Skipped.of(path, reason) for path, reason in report.skipped[:SKIPPED_TOLD]],
        "kept_missing": [text_of(path) for path in report.kept_missing],
    }

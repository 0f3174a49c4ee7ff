"""The face of each photo of a data set, embedded once and kept: a run that was killed goes on where it was.

Such data sets mean the face in the middle, so of several the one nearest to it counts, and weaker and smaller faces
than in a user's photos are taken, for one is known to be there. Every photo is analysed by itself: figures do not hang
on which photos share a batch.
Shapes: N photos, D embedding length.
"""

import contextlib
import hashlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from visavis import __version__
from visavis.errors import InputError
from visavis.face.match import Calibration
from visavis.face.models import Pack, pull
from visavis.face.records import Detection, Photo
from visavis.face.runtime import Precision
from visavis.face.workers import AnalysisOptions, File, Workers, cores

__all__ = ["Faces", "central", "embed_photos"]

OPTIONS = AnalysisOptions(min_score=0.3, min_size_px=4.0)
_KEEP_EVERY = 64  # photos that a killed run may have to do again


@dataclass(frozen=True, slots=True, eq=False)
class Faces:
    """Row by row the face of a photo; zeros where there is none."""

    embeddings: NDArray[np.float32]  # [N, D]
    boxes_xyxy_px: NDArray[np.float32]  # [N, 4] in the upright photo
    unreadable: dict[int, str]  # rows of files that are no photo we can read, with the reason

    @property
    def found(self) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = np.any(self.embeddings, axis=1)
        return found


def embed_photos(
    photos: Sequence[Path],
    pack: Pack,
    *,
    cache: Path | None = None,
    workers: int | None = None,
    precision: Precision = "bfloat16",
    accept_licence: bool = False,
    progress: Callable[[int, int | None], None] | None = None,
) -> Faces:
    """Find and embed the face of each photo; a path that comes again is not looked at again.

    Args:
        photos: N existing files.
        pack: the models; its calibration is not needed.
        cache: a file to keep embeddings in, made when absent. What it holds is found by the content of the photo, all
            that the pack says of its models, `precision` and the version of visavis.
        workers: processes; all cores when absent.
        precision: of the embedder, as the face system uses it.
        accept_licence: take weights that are for research only.
        progress: called with the number of files done and their total.

    Raises:
        InputError: no photo gave a face, or `cache` is no such file.
        ModelError: the pack's models cannot be had or loaded.
    """
    for spec in (pack.detector, pack.embedder):
        pull(spec, accept_licence=accept_licence)
    paths = list(dict.fromkeys(photos))
    report = progress or (lambda _done, _total: None)
    known: dict[Path, tuple[bytes, bytes] | None] = {}
    unreadable: dict[Path, str] = {}
    with contextlib.closing(_Cache(cache, _models_key(pack, precision))) as kept:
        todo = []
        for path in paths:
            digest = _sha256(path)
            if digest is not None and digest in kept:
                known[path] = kept[digest]
            else:
                todo.append(File(path, 0, 0))
        report(len(known), len(paths))
        recipe = Workers(pack, _no_calibration(), OPTIONS, precision, workers or cores())
        with contextlib.closing(recipe.run([file] for file in todo)) as outcomes:
            for done, [outcome] in enumerate(outcomes, 1):
                if isinstance(outcome.photo, str):
                    unreadable[outcome.file.path] = outcome.photo
                else:
                    number = central([face.detection for face in outcome.faces], outcome.photo)
                    value = None
                    if number is not None:
                        face = outcome.faces[number]
                        value = _floats(face.embedding), _floats(face.detection.box_xyxy_px)
                    known[outcome.file.path] = value
                    kept.add(outcome.photo.sha256, value)
                report(len(paths) - len(todo) + done, len(paths))
    vectors = {path: np.frombuffer(value[0], np.float32) for path, value in known.items() if value is not None}
    if not vectors:
        told = f"; of the first: {next(iter(unreadable.values()))}" if unreadable else ""
        raise InputError(f"data: expected photos with faces, got none among {len(paths)}{told}")
    dim = len(next(iter(vectors.values())))
    embeddings, boxes = np.zeros((len(photos), dim), np.float32), np.zeros((len(photos), 4), np.float32)
    for row, path in enumerate(photos):
        value = None if path in unreadable else known[path]
        if value is not None:
            embeddings[row], boxes[row] = vectors[path], np.frombuffer(value[1], np.float32)
    return Faces(embeddings, boxes, {row: unreadable[path] for row, path in enumerate(photos) if path in unreadable})


def central(detections: Sequence[Detection], photo: Photo) -> int | None:
    """The number of the face nearest to the middle of the photo; None: no face."""
    if not detections:
        return None
    middle = (np.array([photo.width_px, photo.height_px]) - 1) / 2
    centres = np.stack([detection.box_xyxy_px.reshape(2, 2).mean(0) for detection in detections])
    return int(np.argmin(np.linalg.norm(centres - middle, axis=1)))


class _Cache:
    """Embedding and box, or that there is no face, by the hash of the photo; in memory where no file is given."""

    def __init__(self, path: Path | None, models: str) -> None:
        self._models = models
        self._path = path
        self._waiting = 0
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)  # it holds faces
        with self._errors():
            self._connection = sqlite3.connect(":memory:" if path is None else path)
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS faces "
                "(models TEXT, photo TEXT, embedding BLOB, box BLOB, PRIMARY KEY (models, photo))"
            )
            rows = self._connection.execute("SELECT photo, embedding, box FROM faces WHERE models = ?", [models])
            self._held = {photo: None if vector is None else (vector, box) for photo, vector, box in rows}

    def __contains__(self, photo: str) -> bool:
        return photo in self._held

    def __getitem__(self, photo: str) -> tuple[bytes, bytes] | None:
        return self._held[photo]

    def add(self, photo: str, value: tuple[bytes, bytes] | None) -> None:
        with self._errors():
            row = [self._models, photo, *(value or (None, None))]
            self._connection.execute("INSERT OR REPLACE INTO faces VALUES (?, ?, ?, ?)", row)
            self._waiting += 1
            if self._waiting == _KEEP_EVERY:
                self._connection.commit()
                self._waiting = 0

    def close(self) -> None:
        with self._errors():
            self._connection.commit()
            self._connection.close()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise InputError(
                f"{self._path}: expected the embeddings that an earlier run kept there, got {error}; "
                "delete the file, or choose another folder"
            ) from error


def _models_key(pack: Pack, precision: Precision) -> str:
    """All that decides on an embedding, but for the photo."""
    parts = [
        (spec.kind, spec.input, spec.outputs, spec.template, spec.flip, spec.digest)
        for spec in (pack.detector, pack.embedder)
    ]
    return hashlib.sha256(repr((parts, OPTIONS, precision, __version__)).encode()).hexdigest()


def _no_calibration() -> Calibration:
    from visavis.face.calibrate import UNCALIBRATED  # which takes measures from this folder

    return UNCALIBRATED


def _sha256(path: Path) -> str | None:
    """None: the file cannot be read, as a worker will say."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _floats(values: NDArray[np.float32]) -> bytes:
    return np.ascontiguousarray(values, np.float32).tobytes()

"""Faces to train on: the photos of people, searched, aligned and cut once, into a cache on disk.

The photos come from a folder with a sub-folder for each person, or from a gallery with its people. What cannot be used
is told before training starts, all of it at once.

N: faces, S: side of a crop with its border, px. Colours are RGB. Points are (x, y) in pixels of the crop.
"""

import functools
import hashlib
import mimetypes
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from visavis.errors import InputError, LandmarkError, PhotoError
from visavis.face.align import TEMPLATES, align
from visavis.face.detect import Detector
from visavis.face.gallery import Gallery
from visavis.face.gallery.database import FILE_NAME
from visavis.face.indexing import absolute
from visavis.face.models import ModelSpec, Pack, pull
from visavis.face.photos import Decoded, looks_like_photo
from visavis.face.runtime import Network
from visavis.face.train.cache import CropCache, Cut, HashedFile, Stored
from visavis.face.workers import AnalysisOptions, cores, process_pool

__all__ = ["Crops", "crops", "template_points"]

Pixels = NDArray[np.uint8]
Points = NDArray[np.float32]
Progress = Callable[[int, int | None], None]

_OPTIONS = AnalysisOptions()
_CHUNK = 8  # photos a worker takes at once
_PHOTOS_A_WORKER = 64  # fewer are done sooner than another process has started
_WRITE_EVERY = 64  # photos, about a second of work to lose
_LISTED = 20  # of what cannot be used, in an error


def _silent(_done: int, _total: int | None) -> None:
    """No progress shown."""


@dataclass(frozen=True, slots=True, eq=False)
class Crops:
    """Aligned faces and whose they are. The pixels stay on disk until `images` reads them."""

    store: Pixels  # [M, S, S, 3], the whole cache, on disk
    rows: NDArray[np.int64]  # [N], of `store`
    landmarks: Points  # [N, 5, 2]
    labels: NDArray[np.int64]  # [N] into `people`, each there at least twice; all -1 where nobody was told
    people: tuple[str, ...]
    paths: tuple[Path, ...]  # [N]
    size: int  # px, without the border
    border: int  # px more on each side
    template: NDArray[np.float64]  # [5, 2], where landmarks belong in a crop of `size`, without the border
    skipped: tuple[tuple[Path, str], ...] = ()  # what could not be used, with the reason

    def __len__(self) -> int:
        return len(self.rows)

    def images(self, index: NDArray[np.int64] | slice = slice(None)) -> Pixels:
        """uint8 [n, S, S, 3], read from disk: all, or those of an index."""
        return np.asarray(self.store[self.rows[index]])

    def of(self, people: Sequence[int] | NDArray[np.int64]) -> "Crops":
        """The faces of some people alone, whose labels become 0, 1, ... in the order given.

        Raises:
            InputError: a number that is nobody's, or twice the same.
        """
        chosen = np.asarray(people, np.int64)
        if len(set(chosen.tolist())) != len(chosen) or not ((chosen >= 0) & (chosen < len(self.people))).all():
            raise InputError(f"people: expected different numbers below {len(self.people)}, got {chosen.tolist()[:10]}")
        new = np.full(len(self.people), -1, np.int64)
        new[chosen] = np.arange(len(chosen))
        labels = new[self.labels] if len(self.people) else self.labels
        kept = np.flatnonzero(labels >= 0)
        return replace(
            self,
            rows=self.rows[kept],
            landmarks=self.landmarks[kept],
            labels=labels[kept],
            people=tuple(self.people[number] for number in chosen),
            paths=tuple(self.paths[number] for number in kept),
        )


def template_points(size: int) -> NDArray[np.float64]:
    """ArcFace's template of 112 px in a crop of another size, [5, 2]: between the centres of pixels, as points are.

    >>> template_points(56)[0].round(4).tolist()
    [18.8973, 25.5982]
    """
    return (TEMPLATES["arcface-112"] + 0.5) * (size / 112) - 0.5


def crops(
    data: Path,
    pack: Pack,
    *,
    cache: Path,
    size: int = 112,
    border: int = 0,
    template: NDArray[np.float64] | None = None,
    labelled: bool = True,
    skip_bad: bool = False,
    workers: int | None = None,
    accept_licence: bool = False,
    progress: Progress = _silent,
) -> Crops:
    """The faces of a folder or gallery, cut for training; photos that the cache knows are not looked at again.

    Of a photo in a person's folder the largest face is taken; of a gallery, the faces that were sorted to somebody, as
    they were found then. Copies of a photo count once. Hidden files and folders are passed over, and so are files that
    neither are photos nor are named like one.

    Args:
        data: a folder with a sub-folder for each person, photos in it at any depth; or a gallery.
        pack: its detector looks for faces; not used for a gallery.
        cache: a folder, made when absent; may serve any number of data sets.
        size: of the crop, px.
        border: px more on each side, to shift, turn and scale crops without an empty edge.
        template: [5, 2], where landmarks belong in a crop of `size` without its border; ArcFace's when absent.
        labelled: False: `data` is any folder of photos; every face of each is taken, and all labels are -1.
        skip_bad: leave out what cannot be used, and name it in `Crops.skipped`; else it is an error.
        workers: processes; as many as there are cores, but no more than pay, when absent.
        accept_licence: of the detector's weights, where it is for research only.
        progress: called with the number of photos done and their total.

    Raises:
        InputError: photos that cannot be read or have no face, people with fewer than two, one photo in two people's
            folders, all of them listed; or fewer than two people.
        GalleryError: the gallery cannot be opened.
        ModelError: the detector cannot be had.
    """
    if not (16 <= size <= 1024 and 0 <= border <= size):
        raise InputError(f"size, border: expected 16 to 1024 px and at most as much again, got {size} and {border}")
    points = template_points(size) if template is None else template
    found = _look_for_photos(absolute(data), labelled)
    bad = list(found.bad)
    if not skip_bad:
        _refuse(bad)
    shots = found.shots
    recipe: dict[str, object] = {"template": np.round(points, 4).tolist(), "size": size, "border": border}
    cutter = _Cutter(None, None, points + border, size + 2 * border)
    if any(shot.landmarks is None for shot in shots):
        cutter = replace(cutter, spec=pack.detector, network=pull(pack.detector, accept_licence=accept_licence))
        recipe |= {"detector": pack.detector.digest}
    with CropCache(absolute(cache), recipe, cutter.side) as opened:
        taken, unusable = _cut_all(opened, cutter, shots, workers, progress)
        store = opened.images()
    faces = [
        (shot, stored)
        for shot, stored_faces in zip(shots, taken, strict=True)
        for stored in (stored_faces[:1] if labelled else stored_faces)
    ]
    bad += unusable
    if labelled:
        faces, unfit = _only_people(faces, data)
        bad += unfit
    if not skip_bad:
        _refuse(bad)
    people = sorted({shot.person for shot, _ in faces}) if labelled else []
    if labelled and len(people) < 2:
        raise InputError(
            f"data: expected a sub-folder of photos for each of two people or more, or a gallery with as many, "
            f"got {len(people)} in {data}"
        )
    if not faces:
        raise InputError(f"data: expected photos with a face, got none in {data}")
    number = {person: label for label, person in enumerate(people)}
    return Crops(
        store,
        np.array([stored.row for _, stored in faces], np.int64),
        np.stack([stored.landmarks for _, stored in faces]),
        np.array([number.get(shot.person, -1) for shot, _ in faces], np.int64),
        tuple(people),
        tuple(shot.path for shot, _ in faces),
        size,
        border,
        points,
        tuple(bad),
    )


# What there is

Bad = list[tuple[Path, str]]


class _Shot(NamedTuple):
    """A photo to cut faces out of, or one face of it."""

    path: Path
    person: str
    landmarks: Points | None = None  # [5, 2] in pixels of the upright photo; None: to be looked for
    sha256: str | None = None  # of the photo those landmarks are of


class _Found(NamedTuple):
    shots: list[_Shot]
    bad: Bad


def _look_for_photos(data: Path, labelled: bool) -> _Found:
    if not data.is_dir():
        raise InputError(f"data: expected a folder or a gallery, got {data}")
    if (data / FILE_NAME).exists():
        return _in_gallery(data)
    if not labelled:
        shots, bad = _below(data, "")
        return _Found(shots, bad)
    shots, bad = [], []
    for entry in sorted(data.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            theirs, unfit = _below(entry, entry.name)
            shots += theirs
            bad += unfit
            if len(theirs) < 2:
                bad.append((entry, _too_few(len(theirs))))
        elif entry.is_file() and _is_photo(entry) is not False:
            bad.append((entry, "photo: expected in the folder of a person, got it beside those"))
    return _Found(shots, bad)


def _below(folder: Path, person: str) -> tuple[list[_Shot], Bad]:
    shots, bad = [], []
    for path in sorted(folder.rglob("*")):
        if any(part.startswith(".") for part in path.relative_to(folder).parts) or not path.is_file():
            continue
        match _is_photo(path):
            case True:
                shots.append(_Shot(path, person))
            case None:
                bad.append((path, "file: expected a photo, got other content under a photo's name"))
    return shots, bad


def _is_photo(path: Path) -> bool | None:
    """None: it is only named like one, or cannot be opened."""
    try:
        with path.open("rb") as stream:
            if looks_like_photo(stream.read(32)):
                return True
    except OSError:
        return None
    named_like_one = (mimetypes.guess_type(path.name)[0] or "").startswith("image/")
    return None if named_like_one else False


def _in_gallery(folder: Path) -> _Found:
    shots: list[_Shot] = []
    bad: Bad = []
    with Gallery.open(folder) as gallery:
        hashes = {row.path: row.sha256 for row in gallery.files()}
        for person in gallery.people():
            name = f"person {person.id}" if person.name is None else person.name
            rows = gallery.faces(person=person.id)
            there = [row for row in rows if row.path is not None and row.path.is_file()]
            for row in rows:
                if row not in there:
                    bad.append((row.path or folder, f"file: the photo of face {row.id}, of {name}, is gone"))
            for row in there:
                assert row.path is not None
                shots.append(_Shot(row.path, name, row.detection.landmarks_xy_px, hashes[row.path]))
            if rows and len(there) < 2:
                bad.append((folder, f"{name}: {_too_few(len(there))}"))
    return _Found(shots, bad)


def _too_few(count: int) -> str:
    return f"person: expected two different photos with a face or more, got {count}"


def _only_people(faces: list[tuple[_Shot, Stored]], data: Path) -> tuple[list[tuple[_Shot, Stored]], Bad]:
    """Without copies, what is in two people's folders, and people of whom then fewer than two photos are left."""
    owners: dict[int, set[str]] = {}
    for shot, stored in faces:
        owners.setdefault(stored.row, set()).add(shot.person)
    bad: Bad = []
    kept: dict[str, dict[int, tuple[_Shot, Stored]]] = {}
    for shot, stored in faces:
        others = owners[stored.row] - {shot.person}
        if others:
            bad.append((shot.path, f"photo: expected to be of one person, got a copy with {min(others)}"))
        else:
            kept.setdefault(shot.person, {}).setdefault(stored.row, (shot, stored))
    for person in sorted({shot.person for shot, _ in faces}):
        if len(kept.get(person, ())) < 2:
            bad.append((data / person, _too_few(len(kept.get(person, ())))))
    return [face for theirs in kept.values() if len(theirs) > 1 for face in theirs.values()], bad


def _refuse(bad: Bad) -> None:
    if bad:
        lines = [f"{path}: {reason}" for path, reason in bad[:_LISTED]]
        more = [f"... and {len(bad) - _LISTED} more"] if len(bad) > _LISTED else []
        raise InputError(
            "data: expected readable photos with a face, two or more of each person, got others; mend them, or leave "
            "them out with --skip-bad (skip_bad=True)\n  " + "\n  ".join(lines + more)
        )


# Cutting


def _cut_all(
    cache: CropCache, cutter: "_Cutter", shots: Sequence[_Shot], workers: int | None, progress: Progress
) -> tuple[list[list[Stored]], Bad]:
    """The crops of each shot, and why there is none."""
    bad: Bad = []
    keys: list[str | None] = []
    for shot, digest in zip(shots, _digests(cache, shots), strict=True):
        keys.append(None)
        if digest is None:
            bad.append((shot.path, "file: cannot be read"))
        elif shot.sha256 not in (None, digest):
            bad.append((shot.path, "photo: changed since the gallery saw it; run `visavis face index` first"))
        else:
            keys[-1] = digest if shot.landmarks is None else f"{digest}:{shot.landmarks.astype('<f4').tobytes().hex()}"
    fresh: dict[str, _Shot] = {}
    for key, shot in zip(keys, shots, strict=True):
        if key is not None and cache.stored(key) is None:
            fresh.setdefault(key, shot)
    count = cores() if workers is None else workers
    if count < 1:
        raise InputError(f"workers: expected at least 1, got {count}")
    if workers is None:
        count = min(count, -(-len(fresh) // _PHOTOS_A_WORKER))
    done, failed = len(shots) - len(fresh), dict[str, str]()
    waiting: list[tuple[str, Sequence[Cut]]] = []
    progress(done, len(shots))
    for pairs, results in _run(cutter, list(fresh.items()), count):
        for (key, _), result in zip(pairs, results, strict=True):
            if isinstance(result, str):
                failed[key] = result
            else:
                waiting.append((key, result))
        if len(waiting) >= _WRITE_EVERY:
            cache.add(waiting)
            waiting = []
        done += len(pairs)
        progress(done, len(shots))
    cache.add(waiting)
    taken: list[list[Stored]] = []
    for key, shot in zip(keys, shots, strict=True):
        if key is None:
            taken.append([])
            continue
        taken.append(cache.stored(key) or [])
        if not taken[-1]:
            bad.append((shot.path, failed.get(key, "photo: expected a face, found none")))
    return taken, bad


def _digests(cache: CropCache, shots: Sequence[_Shot]) -> Iterator[str | None]:
    """The hash of each shot's file, noted or made now; None where it cannot be read."""
    fresh = []
    for shot in shots:
        try:
            status = shot.path.stat()
            digest = cache.sha256(shot.path, status.st_size, status.st_mtime_ns)
            if digest is None:
                with shot.path.open("rb") as stream:
                    digest = hashlib.file_digest(stream, "sha256").hexdigest()
                fresh.append(HashedFile(shot.path, status.st_size, status.st_mtime_ns, digest))
            yield digest
        except OSError:
            yield None
    cache.note(fresh)


_Result = list[Cut] | str  # a string says why there is none
_Pair = tuple[str, _Shot]  # the key and what to cut


@dataclass(frozen=True)
class _Cutter:
    """Looks for the faces of photos and cuts them out; goes to worker processes as it is."""

    spec: ModelSpec | None  # of the detector; None: all landmarks are known
    network: Path | None
    template: NDArray[np.float64]  # [5, 2], in a crop with its border
    side: int

    def __call__(self, shots: list[_Shot]) -> list[_Result]:
        results: list[_Result] = []
        decoded: list[tuple[int, Decoded]] = []
        for place, shot in enumerate(shots):
            try:
                photo = _OPTIONS.read(shot.path)
                results.append([])
            except PhotoError as error:
                results.append(str(error))
                continue
            if shot.landmarks is None:
                decoded.append((place, photo))
            else:
                results[place] = self._cut(photo, [(shot.landmarks + 0.5) * np.float32(photo.scale) - np.float32(0.5)])
        if decoded:
            assert self.spec is not None
            assert self.network is not None
            found = _detector(self.spec, self.network)(
                [photo.pixels for _, photo in decoded],
                min_score=_OPTIONS.min_score,
                min_size_px=[_OPTIONS.min_size_px * photo.scale for _, photo in decoded],
                long_side_px=_OPTIONS.long_side_px,
            )
            for (place, photo), detections in zip(decoded, found, strict=True):
                areas = [np.prod(one.box_xyxy_px[2:] - one.box_xyxy_px[:2]) for one in detections]
                order = np.argsort(-np.array(areas), kind="stable")
                results[place] = self._cut(photo, [detections[number].landmarks_xy_px for number in order])
        return results

    def _cut(self, photo: Decoded, faces: Iterable[Points]) -> list[Cut]:
        cuts = []
        for landmarks in faces:
            try:
                face = align(photo.pixels, landmarks, self.template, width=self.side, height=self.side)
            except LandmarkError:  # landmarks on one spot: whatever was detected, it is no face
                continue
            cuts.append(Cut(face.crop, (landmarks @ face.matrix[:, :2].T + face.matrix[:, 2]).astype(np.float32)))
        return cuts


@functools.lru_cache(maxsize=1)
def _detector(spec: ModelSpec, network: Path) -> Detector:
    """Loaded once in each process."""
    return Detector(Network(network, network.name, fixed_size=False), spec)


def _run(cutter: _Cutter, pairs: list[_Pair], workers: int) -> Iterator[tuple[list[_Pair], list[_Result]]]:
    """Cut all, in any order; with one worker here and now."""
    chunks = [pairs[start : start + _CHUNK] for start in range(0, len(pairs), _CHUNK)]
    if workers <= 1:
        for chunk in chunks:
            yield chunk, cutter([shot for _, shot in chunk])
        return
    left: Iterator[list[_Pair]] = iter(chunks)
    lost: list[list[_Pair]] = []
    waiting: dict[Future[list[_Result]], list[_Pair]] = {}
    pool = process_pool(workers)
    try:
        while True:
            while not lost and len(waiting) < 2 * workers and (chunk := next(left, [])):
                try:
                    waiting[pool.submit(cutter, [shot for _, shot in chunk])] = chunk
                except BrokenProcessPool:
                    lost.append(chunk)
            if not waiting:
                break
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                chunk = waiting.pop(future)
                try:
                    yield chunk, future.result()
                except BrokenProcessPool:  # and with it all that was handed to the pool
                    lost.append(chunk)
    finally:
        pool.shutdown(kill_workers=True)
    for chunk in lost:
        for pair in chunk:
            yield [pair], [_alone(cutter, pair[1])]
    yield from _run(cutter, [pair for chunk in left for pair in chunk], workers) if lost else ()


def _alone(cutter: _Cutter, shot: _Shot) -> _Result:
    """Cut one photo in a process of its own, for it may be the one that brings its decoder down."""
    pool: Any = process_pool(1)
    try:
        result: _Result = pool.submit(cutter, [shot]).result()[0]
        return result
    except BrokenProcessPool:
        return "file: decoding it ended the process (damaged, or made to do harm)"
    finally:
        pool.shutdown(kill_workers=True)

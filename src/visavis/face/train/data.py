"""Faces to train on: the photos of people, searched, aligned and cut once, into a cache on disk.

The photos come from a folder with a sub-folder for each person, or from a gallery with its people. What cannot be used
is told before training starts, all of it at once.

N: faces, S: side of a crop with its border, px. Colours are RGB. Points are (x, y) in pixels of the crop.
"""

import mimetypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from visavis.errors import InputError, expect
from visavis.face.align import TEMPLATES
from visavis.face.gallery import FolderGallery
from visavis.face.gallery.database import FILE_NAME
from visavis.face.indexing import absolute
from visavis.face.models import Pack, pull
from visavis.face.photos import looks_like_photo, visible_files
from visavis.face.train.cache import CropCache, Stored
from visavis.face.train.cutting import Bad, Cutter, Shot, cut_all

__all__ = ["Crops", "crops", "template_points"]

Pixels = NDArray[np.uint8]
Points = NDArray[np.float32]
Progress = Callable[[int, int | None], None]

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

    @classmethod
    def from_images(cls, images: Pixels, labels: NDArray[np.int64], *, border: int = 0) -> "Crops":
        """Faces that are aligned already, to ArcFace's template.

        Args:
            images: uint8 [N, S, S, 3] RGB, in memory or a memmap.
            labels: int64 [N] from 0, each number at least twice.
            border: px around the crop proper, on each side.

        Raises:
            TensorError: shapes or types other than these.
            InputError: a label left out or there once, fewer than two people, or a border that leaves no crop.
        """
        expect("images", images, "uint8", None, None, None, 3)
        expect("images", images, "uint8", None, images.shape[1], images.shape[1], 3)
        expect("labels", labels, "int64", len(images))
        size = images.shape[1] - 2 * border
        if border < 0 or size < 1:
            raise InputError(f"border: expected one that leaves a crop of {images.shape[1]} px, got {border}")
        counts = np.bincount(labels[labels >= 0])
        if (labels < 0).any() or len(counts) < 2 or counts.min() < 2:
            raise InputError("labels: expected 0, 1, ... for two people or more, each at least twice, got others")
        points = template_points(size)
        return cls(
            images,
            np.arange(len(images)),
            np.tile((points + border).astype(np.float32), (len(images), 1, 1)),
            labels,
            tuple(map(str, range(len(counts)))),
            tuple(Path(str(number)) for number in range(len(images))),
            size,
            border,
            points,
        )

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
    cutter = Cutter(None, None, points + border, size + 2 * border)
    if any(shot.landmarks is None for shot in shots):
        cutter = replace(cutter, spec=pack.detector, network=pull(pack.detector, accept_licence=accept_licence))
        recipe |= {"detector": pack.detector.digest}
    with CropCache(absolute(cache), recipe, cutter.side) as opened:
        taken, unusable = cut_all(opened, cutter, shots, workers, progress)
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


class _Found(NamedTuple):
    shots: list[Shot]
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


def _below(folder: Path, person: str) -> tuple[list[Shot], Bad]:
    shots, bad = [], []
    for path in visible_files(folder):
        match _is_photo(path):
            case True:
                shots.append(Shot(path, person))
            case None:
                bad.append((path, "file: expected a photo, got other content under a photo's name"))
    return shots, bad


def _is_photo(path: Path) -> bool | None:
    """None: it is only named like one."""
    try:
        with path.open("rb") as stream:
            if looks_like_photo(stream.read(32)):
                return True
    except OSError:
        return True  # why it cannot be read is told where photos are
    named_like_one = (mimetypes.guess_type(path.name)[0] or "").startswith("image/")
    return None if named_like_one else False


def _in_gallery(folder: Path) -> _Found:
    shots: list[Shot] = []
    bad: Bad = []
    with FolderGallery.open(folder) as gallery:
        hashes = {row.path: row.sha256 for row in gallery.files()}
        for person in gallery.people():
            name = f"person {person.id}" if person.name is None else person.name
            theirs = []
            for row in gallery.faces(person=person.id):
                if row.path is not None and row.path.is_file():
                    theirs.append(Shot(row.path, name, row.detection.landmarks_xy_px, hashes[row.path]))
                else:
                    bad.append((row.path or folder, f"file: the photo of face {row.id}, of {name}, is gone"))
            if person.faces and len(theirs) < 2:
                bad.append((folder / name, _too_few(len(theirs))))
            shots += theirs
    return _Found(shots, bad)


def _too_few(count: int) -> str:
    return f"person: expected two different photos with a face or more, got {count}"


def _only_people(faces: list[tuple[Shot, Stored]], data: Path) -> tuple[list[tuple[Shot, Stored]], Bad]:
    """Without copies, what is in two people's folders, and people of whom then fewer than two photos are left."""
    owners: dict[int, set[str]] = {}
    for shot, stored in faces:
        owners.setdefault(stored.row, set()).add(shot.person)
    bad: Bad = []
    kept: dict[str, dict[int, tuple[Shot, Stored]]] = {}
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

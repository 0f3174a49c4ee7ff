"""The main job from end to end, on sample photos or on the user's own."""

import hashlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

import numpy as np

from visavis.app.report import PhotoAnswer, contact_sheet, write_report
from visavis.errors import InputError, ModelError
from visavis.face.indexing import absolute
from visavis.face.models import PypiSource, fetch, store_folder
from visavis.face.system import FaceSystem

if TYPE_CHECKING:
    from visavis.face.gallery import FaceRow
    from visavis.face.indexing import IndexReport

__all__ = ["DemoResult", "demo", "sample_photos"]

# Photos by the White House, works of the United States government and so in the public domain.
SAMPLES = {
    "biden.jpg": (353723, "3c17508bb91554c637a2eabddfae790e5bb1caba93130814fc2ac50be9760c4c"),
    "obama.jpg": (279922, "0930e3aa8cae5920329c0c8cbc6a2ab70f47b0e67b432875beaa95cbf7e741f6"),
    "obama2.jpg": (184455, "a7efcc907375274796f39646510704aa86672d59f6d5469d69af3c85590976a6"),
    "obama3.jpg": (595944, "76ac6bf97c36dc2da0ad16a537d6a5ac1b10f48d49aac29a0cca9a17cdbc3ca3"),
    "obama_partial_face.jpg": (423060, "c2d1f09e7ef3042352b41e41286e6eb0522f64f88308be13886991b95db52117"),
    "obama_partial_face2.jpg": (478346, "9a812347f97633542b8cd9992de22def11b74f79d82056bc3ee830f13878e028"),
}
ARCHIVE_SHA256 = "5e5efdd1686aa566af0d3cc1313b131e4b197657a8ffd03669e6d3fad92705ec"
PHOTOS_SHOWN = 12
SOMEBODY = "Somebody"  # whoever is named in photos of one's own

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True)
class DemoResult:
    report: Path
    contact_sheet: Path
    indexed: "IndexReport"
    name: str | None  # the person named; None: no face in any photo
    named_from: Path | None
    answers: list[PhotoAnswer]
    people: int


def sample_photos(progress: Progress | None = None) -> Path:
    """The folder with the sample photos; they are fetched once and kept beside the models.

    Raises:
        ModelError: they are not here yet and cannot be had through pip.
    """
    folder = store_folder() / "samples"
    folder.mkdir(parents=True, exist_ok=True)
    for done, (name, (size, digest)) in enumerate(SAMPLES.items()):
        if progress:
            progress(done, len(SAMPLES))
        if _has_digest(folder / name, digest):
            continue
        member = f"face_recognition-1.3.0/tests/test_images/{name}"
        source = PypiSource("face-recognition", "1.3.0", member, ARCHIVE_SHA256, False)
        # In a folder of its own: another run may fetch at the same time.
        with tempfile.TemporaryDirectory(prefix=".samples-", dir=store_folder()) as scratch:
            part = Path(scratch) / name
            fetch(source, part, size, lambda *_: None)
            if not _has_digest(part, digest):
                raise ModelError(f"{name}: expected the sample photo, got other content")
            part.replace(folder / name)
    return folder


def _has_digest(path: Path, digest: str) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == digest


def demo(photos: Path | None, output: Path, *, pack: str, progress: Callable[[str], Progress]) -> DemoResult:
    """Index, name one person from one photo, identify that person in others, sort everybody, and show it all.

    Args:
        photos: a folder; None: the sample photos.
        output: where report and contact sheet go, and a gallery for each folder of photos and pack; made when absent,
            for the owner alone.
        pack: the models.
        progress: given a label, returns the function to report to.

    Raises:
        InputError: `photos` is no folder, or `output` lies in it, so that the next run would take in the pictures.
    """
    given, output = output, absolute(output)
    if photos is not None:
        if not absolute(photos).is_dir():
            raise InputError(f"photos: expected a folder, got {str(photos)!r}")
        if output.resolve().is_relative_to(absolute(photos).resolve()):
            raise InputError(f"output: expected a folder outside of the photos, got {str(given)!r}")
    output.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = sample_photos(progress("sample photos")) if photos is None else absolute(photos)
    key = hashlib.sha256(os.fsencode(folder) + b"\0" + pack.encode()).hexdigest()[:8]
    with FaceSystem.open(output / f"gallery-{key}.visavis", pack=pack) as system:
        indexed = system.index(folder, clusters=False, progress=progress("photos"))
        named_from, name = (
            (folder / "obama.jpg", "Barack Obama") if photos is None else (_to_name(system, folder), SOMEBODY)
        )
        answers = []
        if named_from is not None:
            system.enroll(name, [named_from])
            others = _photos_like(system, named_from, folder)[:PHOTOS_SHOWN]
            report = progress("identify")
            for done, path in enumerate(others):
                answers.append(PhotoAnswer(path, system.identify(path)))
                report(done + 1, len(others))
        system.cluster()
        people = sum(row.faces > 0 for row in system.gallery.people())
        write_report(system, output / "report.html", answers=answers, skipped=indexed.skipped)
        contact_sheet(system, output / "contact-sheet.png")
    return DemoResult(
        output / "report.html",
        output / "contact-sheet.png",
        indexed,
        name if named_from else None,
        named_from,
        answers,
        people,
    )


def _to_name(system: FaceSystem, folder: Path) -> Path | None:
    """The photo to name somebody from: that of the last run when it is there, else another of that person."""
    person = system.gallery.find_person(SOMEBODY)
    if person is None:
        return _best_known(system, folder)
    faces = sorted(system.gallery.faces(person=person), key=lambda face: (not face.enrolled, -face.quality))
    return next((face.path for face in faces if _is_of_one(system, face, folder)), None)


def _best_known(system: FaceSystem, folder: Path) -> Path | None:
    """The photo of one face whose face has the most faces like it in other photos."""
    faces = system.gallery.embeddings()
    if len(faces.face_ids) == 0:
        return None
    bar = system.calibration.similarity_at(1e-3)
    alike = np.concatenate(
        [(faces.vectors[at : at + 512] @ faces.vectors.T > bar).sum(1) for at in range(0, len(faces.face_ids), 512)]
    )
    for position in np.lexsort((-faces.quality, -alike)):
        [face] = system.gallery.faces(ids=[int(faces.face_ids[position])])
        if _is_of_one(system, face, folder):
            return face.path
    return None


def _is_of_one(system: FaceSystem, face: "FaceRow", folder: Path) -> bool:
    return _is_there(face.path, folder) and len(system.gallery.faces(photo=face.photo_id)) == 1


def _photos_like(system: FaceSystem, photo: Path, folder: Path) -> list[Path]:
    """The other photos of the folder, those with the face most like the largest of `photo` first."""
    paths = [hit.face.path for hit in system.search(photo, k=10 * PHOTOS_SHOWN)]
    return list(dict.fromkeys(path for path in paths if _is_there(path, folder) and path != photo))


def _is_there(path: Path | None, folder: Path) -> TypeGuard[Path]:
    """Whether it can be read today: of folders that are empty or closed now the gallery keeps the photos."""
    return path is not None and path.is_relative_to(folder) and os.access(path, os.R_OK)

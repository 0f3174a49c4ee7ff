"""Takes the photos of folders into a gallery: only what is new or changed, in parallel, and safe to interrupt.

Every photo is committed with its faces or not at all, so a run that was killed is finished by the next one. Photos are
decoded and analysed in worker processes, see `visavis.face.workers`.
"""

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from visavis.errors import InputError
from visavis.face.gallery import Gallery
from visavis.face.photos import looks_like_photo
from visavis.face.records import Photo
from visavis.face.workers import File, Outcome, Workers

__all__ = ["IndexReport", "index"]

_CHUNK = 8  # photos a worker takes at once; their faces are embedded together
_PHOTO_SUFFIXES = frozenset(
    f".{name}"
    for name in "jpg jpeg jpe jfif png webp heic heif hif avif tif tiff gif bmp pgm ppm pnm jp2".split()  # noqa: SIM905
)


def _silent(_done: int, _total: int | None) -> None:
    """No progress shown."""


@dataclass
class IndexReport:
    """What a run did; paths are absolute."""

    added: int = 0  # photos
    changed: int = 0  # photos under a path that held another one
    known: int = 0  # files whose content was known under another path: moved, renamed or copied
    removed: int = 0  # files gone from disk
    unchanged: int = 0
    faces: int = 0  # of the photos added or changed
    ignored: int = 0  # files that neither are photos nor are named like one
    skipped: list[tuple[Path, str]] = field(default_factory=list)  # with the reason
    kept_missing: list[Path] = field(default_factory=list)  # folders that held photos and now hold no file at all


def index(
    gallery: Gallery,
    folders: Sequence[Path],
    workers: Workers,
    *,
    prune: bool = False,
    progress: Callable[[int, int | None], None] = _silent,
) -> IndexReport:
    """Bring the gallery up to date with the photos below `folders`.

    A file of unchanged size and time is not read again. Content decides the rest: a moved or copied file keeps its
    photo's faces and people, changed content replaces them, and a photo whose last file is gone leaves the gallery
    with its faces, unless they are enrolled. Hidden files and folders are passed over, links are followed once.

    Args:
        gallery: open for writing, of the workers' embedder.
        folders: existing folders, or single files.
        workers: analyse the photos.
        prune: take out the photos of a folder that holds no file any more; else they stay, as the disk may just not
            be mounted.
        progress: called with the number of files done and their total.

    Raises:
        InputError: a folder does not exist.
        GalleryError: the gallery cannot be written, for example because the disk is full; what was committed stays.
    """
    report = IndexReport()
    known = {row.path: row for row in gallery.files()}
    todo: dict[Path, File] = {}
    missing: set[Path] = set()
    for folder in dict.fromkeys(folder.expanduser().absolute() for folder in folders):
        if not folder.exists():
            raise InputError(f"folder: expected one that exists, got {str(folder)!r}")
        seen, unreadable = set(), []
        for file, problem in _walk(folder):
            if problem:
                unreadable.append(file.path)
                report.skipped.append((file.path, problem))
                continue
            seen.add(file.path)
            row = known.get(file.path)
            if row is None or (row.size_bytes, row.mtime_ns) != (file.size_bytes, file.mtime_ns):
                todo[file.path] = file
            elif row.skipped is not None:
                report.skipped.append((file.path, row.skipped))
            else:
                report.unchanged += 1
        gone = {path for path in known if path.is_relative_to(folder)} - seen
        if gone and not seen and not prune:
            report.kept_missing.append(folder)
        else:
            missing |= {path for path in gone if not any(path.is_relative_to(place) for place in unreadable)}
    progress(0, len(todo))
    done = 0
    sizes = {row.size_bytes for row in known.values() if row.photo_id is not None}
    fresh = _fresh(gallery, todo.values(), sizes, report)
    for outcomes in workers.run(_chunks(fresh)):
        with gallery.transaction():
            for outcome in outcomes:
                was_photo = outcome.file.path in known and known[outcome.file.path].photo_id is not None
                _store(gallery, outcome, was_photo, report)
        done += len(outcomes)
        progress(done + report.known + report.ignored, len(todo))
    with gallery.transaction():
        for path in missing:
            gallery.remove_file(path)
    report.removed = len(missing)
    progress(len(todo), len(todo))
    return report


def _walk(folder: Path) -> Iterator[tuple[File, str]]:
    """Every visible file below a folder once, links followed; with a text, what could not be read and why."""
    if not folder.is_dir():
        status = folder.stat()
        yield File(folder, status.st_size, status.st_mtime_ns), ""
        return
    visited = set()
    stack = [folder]
    while stack:
        place = stack.pop()
        try:
            status = place.stat()
            if (status.st_dev, status.st_ino) in visited:
                continue  # a link back up, or a second way in
            visited.add((status.st_dev, status.st_ino))
            entries = sorted(os.scandir(place), key=lambda entry: entry.name)
        except OSError as error:
            yield File(place, 0, 0), f"folder: cannot be read ({error.strerror})"
            continue
        for entry in entries:
            path = Path(entry.path)
            if entry.name.startswith(".") or path.suffix == ".visavis":
                continue
            try:
                if entry.is_dir():
                    stack.append(path)
                elif entry.is_file():  # no pipes, sockets or devices: reading those may never end
                    status = entry.stat()
                    yield File(path, status.st_size, status.st_mtime_ns), ""
            except OSError as error:
                yield File(path, 0, 0), f"file: cannot be read ({error.strerror})"


def _fresh(gallery: Gallery, files: Iterable[File], sizes: set[int], report: IndexReport) -> Iterator[File]:
    """The files that workers must look at; what is known or no photo at all is dealt with on the way.

    Only a file as large as a known one can be its copy, so no other is hashed here.
    """
    for file in files:
        head = b""
        with contextlib.suppress(OSError), file.path.open("rb") as stream:  # a worker will tell what is wrong
            head = stream.read(32)
            if file.size_bytes in sizes:
                stream.seek(0)
                sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
                with gallery.transaction():
                    if gallery.has_content(sha256):
                        copy = Photo(file.path, sha256, 0, 0, None)  # the rest is known
                        gallery.add_photo(copy, size_bytes=file.size_bytes, mtime_ns=file.mtime_ns, faces=[])
                        report.known += 1
                        continue
        if looks_like_photo(head) or file.path.suffix.lower() in _PHOTO_SUFFIXES:
            yield file
        else:
            report.ignored += 1


def _chunks(files: Iterator[File]) -> Iterator[list[File]]:
    chunk = []
    for file in files:
        chunk.append(file)
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _store(gallery: Gallery, outcome: Outcome, was_photo: bool, report: IndexReport) -> None:
    path, size_bytes, mtime_ns = outcome.file
    if isinstance(outcome.photo, str):
        gallery.add_skipped(path, size_bytes, mtime_ns, outcome.photo)
        report.skipped.append((path, outcome.photo))
        return
    ids = gallery.add_photo(outcome.photo, size_bytes=size_bytes, mtime_ns=mtime_ns, faces=outcome.faces)
    report.changed += was_photo
    report.added += not was_photo
    report.faces += len(ids)

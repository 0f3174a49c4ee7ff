"""Takes the photos of folders into a gallery: only what is new or changed, in parallel, and safe to interrupt.

Every photo is committed with its faces or not at all, so a run that was killed is finished by the next one. Several
runs may index into one gallery at once: in a folder each photo is looked at by one of them, on Milvus nearly always.
Photos are decoded and analysed in worker processes, see `visavis.face.workers`.
"""

import contextlib
import os
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from visavis.errors import InputError
from visavis.face.gallery import FileRow, FolderGallery, Gallery
from visavis.face.gallery.claims import Claims, Taken
from visavis.face.photos import PHOTO_SUFFIXES, looks_like_photo
from visavis.face.ray_workers import RayWorkers
from visavis.face.records import Photo
from visavis.face.workers import File, Outcome, Workers

__all__ = ["IndexReport", "absolute", "index"]

_CHUNK = 8  # photos a worker takes at once; their faces are embedded together
_LOOK_S = 0.2  # between two looks at photos that other runs are at work on


def _silent(_done: int, _total: int | None) -> None:
    """No progress shown."""


@dataclass
class IndexReport:
    """What a run did; paths are absolute."""

    added: int = 0  # photos
    changed: int = 0  # photos under a path that held another one
    known: int = 0  # files whose content was known under another path: moved, renamed or copied
    removed: int = 0  # photos whose last file is gone
    unchanged: int = 0
    faces: int = 0  # of the photos added or changed
    by_others: int = 0  # photos that another run, at the same time, has added or changed
    ignored: int = 0  # files that neither are photos nor are named like one
    skipped: list[tuple[Path, str]] = field(default_factory=list)  # with the reason
    kept_missing: list[Path] = field(default_factory=list)  # folders that held photos and now hold no file at all


def index(
    gallery: Gallery,
    folders: Sequence[Path],
    workers: Workers | RayWorkers,
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
    with gallery.transaction():
        pass  # refuses a gallery that cannot be written, before any work
    report = IndexReport()
    known = {row.path: row for row in gallery.files()}
    roots = [absolute(folder) for folder in folders]
    tree = _Tree()
    for root in roots:
        if not root.exists():
            raise InputError(f"folder: expected one that exists, got {str(root)!r}")
        _walk(root, tree)
        if not any(path.is_relative_to(root) for path in tree.files):
            tree.empty.add(root)
    report.skipped += tree.unreadable.items()
    missing, report.kept_missing = _missing(known, roots, tree, prune=prune)

    todo = []
    for file in tree.files.values():
        row = known.get(file.path)
        if row is None or (row.size_bytes, row.mtime_ns) != (file.size_bytes, file.mtime_ns):
            todo.append(file)
        elif row.skipped is not None:
            report.skipped.append((file.path, row.skipped))
        else:
            report.unchanged += 1

    done, total = 0, len(todo)

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(done, total)

    advance(0)
    if not isinstance(gallery, FolderGallery):
        random.shuffle(todo)  # other machines may go through the same files, each in an order of its own
    claims = gallery.claims()
    with contextlib.closing(claims):
        while todo:
            later: list[File] = []
            before = done
            fresh = _fresh(gallery, claims, todo, known, missing, report, advance, later)
            # Closed at once, whatever happens, for then the worker processes end.
            with contextlib.closing(workers.run(_chunks(fresh))) as results:
                for outcomes in results:
                    with gallery.transaction():
                        for outcome in outcomes:
                            _store(gallery, outcome, known.get(outcome.file.path), report)
                        claims.release(outcome.file.path for outcome in outcomes)
                    advance(len(outcomes))
            if later and done == before:
                advance(0)
                time.sleep(_LOOK_S)
            todo = later
    with gallery.transaction():
        for path in missing:
            gallery.remove_file(path)
            content = known[path].sha256
            report.removed += content is not None and not gallery.has_content(content)
    return report


def absolute(path: str | Path) -> Path:
    """The one way to write a path: ``..`` would name a file in as many ways as there are places to stand.

    ``~`` is the home folder; names that only begin with it, as some editors' do, are names.
    """
    path = Path(path)
    path = (path.expanduser() if path.parts[:1] == ("~",) else path).absolute()
    return path.resolve() if ".." in path.parts else path


@dataclass
class _Tree:
    """What is seen below folders."""

    files: dict[Path, File] = field(default_factory=dict)
    unreadable: dict[Path, str] = field(default_factory=dict)  # files and folders, with the reason
    empty: set[Path] = field(default_factory=set)  # folders


def _walk(root: Path, tree: _Tree) -> None:
    """Add every visible file below `root`, or `root` itself; links are followed, no folder is entered twice."""
    if not root.is_dir():
        if root.is_file():
            status = root.stat()
            tree.files[root] = File(root, status.st_size, status.st_mtime_ns)
        else:
            tree.unreadable[root] = "file: expected a file or folder, got a pipe or device"
        return
    visited = set()
    stack = [root]
    while stack:
        place = stack.pop()
        try:
            status = place.stat()
            if (status.st_dev, status.st_ino) in visited:
                continue  # a link back up, or a second way in
            visited.add((status.st_dev, status.st_ino))
            entries = sorted(os.scandir(place), key=lambda entry: entry.name)
        except OSError as error:
            tree.unreadable[place] = f"folder: cannot be read ({error.strerror})"
            continue
        visible = [entry for entry in entries if not entry.name.startswith(".") and not entry.name.endswith(".visavis")]
        if not visible:
            tree.empty.add(place)
        for entry in visible:
            path = Path(entry.path)
            try:
                if entry.is_dir():
                    stack.append(path)
                elif entry.is_file():  # no pipes, sockets or devices: reading those may never end
                    status = entry.stat()
                    tree.files[path] = File(path, status.st_size, status.st_mtime_ns)
            except OSError as error:
                tree.unreadable[path] = f"file: cannot be read ({error.strerror})"


def _missing(known: Iterable[Path], roots: Sequence[Path], tree: _Tree, *, prune: bool) -> tuple[set[Path], list[Path]]:
    """The known files below `roots` that are gone from disk, and the folders whose photos are kept all the same.

    What cannot be read is not gone, nor is what is hidden now; and an empty folder may be a disk that is not mounted.
    """
    gone = {path for path in known if any(path.is_relative_to(root) for root in roots)} - tree.files.keys()
    gone = {path for path in gone if not any(path.is_relative_to(place) for place in tree.unreadable)}
    gone = {path for path in gone if not path.is_file()}
    kept: list[Path] = []
    for place in sorted(tree.empty) if not prune else ():
        within = {path for path in gone if path != place and path.is_relative_to(place)}
        if within:
            kept.append(place)
            gone -= within
    return gone, kept


def _fresh(
    gallery: Gallery,
    claims: Claims,
    files: Iterable[File],
    known: dict[Path, FileRow],
    missing: set[Path],
    report: IndexReport,
    advance: Callable[[int], None],
    later: list[File],
) -> Iterator[File]:
    """The files that workers must look at; what is known or no photo at all is dealt with on the way.

    Those that somebody is at work on are put into `later`.
    """
    for file in files:
        row = known.get(file.path)
        head = b""
        with contextlib.suppress(OSError), file.path.open("rb") as stream:  # a worker will tell what is wrong
            head = stream.read(32)
        named_like_one = file.path.suffix.lower() in PHOTO_SUFFIXES
        if not (looks_like_photo(head) or named_like_one or (row is not None and not head)):
            report.ignored += 1
            if row is not None:  # it was a photo
                missing.add(file.path)
            advance(1)
            continue
        with gallery.transaction():
            taken, told = claims.take(*file)
            if taken is Taken.COPY:
                assert told is not None
                copy = Photo(file.path, told, 0, 0, None)  # the rest is known
                gallery.add_photo(copy, size_bytes=file.size_bytes, mtime_ns=file.mtime_ns, faces=[])
        if taken is Taken.HERE:
            yield file
        elif taken is Taken.LATER:
            later.append(file)
        else:
            if taken is Taken.COPY:
                touched = row is not None and row.sha256 == told
                report.unchanged += touched
                report.known += not touched
            elif told is not None:
                report.skipped.append((file.path, told))
            else:
                report.by_others += 1
            advance(1)


def _chunks(files: Iterator[File]) -> Iterator[list[File]]:
    chunk = []
    for file in files:
        chunk.append(file)
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _store(gallery: Gallery, outcome: Outcome, row: FileRow | None, report: IndexReport) -> None:
    path, size_bytes, mtime_ns = outcome.file
    if isinstance(outcome.photo, str):
        if not outcome.passing:
            gallery.add_skipped(path, size_bytes, mtime_ns, outcome.photo)
        report.skipped.append((path, outcome.photo))
        return
    copy = gallery.has_content(outcome.photo.sha256)
    ids = gallery.add_photo(outcome.photo, size_bytes=size_bytes, mtime_ns=mtime_ns, faces=outcome.faces)
    changed = row is not None and row.photo_id is not None
    report.known += copy
    report.changed += changed and not copy
    report.added += not changed and not copy
    report.faces += len(ids)

"""The models on disk: fetched once, verified by hash, then used without a network.

A variant of a model has a folder of its own, named after the model and its hash. In it a file bears its real
name only once its hash was found right; a stamp beside it (`NAME.verified`) notes the size and time of that
file, so that a start of the program costs a `stat` and no hashing. One process at a time writes to a folder;
the lock is the kernel's, which lets go of it when a process is killed.
"""

import errno
import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from visavis.errors import ModelError
from visavis.face.models.sources import PathSource, Progress, Source, fetch
from visavis.face.models.spec import ModelFile, ModelSpec

__all__ = ["Status", "pull", "status", "store_folder", "verify"]

Variant = tuple[ModelFile, ...]


@dataclass(frozen=True, slots=True)
class Status:
    path: Path | None  # the file to open; None: not pulled
    verified: bool  # unchanged since its hash was last found right
    size: int  # bytes, of what is there or would be fetched

    @property
    def present(self) -> bool:
        return self.path is not None


def store_folder() -> Path:
    """VISAVIS_MODELS, or `models` in the user's cache folder."""
    if named := os.environ.get("VISAVIS_MODELS"):
        return Path(named).expanduser().absolute()
    import platformdirs

    return platformdirs.user_cache_path("visavis") / "models"


def status(spec: ModelSpec) -> Status:
    """Whether a model is there, by a look at its files' names, sizes and times; nothing is hashed."""
    variant = _installed(spec)
    if variant is None:
        variant = next((v for v in spec.variants if all(file.sources for file in v)), spec.variants[0])
        return Status(None, False, _size(variant))
    folder = _folder(spec, variant)
    return Status(
        path=folder / variant[0].name,
        verified=all(_is_stamped(folder / file.name, file) for file in variant),
        size=_size(variant),
    )


def verify(spec: ModelSpec) -> Path:
    """Hash every byte of an installed model anew and return the file to open.

    Raises:
        ModelError: not installed, or changed since; the next `pull` fetches it again.
    """
    variant = _installed(spec)
    if variant is None:
        raise ModelError(f"{spec.name}: expected an installed model, got none; {_pull_cure(spec)}")
    folder = _folder(spec, variant)
    for file in variant:
        found = _digest(folder / file.name, file)
        if found != file.digest:
            with suppress(OSError):  # the store may be read-only
                _stamp_of(folder / file.name).unlink()
            raise ModelError(f"{folder / file.name}: expected {file.digest}, got {found}; {_pull_cure(spec)}")
        _stamp(folder / file.name, file)
    return folder / variant[0].name


def pull(spec: ModelSpec, *, accept_licence: bool = False, progress: Progress | None = None) -> Path:
    """Install a model unless it is there, and return the file to open.

    Sources are tried in order: the folders of VISAVIS_MODEL_PATH, then the file's own; then the next variant.
    Two processes at once fetch once. A download that was cut or killed is taken up where it ended.

    Args:
        spec: from the manifest or a user's pack.
        accept_licence: the user accepts a research-only licence; not asked for what is installed already.
        progress: called with the bytes done and the bytes in total, or None while the total is not known.

    Raises:
        ModelError: the licence is not accepted, the store cannot be written, or every source failed: each is
            named with its reason.
    """
    for variant in spec.variants:
        if all(_is_good(_folder(spec, variant) / file.name, file) for file in variant):
            return _folder(spec, variant) / variant[0].name
    if spec.licence.research_only and not accept_licence:
        terms = " ".join(filter(None, (spec.licence.name, spec.licence.url, spec.licence.notes)))
        raise ModelError(
            f"{spec.name}: expected a licence for every use, got one for research only: {terms}; "
            f"if it covers yours, run `visavis face models pull {spec.name} --accept-licence` "
            "or pass accept_licence=True"
        )
    failures: list[str] = []
    for variant in spec.variants:
        folder = _folder(spec, variant)
        with _locked(folder):
            if all(_obtain(file, folder, failures, _shifted(progress, variant, file)) for file in variant):
                return folder / variant[0].name
    raise ModelError(
        f"{spec.name}: expected a source that works, got none; a folder that holds the file can be named in "
        "VISAVIS_MODEL_PATH\n  " + "\n  ".join(failures)
    )


def _obtain(file: ModelFile, folder: Path, failures: list[str], progress: Progress) -> bool:
    """Whether the file is now in `folder`; if not, why each source failed is added to `failures`."""
    path = folder / file.name
    if _is_good(path, file):  # another process was quicker
        return True
    part = folder / f"{file.name}.part"
    local = list(_in_model_path(file))
    if not local:
        failures.append(f"{file.name}: VISAVIS_MODEL_PATH: no such file in its folders")
    for source in (*local, *file.sources):
        try:
            _fetch_good(source, file, part, progress)
            part.replace(path)
            _stamp(path, file)
        except (ModelError, OSError) as error:
            failures.append(f"{file.name}: {source}: {error}")
        else:
            return True
    return False


def _fetch_good(source: Source, file: ModelFile, part: Path, progress: Progress) -> None:
    resumed = part.exists()
    fetch(source, part, file.size, progress)
    found = _digest(part, file)
    if found == file.digest:
        return
    part.unlink()
    if not resumed:
        raise ModelError(f"expected {file.digest}, got {found}")
    _fetch_good(source, file, part, progress)  # the part may have been of another file: once more, from the start


def _in_model_path(file: ModelFile) -> Iterator[PathSource]:
    """Files of this name, or of the name the file bears at one of its sources."""
    names = dict.fromkeys([file.name, *(source.file_name for source in file.sources)])
    for folder in filter(None, os.environ.get("VISAVIS_MODEL_PATH", "").split(os.pathsep)):
        for name in names:
            path = Path(folder).expanduser() / name
            if path.is_file():
                yield PathSource(path)


def _folder(spec: ModelSpec, variant: Variant) -> Path:
    return store_folder() / f"{spec.name}-{variant[0].digest.partition(':')[2][:12]}"


def _installed(spec: ModelSpec) -> Variant | None:
    there = (v for v in spec.variants if all((_folder(spec, v) / file.name).is_file() for file in v))
    return next(there, None)


def _size(variant: Variant) -> int:
    return sum(file.size for file in variant)


def _shifted(progress: Progress | None, variant: Variant, file: ModelFile) -> Progress:
    """The progress of one file as that of its whole variant."""
    before, total = _size(variant[: variant.index(file)]), _size(variant)

    def report(done: int, of: int | None) -> None:
        if progress is not None:
            progress(before + done, None if of is None else total)

    return report


def _digest(path: Path, file: ModelFile) -> str:
    algorithm = file.digest.partition(":")[0]
    with path.open("rb") as stream:
        return f"{algorithm}:{hashlib.file_digest(stream, algorithm).hexdigest()}"


def _is_good(path: Path, file: ModelFile) -> bool:
    if _is_stamped(path, file):
        return True
    if not path.is_file() or _digest(path, file) != file.digest:
        return False
    _stamp(path, file)
    return True


def _stamp_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.verified")


def _stamp_text(path: Path, file: ModelFile) -> str:
    seen = path.stat()
    return f"{file.digest} {seen.st_size} {seen.st_mtime_ns}\n"


def _is_stamped(path: Path, file: ModelFile) -> bool:
    try:
        return _stamp_of(path).read_text() == _stamp_text(path, file)
    except OSError:  # no file, or no stamp
        return False


def _stamp(path: Path, file: ModelFile) -> None:
    try:
        _stamp_of(path).write_text(_stamp_text(path, file))
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC):
            raise  # a store that only others may write to serves all the same, at the price of a hash a start


def _pull_cure(spec: ModelSpec) -> str:
    return f"run `visavis face models pull {spec.name}`"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Make `folder` and hold it alone. The lock file stays: once removed, two could lock two."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / ".lock").open("ab")
    except OSError as error:
        raise ModelError(
            f"model store: expected a writable folder, got {error}; VISAVIS_MODELS can name another"
        ) from None
    with handle:
        if sys.platform == "win32":
            import msvcrt

            while True:
                try:
                    msvcrt.locking(handle.fileno(), msvcrt.LK_LOCK, 1)  # gives up after ten seconds
                    break
                except OSError as error:
                    if error.errno != errno.EDEADLK:
                        raise
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX)
        yield

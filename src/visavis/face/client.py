"""The face system of another process or computer: `FaceClient` asks a server that `visavis serve` has started.

It needs httpx and nothing else of the face system; what it hands out is in `visavis.face.wire`.
"""

import itertools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, Self, TypeVar

from visavis.errors import GalleryError, InputError, PhotoError
from visavis.face.connection import Connection, Part
from visavis.face.wire import (
    About,
    CalibrationCurve,
    Clustered,
    Enrolled,
    Face,
    Forgotten,
    Found,
    Happening,
    Hit,
    Imported,
    Job,
    Known,
    Likely,
    Models,
    Month,
    People,
    Person,
    Photo,
    PhotoPage,
    ReviewPage,
    Server,
    Skipped,
    SkippedPage,
    Stream,
    Streams,
    TokenInfo,
    Undone,
    Unknown,
    Uploaded,
    Verified,
    Visit,
)

__all__ = ["FaceClient", "Upload"]

PAGE, REVIEW_PAGE = 1000, 100
LONG_S = 3600.0  # work on a whole gallery may take so long

T = TypeVar("T")
Upload = str | Path | bytes  # a photo: its path on this computer, or its bytes


class FaceClient:
    """Asks as `FaceSystem` and `Gallery` are asked. Close it, or use it in a `with`; any threads may share one.

    A request that only asks is tried again when the connection fails, every request when the server says that it is too
    busy for now. Errors of the server are raised as they are there: PhotoError, GalleryError, NotFoundError, ...

    Args:
        url: of the server, as `visavis serve` shows it.
        token: of `visavis tokens add`; when absent that of the environment's VISAVIS_TOKEN, if there is one.
        timeout_s: between two signs of life of the server. Work on the whole gallery may take longer.

    Raises:
        InputError: no URL or no token.

    >>> FaceClient("faces.example.org")
    Traceback (most recent call last):
        ...
    visavis.errors.InputError: url: expected one as http://127.0.0.1:8765, got 'faces.example.org'
    """

    def __init__(self, url: str, *, token: str | None = None, timeout_s: float = 60.0) -> None:
        token = os.environ.get("VISAVIS_TOKEN") if token is None else token
        self._server = Connection(url, token=token or None, timeout_s=timeout_s)

    def __repr__(self) -> str:
        return f"FaceClient({self._server.url!r})"

    def close(self) -> None:
        """Let go of open connections."""
        self._server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Questions

    def identify(self, photo: Upload, *, false_match_rate: float = 1e-3, liveness: bool = False) -> list[Found]:
        """Who is in a photo.

        Args:
            photo: to look at; the server does not keep it.
            false_match_rate: call a face unknown unless fewer strangers than this come as near to anybody.
            liveness: judge each face by the pack's liveness model, too.
        """
        query = {"false_match_rate": false_match_rate, "liveness": liveness}
        return self._upload(list[Found], "/identify", [("photo", photo)], query=query)

    def verify(
        self, photo: Upload, other: Upload, *, false_match_rate: float = 1e-3, liveness: bool = False
    ) -> Verified:
        """Whether two photos show one person, by the largest face of each.

        Args:
            photo: one; the server keeps neither.
            other: the other.
            false_match_rate: say "same" only when fewer pairs of different people than this are as similar.
            liveness: judge both faces by the pack's liveness model, too.
        """
        query = {"false_match_rate": false_match_rate, "liveness": liveness}
        return self._upload(Verified, "/verify", [("photo", photo), ("other", other)], query=query)

    def search(self, photo: Upload, *, k: int = 20, face: int | None = None) -> list[Hit]:
        """The `k` faces of the gallery most like a face of a photo: the largest, or which one of `identify`'s."""
        query = {"k": k} | ({} if face is None else {"face": face})
        return self._upload(list[Hit], "/search", [("photo", photo)], query=query)

    def calibration(self) -> CalibrationCurve:
        """What probabilities and false-match rates were measured on, as a curve."""
        return self._server.ask(CalibrationCurve, "GET", "/calibration")

    # People

    def people(self, *, named: bool | None = None, name: str | None = None) -> list[Person]:
        """Everyone, those with most faces first.

        Args:
            named: only those with a name, or only those without.
            name: only those whose name holds this text, in capitals or not.
        """
        query = {key: value for key, value in (("named", named), ("name", name)) if value is not None}
        found: dict[int, Person] = {}  # by id, for a change meanwhile may move somebody to a later page
        for offset in itertools.count(0, PAGE):
            page = self._server.ask(People, "GET", "/people", query={**query, "offset": offset, "limit": PAGE})
            found.update((person.id, person) for person in page.people)
            if len(page.people) < PAGE:
                break
        return list(found.values())

    def person(self, person: int) -> Person:
        """One person.

        Raises:
            NotFoundError: there is none of that number.
        """
        return self._server.ask(Person, "GET", f"/people/{_id(person)}")

    def alike(self, person: int, *, k: int = 10) -> list[Likely]:
        """The `k` people who look most like a person, and so may be the same."""
        return self._server.ask(list[Likely], "GET", f"/people/{_id(person)}/alike", query={"k": k})

    def doubts(self, person: int, *, k: int = 20) -> list[Hit]:
        """The `k` faces of a person that are least like the others, and so may be someone else's."""
        return self._server.ask(list[Hit], "GET", f"/people/{_id(person)}/doubts", query={"k": k})

    def review(self) -> Iterator[Unknown]:
        """People without a name, those with most faces first, each with the named who are most alike."""
        after: str | None = None
        while True:
            query = {"limit": REVIEW_PAGE} | ({} if after is None else {"after": after})
            page = self._server.ask(ReviewPage, "GET", "/review", query=query)
            yield from page.unknown
            after = page.next
            if after is None:
                return

    def name(self, person: int, name: str) -> Person:
        """Give a person a name; the faces there now are taken as confirmed and stay.

        Raises:
            GalleryError: someone else has the name: merge the two.
        """
        return self._server.ask(Person, "PATCH", f"/people/{_id(person)}", body={"name": name})

    def merge(self, into: int, others: Sequence[int]) -> Person:
        """These are one person, and sorting will not part its faces."""
        return self._server.ask(Person, "POST", f"/people/{_id(into)}/merge", body={"others": list(others)})

    def split(self, faces: Sequence[int]) -> Person:
        """These faces of one person are someone else; returns that one. Sorting will not undo it."""
        return self._server.ask(Person, "POST", "/people/split", body={"faces": list(faces)})

    def give(self, person: int, faces: Sequence[int]) -> Person:
        """These faces are that person's, whosever they were. Sorting will not undo it."""
        return self._server.ask(Person, "POST", f"/people/{_id(person)}/faces", body={"faces": list(faces)})

    def separate(self, person: int, others: Sequence[int]) -> Person:
        """These others are someone else, and sorting will not join them with that person."""
        return self._server.ask(Person, "POST", f"/people/{_id(person)}/separate", body={"others": list(others)})

    def undo(self, change: int | None = None) -> list[Person]:
        """Undo a change of people exactly; returns those it touched.

        Args:
            change: a former `last_change`; when absent the newest.

        Raises:
            NotFoundError: the server does not remember it.
            GalleryError: the same was changed again since.
        """
        change = self.last_change if change is None else change
        if change is None:
            raise InputError("change: expected one that this client has made, got none")
        return self._server.ask(Undone, "POST", f"/changes/{_id(change)}/undo").people

    @property
    def last_change(self) -> int | None:
        """The number of the last name, merge, split, give or separate of this client, by whichever thread."""
        return self._server.last_change

    def forget(self, person: int, *, uploads: bool = False) -> Forgotten:
        """Delete all that the gallery holds of a person, down to the bytes on disk; returns what, and what was left.

        `uploads`: delete uploaded photos, too, that show nobody else.
        """
        path = f"/people/{_id(person)}"
        return self._server.ask(Forgotten, "DELETE", path, query={"uploads": uploads}, timeout_s=LONG_S)

    def enroll(self, name: str, photos: Sequence[Upload]) -> Enrolled:
        """Tell who the one face, or the clearly largest, of each photo is. All photos are taken, or none.

        The faces stay in the gallery, the photos do not.
        """
        if not photos:
            raise InputError("photos: expected at least one, got none")
        return self._upload(Enrolled, "/enroll", [("photos", photo) for photo in photos], form={"name": name})

    def cluster(self, *, fresh: bool = False) -> Clustered:
        """Sort faces into people; `fresh` first takes apart what was sorted by earlier calls."""
        return self._server.ask(Clustered, "POST", "/cluster", query={"fresh": fresh}, timeout_s=LONG_S)

    # Photos and faces

    def photos(self) -> Iterator[Photo]:
        """All photos in the order they came in, fetched a page at a time."""
        after: int | None = 0
        while after is not None:
            page = self._server.ask(PhotoPage, "GET", "/photos", query={"after": after, "limit": PAGE})
            yield from page.photos
            after = page.next

    def photo(self, photo: int) -> Photo:
        """One photo.

        Raises:
            NotFoundError: there is none of that number.
        """
        return self._server.ask(Photo, "GET", f"/photos/{_id(photo)}")

    def faces(self, *, person: int | None = None, photo: int | None = None) -> list[Face]:
        """The faces of a person, the best first, or those in a photo."""
        if (person is None) == (photo is None):
            raise InputError("faces: expected a person or a photo, got both or neither")
        where = f"/photos/{_id(photo)}" if photo is not None else f"/people/{_id(person)}"
        return self._server.ask(list[Face], "GET", f"{where}/faces")

    def face(self, face: int) -> Face:
        """One face.

        Raises:
            NotFoundError: there is none of that number.
        """
        return self._server.ask(Face, "GET", f"/faces/{_id(face)}")

    def thumbnail(self, face: int) -> bytes:
        """A face's picture, a JPEG."""
        return self._server.content("GET", f"/faces/{_id(face)}/thumbnail")

    def timeline(self) -> list[Month]:
        """Every photo that has a file, by the month it was taken in, the newest first."""
        return self._server.ask(list[Month], "GET", "/timeline")

    def picture(self, photo: int, *, px: Literal[320, 640, 1600] = 640) -> bytes:
        """A photo as an upright JPEG whose longer side has at most so many pixels."""
        return self._server.content("GET", f"/photos/{_id(photo)}/picture", query={"px": px})

    # Photos that stay

    def known(self, sha256: Sequence[str]) -> list[str]:
        """Those of some photos, told by the SHA-256 of their bytes, that the gallery has and need not be sent."""
        return self._server.ask(Known, "POST", "/photos/known", body={"sha256": list(sha256)}).known

    def upload(self, photos: Sequence[Upload]) -> Uploaded:
        """Have the server keep photos, 100 at most, beside the gallery; a job of its own takes them in."""
        return self._upload(Uploaded, "/photos", [("photos", photo) for photo in photos])

    # Indexing

    def index(self, folder: str | Path, *, prune: bool = False) -> Job:
        """Have the photos of a folder of the server taken in, by a job of its own; `watch` tells how far that is.

        Args:
            folder: an absolute path on the server, below one of its roots.
            prune: take out the photos of a folder that is empty now; else they stay.
        """
        return self._server.ask(Job, "POST", "/index/jobs", body={"folder": os.fspath(folder), "prune": prune})

    def jobs(self) -> list[Job]:
        """The index jobs, the newest first."""
        return self._server.ask(list[Job], "GET", "/index/jobs")

    def job(self, job: int) -> Job:
        """One index job.

        Raises:
            NotFoundError: there is none of that number.
        """
        return self._server.ask(Job, "GET", f"/index/jobs/{_id(job)}")

    def watch(self, job: int) -> Iterator[Job]:
        """An index job now, and again whenever it has changed, until it has ended; lost connections are made again."""
        path = f"/index/jobs/{_id(job)}/events"
        told: Job | None = None
        for event in self._server.events(path):
            now = self._server.made(Job, path, event.data)
            if now != told:
                yield now
            if now.ended:
                return
            told = now

    def cancel(self, job: int) -> Job:
        """Stop an index job at its next photos. What it has taken in stays, and another job goes on from there."""
        return self._server.ask(Job, "DELETE", f"/index/jobs/{_id(job)}")

    def skipped(self) -> Iterator[Skipped]:
        """Files that could not be read as photos, and why; fetched a page at a time."""
        for offset in itertools.count(0, PAGE):
            page = self._server.ask(SkippedPage, "GET", "/skipped", query={"offset": offset, "limit": PAGE})
            yield from page.files
            if len(page.files) < PAGE:
                return

    # Streams

    def streams(self) -> Streams:
        """What may be watched, and what is."""
        return self._server.ask(Streams, "GET", "/streams")

    def stream(self, stream: int) -> Stream:
        """One stream.

        Raises:
            NotFoundError: there is none of that number.
        """
        return self._server.ask(Stream, "GET", f"/streams/{_id(stream)}")

    def start_stream(
        self,
        source: str | None = None,
        *,
        file: str | Path | None = None,
        fps: float | None = None,
        false_match_rate: float = 1e-3,
    ) -> Stream:
        """Have a source watched: a named one of `streams`, or a video file of the server.

        Args:
            source: its name.
            file: an absolute path on the server, below one of its roots.
            fps: frames looked at a second, at most.
            false_match_rate: name somebody only where fewer strangers than this, of all who pass, ever would be.
        """
        given = {"source": source, "file": None if file is None else os.fspath(file), "fps": fps}
        body = {name: value for name, value in given.items() if value is not None}
        return self._server.ask(Stream, "POST", "/streams", body={**body, "false_match_rate": false_match_rate})

    def stop_stream(self, stream: int) -> Stream:
        """Stop watching; everybody who is there is told to have left."""
        return self._server.ask(Stream, "DELETE", f"/streams/{_id(stream)}")

    def stream_frame(self, stream: int) -> bytes:
        """The newest picture of a stream, a JPEG with a box about each face."""
        return self._server.content("GET", f"/streams/{_id(stream)}/frame")

    def seen(self, *, limit: int = 100) -> list[Visit]:
        """Who was seen in streams, the newest first."""
        return self._server.ask(list[Visit], "GET", "/streams/seen", query={"limit": limit})

    def seen_picture(self, visit: int) -> bytes:
        """The best face of a visit, a JPEG."""
        return self._server.content("GET", f"/streams/seen/{_id(visit)}/picture")

    def watch_streams(self) -> Iterator[Happening]:
        """What happens in any stream from now on, as it happens; it does not end by itself."""
        path = "/streams/events"
        for event in self._server.events(path):
            of_stream = event.event == "stream"
            visit = None if of_stream else self._server.made(Visit, path, event.data)
            stream = self._server.made(Stream, path, event.data) if of_stream else None
            yield Happening(event.event, visit, stream)

    # The whole

    def about(self) -> About:
        """What the gallery holds, and of which model its embeddings are."""
        return self._server.ask(About, "GET", "/gallery")

    def server(self) -> Server:
        """What the server takes, and which folders it may read."""
        return self._server.ask(Server, "GET", "/server")

    def models(self) -> Models:
        """The models at work, with their licences."""
        return self._server.ask(Models, "GET", "/models")

    def tokens(self) -> list[TokenInfo]:
        """Who may do what; needs an admin's token."""
        return self._server.ask(list[TokenInfo], "GET", "/tokens")

    def export_to(self, path: str | Path) -> None:
        """Write everything into one file of this computer; it appears when it is complete.

        Raises:
            OSError: the file cannot be written.
        """
        self._server.download("/export", Path(path), timeout_s=LONG_S)

    def import_from(self, path: str | Path) -> Imported:
        """Have an export of a gallery of the same model taken in: all of it, or nothing when anything in it is wrong.

        Raises:
            GalleryError: it is no export, or one of another model.
            OSError: the file cannot be read.
        """

        def opened(stack: ExitStack) -> list[Part]:
            return [("file", ("gallery.visavis", stack.enter_context(Path(path).open("rb"))))]

        try:
            return self._server.ask(Imported, "POST", "/import", files=opened, timeout_s=LONG_S)
        except GalleryError as error:
            raise GalleryError(re.sub(r"^file(?=: )", lambda _: str(path), str(error))) from error

    def _upload(
        self,
        kind: type[T],
        path: str,
        photos: Sequence[tuple[str, Upload]],
        *,
        query: Mapping[str, Any] | None = None,
        form: Mapping[str, str] | None = None,
    ) -> T:
        """Ask about photos; what is wrong with one of them is told under its name."""

        def opened(stack: ExitStack) -> list[Part]:
            return [(field, ("photo", _open(stack, photo))) for field, photo in photos]

        try:
            return self._server.ask(kind, "POST", path, query=query, form=form, files=opened)
        except PhotoError as error:
            number = re.match(r"photo (\d+): ", str(error))
            photo = photos[int(number[1]) - 1][1] if number and int(number[1]) <= len(photos) else b""
            if number is None or isinstance(photo, bytes):
                raise
            raise PhotoError(f"{photo}: {str(error)[number.end() :]}") from error


def _open(stack: ExitStack, photo: Upload) -> bytes | IO[bytes]:
    if isinstance(photo, bytes):
        return photo
    try:
        if Path(photo).exists() and not Path(photo).is_file():  # opening a pipe would wait for somebody to write
            raise PhotoError(f"{photo}: file: expected a file, got a folder, pipe or device")
        return stack.enter_context(Path(photo).open("rb"))
    except OSError as error:
        raise PhotoError(f"{photo}: file: cannot be read ({error.strerror})") from error


def _id(number: int | None) -> int:
    """A number that may stand in a path, where text might lead elsewhere."""
    if not isinstance(number, int) or number < 0:
        raise InputError(f"id: expected a number of the gallery, got {number!r}")
    return number

"""What a gallery is, wherever it is kept: `Gallery`, which a folder and a server of Milvus implement."""

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from visavis.face.gallery.changes import PeopleState
from visavis.face.gallery.claims import Claims
from visavis.face.gallery.copying import Rows
from visavis.face.gallery.records import (
    Counts,
    EmbedderId,
    Embeddings,
    FaceRow,
    FileRow,
    Imported,
    NewFace,
    PersonRow,
    PhotoRow,
)
from visavis.face.records import Photo

__all__ = ["Gallery"]


class Gallery(Protocol):
    """Photos, faces, people and vectors that survive crashes and are forgotten when asked to.

    A face belongs to a photo and to at most one person; a person without a name is a cluster. No id is given twice.
    `open_gallery` opens one; close it, or use it in a `with`. It may be used from several threads and opened by several
    processes: changes take turns. A change is kept when its call returns or, inside `transaction()`, when that ends.
    """

    model: EmbedderId  # whose embeddings it holds

    @property
    def place(self) -> str:
        """The folder or URL that opens it, without what is secret."""

    @property
    def writable(self) -> bool: ...

    @property
    def encrypted(self) -> bool:
        """Whether it only opens with its key, and nothing of it may lie about in plain."""

    def close(self) -> None:
        """Let go of it."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def transaction(self) -> AbstractContextManager[None]:
        """All changes inside it happen, or none; quicker than one by one. Other writers wait meanwhile."""

    def claims(self) -> Claims:
        """What a run that indexes is at work on; closed at its end."""

    # Photos and files

    def add_photo(self, photo: Photo, *, size_bytes: int, mtime_ns: int, faces: Sequence[NewFace]) -> list[int]:
        """Take in a photo with its faces, or one more file of a photo already known.

        Args:
            photo: with an absolute path, which may be known: its content has changed then.
            size_bytes: of the file.
            mtime_ns: of the file.
            faces: all faces of the photo; not looked at when the content is known.

        Returns:
            The ids of the faces added.

        Raises:
            InputError, TensorError: the path is relative, or a face holds what no stage gives: another shape,
                a number out of range, an embedding that is not float32 of unit length.
        """

    def add_skipped(self, path: Path, size_bytes: int, mtime_ns: int, reason: str) -> None:
        """Remember a file that is no photo, so that it is not tried again until it changes."""

    def files(self, root: Path | None = None) -> list[FileRow]:
        """The files known, or those below a folder, by path."""

    def photos(self, *, after: int = 0, limit: int = -1, ids: Sequence[int] | None = None) -> list[PhotoRow]:
        """The photos by id, for pages: at most `limit` of those whose id is above `after`; -1: all.

        Args:
            after: the last id of the page before.
            limit: the most that are wanted.
            ids: only these; those not in the gallery are passed over.
        """

    def timeline(self) -> list[tuple[int, str | None]]:
        """Id and month (YYYY-MM) of every photo that has a file, the newest first; last those without a date."""

    def remove_file(self, path: Path) -> None:
        """The file is gone; nothing happens when it is not known.

        A photo whose last file goes, goes with its faces; those enrolled stay, and their photo for them.
        """

    def has_content(self, sha256: str) -> bool:
        """Whether a photo of this content is here with all its faces: it need not be looked at again."""

    def counts(self) -> Counts: ...

    # Faces

    def faces(
        self,
        *,
        person: int | None = None,
        photo: int | None = None,
        ids: Sequence[int] | NDArray[np.int64] | None = None,
    ) -> list[FaceRow]:
        """The faces that meet all conditions given, by id; ids not in the gallery are passed over."""

    def thumbnail(self, face_id: int) -> bytes:
        """The face's JPEG."""

    def embeddings(self, *, people: Sequence[int] | None = None) -> Embeddings:
        """All vectors in one read, or those of some people, with what clustering needs beside them."""

    def placements(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """Ids, people and pins as `embeddings` gives them, without reading the vectors."""

    def search(
        self, queries: NDArray[np.float32], k: int, *, among: Sequence[int] | NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The k nearest faces of each query, exactly; the best first, of equals the lower id.

        Sees all that any process has committed.

        Args:
            queries: [Q, D] float32, unit length.
            k: at least 1.
            among: only these face ids; those not in the gallery are passed over.

        Returns:
            Face ids [Q, k] and their cosines [Q, k]; where there are fewer faces, -1 and -inf.

        Raises:
            InputError, TensorError: `queries` of another shape, type or length, `k` below 1.
        """

    # People

    def people(self, *, ids: Sequence[int] | None = None) -> list[PersonRow]:
        """Everyone, or those of these ids who are here, by number of faces, most first."""

    def find_person(self, name: str) -> int | None:
        """The id of the person of that name."""

    def new_person(self) -> int:
        """A person without a name; it vanishes if its first faces leave it again."""

    def name(self, person: int, name: str) -> None:
        """Give a person a name, or another one; clustering moves none of the faces there now any more.

        Raises:
            InputError: the name is blank or unprintable.
            GalleryError: no such person, or someone else has the name: merge the two.
        """

    def enroll(self, face_ids: Sequence[int], name: str) -> int:
        """Say whose faces these are; they stay when their photo goes.

        Returns:
            The person's id, made when the name is new.
        """

    def assign(self, face_ids: Sequence[int] | NDArray[np.int64], person: int | None, *, pinned: bool) -> int:
        """Put faces under a person, or under nobody.

        Args:
            face_ids: faces of the gallery.
            person: its id.
            pinned: True: by the user, for good; False: by clustering, which moves no pinned face.

        Returns:
            The number of faces that are not where they were.
        """

    def has_unsorted_faces(self) -> bool:
        """Whether faces have come since `mark_sorted`."""

    def mark_sorted(self, face_id: int) -> None:
        """Clustering has seen the faces up to this one."""

    def merge(self, into: int, others: Sequence[int]) -> None:
        """These are one person, and clustering will not part its faces.

        `into` keeps its name; without one it takes the first of the others'.
        """

    def split(self, face_ids: Sequence[int]) -> int:
        """These faces are someone else. Clustering will neither undo it nor join the two again.

        Returns:
            The new person's id.

        Raises:
            GalleryError: the faces are not all of one person, or are all of its faces.
        """

    def separate(self, person: int, other: int) -> None:
        """These are two different people: clustering will not join them."""

    def separated(self) -> set[tuple[int, int]]:
        """The pairs of people known to be different, the lower id first."""

    def people_state(self, people: Collection[int], *, faces: Collection[int] = ()) -> PeopleState:
        """People, with all their faces, and further faces, as `restore` takes them; taken before and after a change."""

    def restore(self, before: PeopleState, after: PeopleState) -> None:
        """Undo a change exactly: people get back their ids, names and faces. Faces deleted since stay deleted.

        Raises:
            GalleryError: what was changed is not as `after` tells any more, or somebody else has a name by now.
        """

    def forget(self, person: int) -> int:
        """Delete a person with all faces, embeddings, thumbnails and the name.

        The photos stay known, also when their files go and come again, so that no index brings the faces back.

        Returns:
            The number of faces deleted.

        Raises:
            GalleryError: no such person.
        """

    # The whole

    def rows(self) -> Rows:
        """All it holds, row by row, to copy it."""

    def export_to(self, path: Path, *, plain: bool = False) -> None:
        """Write everything into one file, as `import_from` reads it; skipped files are left out.

        Args:
            path: the file.
            plain: that it is not encrypted is known, and meant.

        Raises:
            GalleryError: the file cannot be written, or the gallery is encrypted and `plain` is not said.
        """

    def import_from(self, path: Path) -> Imported:
        """Take in an export of the same model: all of it, or nothing when anything in it is wrong.

        A photo known here with all its faces stays as it is here, so that nothing is doubled and nobody forgotten
        comes back; a person whose name is known here is taken to be the same.
        """

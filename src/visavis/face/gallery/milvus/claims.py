"""What runs of several machines that index into one gallery on Milvus tell one another: what they have stored.

None says what it is at work on, for who would say that it has died? Each goes through the files in an order of its own
and passes over what others have stored meanwhile. Two look at one photo only where they come to it at the same time;
it is stored once all the same.
"""

from collections.abc import Iterable
from pathlib import Path

from visavis.face.gallery.claims import Taken, sha256_of
from visavis.face.gallery.milvus.rows import file_key
from visavis.face.gallery.milvus.session import Session
from visavis.face.gallery.milvus.tables import Where

__all__ = ["MilvusClaims"]


class MilvusClaims:
    """Of one run; as `Claims`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def take(self, path: Path, size_bytes: int, mtime_ns: int) -> tuple[Taken, str | None]:
        """As `Claims.take`; nothing is ever to be asked for later."""
        view = self._session.reading()
        for row in view.get("file", [file_key(path)]).values():
            if (row["size_bytes"], row["mtime_ns"]) == (size_bytes, mtime_ns):
                return Taken.STORED, row["skipped"] or None
        if any(row["photo_id"] for row in view.select("file", Where("size_bytes", {size_bytes}))):
            sha256 = sha256_of(path)  # only a file as large as a known one can be its copy, so no other is hashed
            known = view.select("photo", Where("sha256", {sha256})) if sha256 is not None else []
            if any(not row["partial"] for row in known):
                return Taken.COPY, sha256
        return Taken.HERE, None

    def release(self, paths: Iterable[Path]) -> None:
        """Nothing was claimed."""

    def close(self) -> None:
        """Nothing is left."""

"""Forgetting a person completely, with the proof: what was deleted, and a look at every byte that is left.

`Gallery.forget` deletes; here stands what belongs to it beside the gallery, for the command line and the server alike.
"""

from dataclasses import dataclass
from pathlib import Path

from visavis.errors import GalleryError
from visavis.face.gallery import FolderGallery, Gallery
from visavis.face.gallery.audit import Audit
from visavis.face.gallery.encryption import PHOTOS, wipe
from visavis.face.gallery.index import quantise
from visavis.face.gallery.scanning import scan
from visavis.face.gallery.traces import face_pieces, name_pieces

__all__ = ["Forgotten", "forget"]


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was deleted, and what a scan of the gallery's files found of it afterwards."""

    faces: int  # each with its embedding, its picture and its row of the search index
    names: int  # 1, or 0 of a person without
    log_entries: int  # of the log of who asked, that the person was in
    uploads: int  # photos that were uploaded and are deleted now
    photos: tuple[Path, ...]  # files that show the person still: they are the user's
    files: int  # scanned
    bytes: int  # scanned
    traces: int  # pieces of what was deleted that were found; 0: nothing is left


def forget(gallery: Gallery, person: int, *, state: Path | None = None, uploads: bool = False) -> Forgotten:
    """Delete all that is held of a person, down to the bytes on disk, and look for what may be left of it.

    Photos stay where they are, and known, so that no index brings the faces back. The files of an encrypted gallery are
    scanned as they lie there, encrypted.

    Args:
        gallery: in a folder, whose files are scanned, or on Milvus, whose servers are not.
        person: the id.
        state: where a server of it keeps its log; the gallery's folder when absent.
        uploads: delete uploaded photos, too, that show nobody else.

    Raises:
        GalleryError: no such person; a process still reads the old bytes, which go when it ends; or, after all is
            deleted, a file cannot be looked through.
    """
    folder = gallery.folder if isinstance(gallery, FolderGallery) else None
    state = state or folder
    name = next((row.name for row in gallery.people(ids=[person])), None)
    faces = gallery.faces(person=person)
    embeddings = gallery.embeddings(people=[person])
    pieces = [] if name is None else name_pieces(name)
    for face_id, vector, quantised in zip(
        embeddings.face_ids.tolist(), embeddings.vectors, quantise(embeddings.vectors)[0], strict=True
    ):
        pieces += face_pieces(vector, quantised, gallery.thumbnail(face_id))
    shown = gallery.photos(ids=sorted({face.photo_id for face in faces}))
    alone = {
        photo.id
        for photo in shown
        if uploads and all(face.person_id == person for face in gallery.faces(photo=photo.id))
    }
    count = gallery.forget(person)
    entries = deleted = 0
    left: list[Path] = []
    if state is not None:
        entries = Audit(state).forget(person)
    for photo in shown:
        for path in photo.paths:
            if photo.id in alone and state is not None and path.is_relative_to(state / PHOTOS):
                wipe(path)
                gallery.remove_file(path)
                deleted += 1
            elif path.exists():
                left.append(path)
    files = size = traces = 0
    for place in {place for place in (folder, state) if place is not None}:
        try:
            more_files, more_bytes, found = scan(place, pieces, leave_out=[PHOTOS])
        except OSError as error:
            raise GalleryError(
                f"{place}: person {person} is forgotten, but not all files can be looked through: {error}"
            ) from error
        files, size, traces = files + more_files, size + more_bytes, traces + len(found)
    return Forgotten(count, int(name is not None), entries, deleted, tuple(left), files, size, traces)

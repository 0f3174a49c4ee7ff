"""People, photos, faces and vectors on disk: `Gallery`, and the records it takes and gives."""

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
from visavis.face.gallery.store import Gallery

__all__ = [
    "Counts",
    "EmbedderId",
    "Embeddings",
    "FaceRow",
    "FileRow",
    "Gallery",
    "Imported",
    "NewFace",
    "PersonRow",
    "PhotoRow",
]

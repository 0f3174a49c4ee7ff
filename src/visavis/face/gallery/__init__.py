"""People, photos, faces and vectors, in a folder or on Milvus: `Gallery`, and the records it takes and gives."""

from visavis.face.gallery.opening import open_gallery
from visavis.face.gallery.protocol import Gallery
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
from visavis.face.gallery.store import FolderGallery

__all__ = [
    "Counts",
    "EmbedderId",
    "Embeddings",
    "FaceRow",
    "FileRow",
    "FolderGallery",
    "Gallery",
    "Imported",
    "NewFace",
    "PersonRow",
    "PhotoRow",
    "open_gallery",
]

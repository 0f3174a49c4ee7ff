"""Galleries of drawn faces, for the tests of the gallery."""

from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from visavis.face.gallery import EmbedderId, FolderGallery, Gallery, NewFace, open_gallery
from visavis.face.records import Detection, Photo

DIM = 32
MODEL = EmbedderId("test", "ab" * 32, DIM)
JPEG = b"\xff\xd8\xff\xe0"


def unit(seed: int, dim: int = DIM):
    vector = np.random.default_rng(seed).standard_normal(dim).astype(np.float32)
    return vector / np.linalg.norm(vector)


def new_face(seed: int, quality: float = 0.5) -> NewFace:
    box = np.array([seed, 0, seed + 10, 12], np.float32)
    detection = Detection(box, np.arange(10, dtype=np.float32).reshape(5, 2), 0.75)
    return NewFace(detection, 1.5, quality, unit(seed), JPEG + np.random.default_rng(seed).bytes(300))


def add(gallery: Gallery, content: int, *seeds: int, path: str | None = None) -> list[int]:
    """A photo whose content is the number, with a face a seed."""
    where = Path(path or f"/photos/{content}.jpg")
    photo = Photo(where, f"{content:064x}", 640, 480, datetime(2020, 1, 2, 3, 4, 5))
    faces = [new_face(seed) for seed in seeds]
    return gallery.add_photo(photo, size_bytes=10, mtime_ns=content, faces=faces)


@pytest.fixture
def gallery(tmp_path):
    with FolderGallery.open(tmp_path / "g", model=MODEL) as gallery:
        yield gallery


@pytest.fixture(params=["folder", pytest.param("milvus", marks=pytest.mark.slow)])
def either(request, tmp_path, monkeypatch):
    """A gallery in a folder, and one on Milvus: what holds of galleries holds of both."""
    if request.param == "folder":
        place = tmp_path / "g"
    else:
        place = request.getfixturevalue("milvus")
        # Writing all again without what was deleted takes seconds; test_milvus.py looks at it.
        monkeypatch.setattr("visavis.face.gallery.milvus.tables.Tables.purge", lambda *_: None)
    with open_gallery(place, model=MODEL) as gallery:
        yield gallery


def contents(gallery: Gallery):
    """All that an export would carry, in a form that compares."""
    return (
        gallery.counts(),
        gallery.people(),
        gallery.files(),
        gallery.embeddings().vectors.tobytes(),
        gallery.separated(),
    )

"""A gallery of this computer, asked and answering as `FaceClient` does, so that commands need not know which it is."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from visavis import __version__
from visavis.face.wire import About, Clustered, Enrolled, Face, Forgotten, Found, Hit, Imported, Person, Photo

if TYPE_CHECKING:
    from visavis.face.gallery import Gallery
    from visavis.face.system import FaceSystem

__all__ = ["LocalGallery", "LocalSystem"]


class LocalGallery:
    """What needs no models: they need not be here, nor does the TOML that names them."""

    def __init__(self, gallery: "Gallery") -> None:
        self.gallery = gallery

    def close(self) -> None:
        """Let go of the gallery."""
        self.gallery.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def about(self) -> About:
        """As `FaceClient.about`."""
        return About.of(__version__, self.gallery.model.name, self.gallery.counts())

    def people(self) -> list[Person]:
        """As `FaceClient.people`."""
        return [Person.of(row) for row in self.gallery.people()]

    def faces(self, *, person: int) -> list[Face]:
        """As `FaceClient.faces`."""
        rows = sorted(self.gallery.faces(person=person), key=lambda row: -row.quality)
        return [Face.of(row) for row in rows]

    def photos(self) -> list[Photo]:
        """As `FaceClient.photos`."""
        return [Photo.of(row) for row in self.gallery.photos()]

    def name(self, person: int, name: str) -> Person:
        """As `FaceClient.name`."""
        self.gallery.name(person, name)
        return self._person(person)

    def merge(self, into: int, others: Sequence[int]) -> Person:
        """As `FaceClient.merge`."""
        self.gallery.merge(into, others)
        return self._person(into)

    def split(self, faces: Sequence[int]) -> Person:
        """As `FaceClient.split`."""
        return self._person(self.gallery.split(faces))

    def forget(self, person: int, *, uploads: bool) -> Forgotten:
        """As `FaceClient.forget`."""
        from visavis.face.forgetting import forget

        return Forgotten.of(forget(self.gallery, person, uploads=uploads))

    def export_to(self, path: Path, *, plain: bool) -> None:
        """As `FaceClient.export_to`; `plain` as `Gallery.export_to`."""
        self.gallery.export_to(path, plain=plain)

    def import_from(self, path: Path) -> Imported:
        """As `FaceClient.import_from`."""
        return Imported.of(self.gallery.import_from(path))

    def _person(self, person: int) -> Person:
        [row] = self.gallery.people(ids=[person])
        return Person.of(row)


class LocalSystem(LocalGallery):
    """What needs the models, too."""

    def __init__(self, system: "FaceSystem") -> None:
        super().__init__(system.gallery)
        self.system = system

    def close(self) -> None:
        """Let go of the gallery."""
        self.system.close()

    def identify(self, photo: Path, *, false_match_rate: float, liveness: bool) -> list[Found]:
        """As `FaceClient.identify`."""
        found = self.system.identify(photo, false_match_rate=false_match_rate, liveness=liveness)
        return [Found.of(one) for one in found]

    def search(self, photo: Path, *, k: int) -> list[Hit]:
        """As `FaceClient.search`."""
        return [Hit.of(hit) for hit in self.system.search(photo, k=k)]

    def enroll(self, name: str, photos: Sequence[Path]) -> Enrolled:
        """As `FaceClient.enroll`; here the photos are known as their files, too."""
        person = self.system.enroll(name, photos)
        return Enrolled(person, name, self._person(person).faces)

    def cluster(self, *, fresh: bool) -> Clustered:
        """As `FaceClient.cluster`."""
        return Clustered.of(self.system.cluster(fresh=fresh))

"""The face system in one object: a gallery, the stages that fill it, and the questions one asks of it."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from visavis.errors import GalleryError, InputError, ModelError, PhotoError
from visavis.face.analyze import AnalyzedFace, Analyzer
from visavis.face.cluster import cluster
from visavis.face.forgetting import Forgotten, forget
from visavis.face.gallery import EmbedderId, Embeddings, FaceRow, Gallery, open_gallery
from visavis.face.gallery.milvus import is_address
from visavis.face.gallery.opening import gallery_exists
from visavis.face.indexing import IndexReport, absolute, index
from visavis.face.liveness import Liveness
from visavis.face.match import Calibration, calibration_of, members_of, template
from visavis.face.models import Pack, load_pack, packs, pull
from visavis.face.photos import Decoded
from visavis.face.ray_workers import LOCAL, RayWorkers
from visavis.face.records import Face, Live, Photo
from visavis.face.runtime import Precision
from visavis.face.workers import AnalysisOptions, Workers, cores, new_face

__all__ = ["ClusterReport", "FaceSystem", "Hit", "Identified", "Verified", "verify"]

DEFAULT_OPTIONS = AnalysisOptions()

Progress = Callable[[int, int | None], None]


def _silent(_done: int, _total: int | None) -> None:
    """No progress shown."""


@dataclass(frozen=True, slots=True, eq=False)
class Identified:
    """A face of a photo, and who it is."""

    face: Face
    person_id: int | None  # None: unknown
    person: str | None
    similarity: float | None  # to the nearest named person; None where nobody has a name
    probability: float | None  # that it is that person, everybody and nobody being equally likely before
    false_match_rate: float | None  # how often a stranger comes as near to anybody in the gallery


@dataclass(frozen=True, slots=True, eq=False)
class Verified:
    """Whether two photos show one person: the largest face of each."""

    same: bool
    similarity: float
    probability: float
    false_match_rate: float
    faces: tuple[Face, Face]


@dataclass(frozen=True, slots=True, eq=False)
class Hit:
    """A face of the gallery that resembles the one searched."""

    face: FaceRow
    similarity: float
    probability: float
    false_match_rate: float  # of one such comparison


@dataclass(frozen=True, slots=True)
class ClusterReport:
    people: int  # all people with faces, named or not
    new: int  # of these made now
    placed: int  # faces that got a person, or another one
    alone: int  # faces that belong to nobody


def verify(
    photo: str | Path,
    other: str | Path,
    analyzer: Analyzer,
    *,
    options: AnalysisOptions = DEFAULT_OPTIONS,
    false_match_rate: float = 1e-3,
    liveness: Liveness | None = None,
) -> Verified:
    """Whether two photos show one person; needs no gallery. Arguments and errors as `FaceSystem.verify`."""
    analyzer.calibration.similarity_at(false_match_rate)  # refuses a rate out of range before any work
    (first, face), (second, face_of_other) = (_largest(path, analyzer, options) for path in (photo, other))
    [live], [live_of_other] = _judged(liveness, first, [face]), _judged(liveness, second, [face_of_other])
    similarity = float(face.embedding @ face_of_other.embedding)
    rate = analyzer.calibration.false_match_rate(similarity)
    return Verified(
        rate <= false_match_rate,
        similarity,
        analyzer.calibration.probability(similarity),
        rate,
        (_face(first, face, None, live), _face(second, face_of_other, None, live_of_other)),
    )


class FaceSystem:
    """Open with `FaceSystem.open`; close it, or use it in a `with`. Not for two threads at once.

    >>> from visavis.face import FaceSystem
    >>> FaceSystem.open("nowhere/at/all.visavis", create=False)
    Traceback (most recent call last):
        ...
    visavis.errors.GalleryError: nowhere/at/all.visavis: expected a gallery, got no such folder
    """

    def __init__(
        self,
        gallery: Gallery,
        pack: Pack,
        calibration: Calibration,
        options: AnalysisOptions,
        precision: Precision,
        accept_licence: bool,
        threads: int,
    ) -> None:
        self.gallery = gallery
        self.pack = pack
        self.calibration = calibration
        self.options = options
        self.precision = precision
        self.accept_licence = accept_licence
        self.threads = threads
        self._analyzer: Analyzer | None = None
        self._liveness: Liveness | None = None

    @classmethod
    def open(
        cls,
        folder: str | Path,
        *,
        pack: str | Path | None = None,
        create: bool = True,
        options: AnalysisOptions = DEFAULT_OPTIONS,
        precision: Precision = "bfloat16",
        accept_licence: bool = False,
        threads: int | None = None,
        key: str | None = None,
    ) -> Self:
        """Open a gallery, and make it when absent.

        Args:
            folder: the gallery's, or the URL of one on Milvus, `milvus://HOST:PORT/NAME`.
            pack: name of the models, or path of a pack's TOML. When absent, an existing gallery's own, and "default"
                for a new one.
            create: False: refuse to make a gallery.
            options: how photos are looked at.
            precision: of the embedder. bfloat16 is used where the CPU has it; it costs nothing that can be measured in
                accuracy, see the benchmarks, and embeddings of both may stand in one gallery.
            accept_licence: take weights that are for research only.
            threads: for one photo; as many as there are cores when absent.
            key: of an encrypted gallery; a new one is encrypted with it.

        Raises:
            GalleryError: the gallery is of another model or key, or cannot be opened.
            ModelError: no such pack, or its models cannot be had.
        """
        place = folder if is_address(folder) else absolute(folder)
        exists = gallery_exists(place)
        if not exists and not create:
            missing = "no such folder" if isinstance(place, Path) else "none of that name"
            found = "a folder without one" if isinstance(place, Path) and place.is_dir() else missing
            raise GalleryError(f"{folder}: expected a gallery, got {found}")
        chosen = _pack_of(place, key) if pack is None and exists else load_pack(pack or "default")
        calibration = calibration_of(chosen)
        for spec in (chosen.detector, chosen.embedder) if not exists else ():
            pull(spec, accept_licence=accept_licence)  # first, so that a missing model leaves no gallery behind
        gallery = open_gallery(place, model=_embedder_id(chosen), key=key)
        return cls(gallery, chosen, calibration, options, precision, accept_licence, threads or cores())

    def close(self) -> None:
        """Let go of the gallery."""
        self.gallery.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Photos come in

    def index(
        self,
        *folders: str | Path,
        workers: int | None = None,
        ray: str | None = None,
        prune: bool = False,
        clusters: bool = True,
        progress: Progress = _silent,
    ) -> IndexReport:
        """Take in the photos below folders: only what is new or changed, and safe to interrupt; see `indexing.index`.

        Args:
            folders: existing folders, or single files.
            workers: processes, at least 1; as many as there are cores when absent.
            ray: a cluster whose machines look at the photos, which they see under the same paths; see `RayWorkers`.
            prune: take out photos of a folder that holds no file any more.
            clusters: afterwards sort faces into people, also those that an interrupted run has left unsorted.
            progress: called with the number of files done and their total.
        """
        count = cores() if workers is None else workers
        if count < 1:
            raise InputError(f"workers: expected at least 1, got {count}")
        for spec in (self.pack.detector, self.pack.embedder):
            pull(spec, accept_licence=self.accept_licence)
        if ray not in (None, LOCAL) and workers is not None:
            raise InputError(f"workers: expected none beside the address of a cluster, got {workers}")
        recipe = Workers(self.pack, self.calibration, self.options, self.precision, count)
        report = index(
            self.gallery,
            [Path(folder) for folder in folders],
            recipe if ray is None else RayWorkers(recipe, ray),
            prune=prune,
            progress=progress,
        )
        if clusters and self.gallery.has_unsorted_faces():
            self.cluster()
        return report

    def enroll(self, name: str, photos: Sequence[str | Path], *, keep_files: bool = True) -> int:
        """Tell who the one face, or the clearly largest, of each photo is. All photos are taken, or none.

        A person without a name to whom such a face belongs gets the name, as by `name`, with all faces.

        Args:
            name: the person's.
            photos: their paths.
            keep_files: False: the faces stay, and nothing is known of the files afterwards.

        Returns:
            The person's id, made when the name is new.

        Raises:
            PhotoError: a photo cannot be read, shows no face, or several of like size.
        """
        if not photos:
            raise InputError("photos: expected at least one, got none")
        looked_at = []
        for path in map(absolute, photos):
            try:
                status = path.stat()  # before it is read: a file that changes meanwhile is looked at again
            except OSError as error:
                raise PhotoError(f"{path}: file: cannot be read ({error.strerror})") from error
            decoded, faces = self._look(path)
            looked_at.append((status, decoded.photo, faces, _subject(path, faces)))
        face_ids = []
        with self.gallery.transaction():
            for status, photo, faces, subject in looked_at:
                ids = self.gallery.add_photo(
                    photo,
                    size_bytes=status.st_size,
                    mtime_ns=status.st_mtime_ns,
                    faces=[new_face(face) for face in faces],
                )
                face_ids.append(ids[faces.index(subject)] if len(ids) == len(faces) else self._find(photo, subject))
            rows = self.gallery.faces(ids=face_ids)
            nameless = sorted({row.person_id for row in rows if row.person_id is not None and row.person is None})
            person = self.gallery.find_person(name)
            if person is None and nameless:
                person = nameless.pop(0)
                self.gallery.name(person, name)
            if person is not None and nameless:
                self.gallery.merge(person, nameless)
            person = self.gallery.enroll(face_ids, name)
            for _, photo, _, _ in () if keep_files else looked_at:
                self.gallery.remove_file(photo.path)
            return person

    # Questions

    def analyze(self, photo: str | Path) -> list[Face]:
        """The faces of one photo with their embeddings, the surest first; the gallery is not touched."""
        decoded, faces = self._look(absolute(photo))
        return [_face(decoded, face, None) for face in faces]

    def identify(
        self, photo: str | Path, *, false_match_rate: float = 1e-3, liveness: bool = False
    ) -> list[Identified]:
        """Who is in a photo: each face against a template of everybody named, made of that person's best faces.

        Args:
            photo: its path.
            false_match_rate: call a face unknown unless fewer strangers than this come as near to anybody.
            liveness: judge each face by the pack's liveness model, too; who it is does not depend on that.
        """
        ids, templates, names = self.templates()
        self.calibration.similarity_at(false_match_rate)  # refuses a rate out of range before any work
        decoded, faces = self._look(absolute(photo))
        results = []
        for face, live in zip(faces, _judged(self.liveness if liveness else None, decoded, faces), strict=True):
            if len(ids) == 0:
                results.append(Identified(_face(decoded, face, None, live), None, None, None, None, None))
                continue
            similarities = templates @ face.embedding
            best = int(similarities.argmax())
            similarity = float(similarities[best])
            rate = self.calibration.false_match_rate(similarity, candidates=len(ids))
            known = rate <= false_match_rate
            person = names[int(ids[best])] if known else None
            results.append(
                Identified(
                    _face(decoded, face, person, live),
                    int(ids[best]) if known else None,
                    person,
                    similarity,
                    self.calibration.probability(similarity, candidates=len(ids)),
                    rate,
                )
            )
        return results

    def verify(
        self, photo: str | Path, other: str | Path, *, false_match_rate: float = 1e-3, liveness: bool = False
    ) -> Verified:
        """Whether two photos show one person, by the largest face of each.

        Args:
            photo: the path of one.
            other: the path of the other.
            false_match_rate: say "same" only when fewer pairs of different people than this are as similar.
            liveness: judge both faces by the pack's liveness model, too; the answer does not depend on that.

        Raises:
            PhotoError: a photo cannot be read or shows no face.
        """
        return verify(
            photo,
            other,
            self.analyzer,
            options=self.options,
            false_match_rate=false_match_rate,
            liveness=self.liveness if liveness else None,
        )

    def search(self, photo: str | Path, *, k: int = 20, face: int | None = None) -> list[Hit]:
        """The `k` faces of the gallery most like a face of a photo.

        Args:
            photo: its path.
            k: at least 1.
            face: which one, counted from 0 as `analyze` and `identify` answer; the largest when absent.

        Raises:
            PhotoError: the photo cannot be read or shows no face.
            InputError: it shows fewer faces.
        """
        if face is None:
            _, chosen = _largest(photo, self.analyzer, self.options)
        else:
            _, found = self._look(absolute(photo))
            if not 0 <= face < len(found):
                raise InputError(f"face: expected one of the {len(found)} in the photo, counted from 0, got {face}")
            chosen = found[face]
        ids, similarities = self.gallery.search(chosen.embedding[None], k)
        rows = {row.id: row for row in self.gallery.faces(ids=ids[0][ids[0] >= 0])}
        return [
            Hit(
                rows[int(face_id)],
                float(similarity),
                self.calibration.probability(float(similarity)),
                self.calibration.false_match_rate(float(similarity)),
            )
            for face_id, similarity in zip(ids[0], similarities[0], strict=True)
            if int(face_id) in rows
        ]

    # People

    def cluster(self, *, fresh: bool = False) -> ClusterReport:
        """Sort faces into people: new faces join those there or found new ones.

        What the user has said stays: faces named, merged, split or enrolled are not moved, people split apart are not
        joined, and two people with a name or with such faces never are.

        Args:
            fresh: first take apart what was sorted by earlier calls.
        """
        while True:
            faces = self.gallery.embeddings()
            people = self.gallery.people()
            kept = faces.person_ids > 0
            if fresh:
                kept &= faces.pinned
            decided = {row.id for row in people if row.name is not None} | set(faces.person_ids[faces.pinned].tolist())
            labels = cluster(
                faces.vectors,
                threshold=self.calibration.cluster_similarity,
                group=np.where(kept, faces.person_ids, -1),
                separate=sorted(self.gallery.separated()),
                exclusive=sorted(decided),
            )
            with self.gallery.transaction():
                if self._is_current(faces):
                    return self._place(faces, labels, set(faces.person_ids[kept].tolist()))

    def _is_current(self, before: Embeddings) -> bool:
        """Whether all faces are still where they were; those that have come since do not matter."""
        ids, person_ids, pinned = self.gallery.placements()
        there = np.isin(ids, before.face_ids)
        return (
            np.array_equal(before.face_ids, ids[there])
            and np.array_equal(before.person_ids, person_ids[there])
            and np.array_equal(before.pinned, pinned[there])
        )

    def _place(self, faces: Embeddings, labels: NDArray[np.int64], existing: set[int]) -> ClusterReport:
        """Put faces where clustering wants them: under the person of that number, or together under a new one."""
        moved = new = 0
        for label, members in members_of(labels):
            person = label if label in existing else None
            if person is None and len(members) > 1:
                person = self.gallery.new_person()
                new += 1
            moved += self.gallery.assign(faces.face_ids[members], person, pinned=False)
        self.gallery.mark_sorted(int(faces.face_ids.max(initial=0)))
        after = self.gallery.people()
        alone = len(labels) - sum(row.faces for row in after)
        return ClusterReport(sum(row.faces > 0 for row in after), new, moved, alone)

    def name(self, person: int, name: str) -> None:
        """Give a person a name; the faces there now are taken as confirmed and stay.

        Raises:
            GalleryError: no such person, or someone else has the name: merge the two.
        """
        self.gallery.name(person, name)

    def forget(self, person: int, *, uploads: bool = False) -> Forgotten:
        """Delete all that is held of a person, and look for what may be left; see `forgetting.forget`.

        Args:
            person: the id.
            uploads: delete photos uploaded to a server of it, too, that show nobody else.

        Raises:
            GalleryError: no such person, or a process still reads the old bytes, which go when it ends.
        """
        return forget(self.gallery, person, uploads=uploads)

    # Inside

    @property
    def analyzer(self) -> Analyzer:
        """The stages, loaded on first use."""
        if self._analyzer is None:
            self._analyzer = Analyzer(
                self.pack,
                calibration=self.calibration,
                threads=self.threads,
                precision=self.precision,
                accept_licence=self.accept_licence,
            )
        return self._analyzer

    @property
    def liveness(self) -> Liveness:
        """The pack's liveness model, fetched and loaded on first use."""
        if self._liveness is None:
            self._liveness = Liveness(self.pack, threads=self.threads, accept_licence=self.accept_licence)
        return self._liveness

    def _look(self, path: Path) -> tuple[Decoded, list[AnalyzedFace]]:
        return _look(path, self.analyzer, self.options)

    def _find(self, photo: Photo, face: AnalyzedFace) -> int:
        """The row of a face in a photo that was known already: the one whose box is nearest."""
        [photo_id] = {row.photo_id for row in self.gallery.files(photo.path.parent) if row.path == photo.path}
        box = face.detection.box_xyxy_px
        off = {
            row.id: float(np.abs(row.detection.box_xyxy_px - box).max()) for row in self.gallery.faces(photo=photo_id)
        }
        nearest = min(off, key=off.__getitem__, default=None)
        if nearest is None or off[nearest] > 0.25 * (box[2] - box[0]):
            raise GalleryError(f"{photo.path}: its face was forgotten; enroll from another photo")
        return nearest

    def templates(self) -> tuple[NDArray[np.int64], NDArray[np.float32], dict[int, str]]:
        """[P] ids and [P, D] templates of everybody who has a name and a face, and the names."""
        named = {row.id: row.name for row in self.gallery.people() if row.name is not None}
        faces = self.gallery.embeddings(people=list(named))
        ids, templates = [], []
        for person, members in members_of(faces.person_ids):
            ids.append(person)
            templates.append(template(faces.vectors[members], faces.quality[members]))
        stacked = np.stack(templates) if templates else np.empty((0, self.gallery.model.dim), np.float32)
        return np.array(ids, np.int64), stacked, named


def _embedder_id(pack: Pack) -> EmbedderId:
    """Tells packs apart whose embeddings or calibrations differ: other weights, another detector, other crops."""
    spec = pack.embedder
    if spec.dim is None:
        raise ModelError(f"{spec.name}: expected `dim` in the pack's TOML, the length of its embeddings, got none")
    pixels = [(model.input.colour, model.input.mean, model.input.scale) for model in (pack.detector, spec)]
    crop = (spec.input.width, spec.input.height, spec.template, spec.flip)
    facts = (pack.detector.digest, spec.digest, pixels, crop)
    return EmbedderId(spec.name, sha256(json.dumps(facts).encode()).hexdigest(), spec.dim)


def _pack_of(place: str | Path, key: str | None) -> Pack:
    """The pack that an existing gallery is of."""
    with open_gallery(place, key=key) as gallery:
        model, shown = gallery.model, gallery.place
    for pack in packs().values():
        if _embedder_id(pack) == model:
            return pack
    raise GalleryError(f"{shown}: expected a gallery of a known pack, got one of {model}; name its pack's TOML")


def _look(path: Path, analyzer: Analyzer, options: AnalysisOptions) -> tuple[Decoded, list[AnalyzedFace]]:
    try:
        photo = options.read(path)
    except PhotoError as error:
        raise PhotoError(f"{path}: {error}") from error
    return photo, options.analyze(analyzer, [photo])[0]


def _largest(path: str | Path, analyzer: Analyzer, options: AnalysisOptions) -> tuple[Decoded, AnalyzedFace]:
    photo, faces = _look(absolute(path), analyzer, options)
    if not faces:
        raise PhotoError(f"{path}: expected a face, found none")
    return photo, max(faces, key=_area)


def _area(face: AnalyzedFace) -> float:
    left, top, right, bottom = face.detection.box_xyxy_px
    return float((right - left) * (bottom - top))


def _subject(path: Path, faces: list[AnalyzedFace]) -> AnalyzedFace:
    """The one face a photo is of."""
    if not faces:
        raise PhotoError(f"{path}: expected a face, found none")
    largest, *others = sorted(faces, key=_area, reverse=True)
    if others and _area(others[0]) > 0.5 * _area(largest):
        raise PhotoError(f"{path}: expected one face or one clearly largest, found {len(faces)}")
    return largest


def _judged(liveness: Liveness | None, photo: Decoded, faces: Sequence[AnalyzedFace]) -> Sequence[Live | None]:
    if liveness is None:
        return [None] * len(faces)
    return liveness.of_photo(photo, [face.detection for face in faces])


def _face(photo: Decoded, face: AnalyzedFace, person: str | None, live: Live | None = None) -> Face:
    return Face(None, photo.photo, face.detection, face.quality, face.embedding, person, live)

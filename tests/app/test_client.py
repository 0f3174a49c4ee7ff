"""FaceClient against a real server on a gallery of drawn faces."""

import hashlib
import io
import time
from datetime import datetime

import pytest
from PIL import Image

from tests.app.server_client import API, EASY, gallery, png, service
from tests.app.web_client import serving
from tests.face import scenes
from tests.face.fake_pack import photo, pixels
from visavis.app.server.application import make_app
from visavis.errors import AccessError, GalleryError, InputError, NotFoundError, PhotoError
from visavis.face import FaceClient
from visavis.face.gallery import FolderGallery
from visavis.face.wire import About, Enrolled, Face, Found, Imported, Job, Person, Photo, Verified

__all__ = ["gallery", "service"]  # fixtures

pytestmark = pytest.mark.usefixtures("in_process")

# What no method of the client is for.
LEFT_OUT = {
    ("GET", "/api/v1/session"): "for browsers",
    ("POST", "/api/v1/session"): "for browsers",
    ("DELETE", "/api/v1/session"): "for browsers",
    ("GET", "/api/v1/streams/events"): "endless: see test_streams",
    ("GET", "/healthz"): "for what watches over servers",
    ("GET", "/metrics"): "for Prometheus",
}


class Noting:
    """ASGI middleware that notes which operations were asked for."""

    def __init__(self, app):
        self.app, self.seen = app, []

    async def __call__(self, scope, receive, send):
        async def noted(message):
            if message["type"] == "http.response.start":
                self.seen.append((scope["method"], getattr(scope.get("route"), "path", None)))
            await send(message)

        await self.app(scope, receive, noted)


@pytest.fixture
def app(service):
    return Noting(make_app(service, EASY))


@pytest.fixture
def url(app):
    with serving(app) as address:
        yield address


@pytest.fixture
def faces(url, service):
    """An owner's client."""
    with FaceClient(url, token=service.tokens.add("owner", "admin")) as client:
        yield client


def test_every_operation_has_a_method(faces, app, photos, tmp_path, service):
    """In an order in which each finds what it needs."""
    started = []
    calls = {
        ("GET", "/gallery"): lambda: faces.about(),
        ("GET", "/people"): lambda: faces.people(),
        ("GET", "/people/{person}"): lambda: faces.person(1),
        ("GET", "/people/{person}/faces"): lambda: faces.faces(person=1),
        ("GET", "/photos"): lambda: list(faces.photos()),
        ("GET", "/photos/{photo}"): lambda: faces.photo(1),
        ("GET", "/photos/{photo}/faces"): lambda: faces.faces(photo=1),
        ("GET", "/faces/{face}"): lambda: faces.face(1),
        ("GET", "/faces/{face}/thumbnail"): lambda: faces.thumbnail(1),
        ("POST", "/identify"): lambda: faces.identify(png(0)),
        ("POST", "/verify"): lambda: faces.verify(png(0), png(1)),
        ("POST", "/search"): lambda: faces.search(png(0)),
        ("POST", "/enroll"): lambda: faces.enroll("Eve", [png(5)]),
        ("POST", "/cluster"): lambda: faces.cluster(),
        ("PATCH", "/people/{person}"): lambda: faces.name(2, "Bob"),
        ("POST", "/people/split"): lambda: faces.split([4]),
        ("POST", "/people/{person}/merge"): lambda: faces.merge(2, [faces.face(4).person]),
        ("GET", "/export"): lambda: faces.export_to(tmp_path / "export"),
        ("POST", "/import"): lambda: faces.import_from(tmp_path / "export"),
        ("POST", "/photos"): lambda: faces.upload([png(7)]),
        ("POST", "/index/jobs"): lambda: started.append(faces.index(photos)),
        ("GET", "/index/jobs"): lambda: faces.jobs(),
        ("GET", "/index/jobs/{job}"): lambda: faces.job(started[0].id),
        ("GET", "/index/jobs/{job}/events"): lambda: list(faces.watch(started[0].id)),
        ("DELETE", "/index/jobs/{job}"): lambda: faces.cancel(started[0].id),
        ("GET", "/people/{person}/alike"): lambda: faces.alike(1),
        ("GET", "/people/{person}/doubts"): lambda: faces.doubts(1),
        ("POST", "/people/{person}/faces"): lambda: faces.give(2, [6]),
        ("POST", "/changes/{change}/undo"): lambda: faces.undo(),
        ("POST", "/people/{person}/separate"): lambda: faces.separate(1, [2]),
        ("GET", "/review"): lambda: list(faces.review()),
        ("GET", "/calibration"): lambda: faces.calibration(),
        ("GET", "/timeline"): lambda: faces.timeline(),
        ("GET", "/photos/{photo}/picture"): lambda: faces.picture(1, px=320),
        ("POST", "/photos/known"): lambda: faces.known([faces.photo(1).sha256]),
        ("GET", "/skipped"): lambda: list(faces.skipped()),
        ("GET", "/server"): lambda: faces.server(),
        ("GET", "/models"): lambda: faces.models(),
        ("GET", "/tokens"): lambda: faces.tokens(),
        ("GET", "/streams"): lambda: faces.streams(),
        ("POST", "/streams"): lambda: refused(lambda: faces.start_stream("door")),
        ("GET", "/streams/{stream}"): lambda: refused(lambda: faces.stream(9)),
        ("DELETE", "/streams/{stream}"): lambda: refused(lambda: faces.stop_stream(9)),
        ("GET", "/streams/{stream}/frame"): lambda: refused(lambda: faces.stream_frame(9)),
        ("GET", "/streams/seen"): lambda: faces.seen(),
        ("GET", "/streams/seen/{visit}/picture"): lambda: refused(lambda: faces.seen_picture(9)),
        ("DELETE", "/people/{person}"): lambda: faces.forget(1),
    }
    for operation, call in calls.items():
        call()
        assert app.seen[-1] == operation
    schema = make_app(service, EASY).openapi()
    operations = {(method.upper(), path) for path, methods in schema["paths"].items() for method in methods}
    covered = {(method, API + path) for method, path in calls}
    assert operations - covered == LEFT_OUT.keys()


def refused(ask):
    with pytest.raises((InputError, NotFoundError)):
        ask()


def test_what_it_hands_out(faces, photos, monkeypatch):
    about = faces.about()
    assert (type(about), about.photos, about.faces, about.people, about.named) == (About, 6, 6, 2, 1)
    ada, nameless = faces.people()
    assert (type(ada), ada.name, ada.faces, nameless.name) == (Person, "Ada", 3, None)
    assert faces.person(1) == ada
    best, *others = faces.faces(person=1)
    assert (type(best), best.id, best.name, len(others)) == (Face, ada.best_face, "Ada", 2)
    assert best.path == str(photos / f"{best.photo - 1}.png")
    assert best.box_xyxy_px == (-0.5, -0.5, 31.5, 31.5)
    assert best == faces.face(best.id)
    assert best in faces.faces(photo=best.photo)
    held = list(faces.photos())
    assert [type(one) for one in held] == [Photo] * 6
    assert held[0].paths == [str(photos / "0.png")]
    assert faces.photo(held[0].id) == held[0]
    assert Image.open(io.BytesIO(faces.thumbnail(best.id))).format == "JPEG"
    monkeypatch.setattr("visavis.face.client.PAGE", 1)  # all pages are fetched
    assert (faces.people(), list(faces.photos())) == ([ada, nameless], held)
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = "2024:05:01 12:30:00"
    Image.fromarray(pixels(3)).save(photos / "dated.jpg", exif=exif, quality=100)
    *_, job = faces.watch(faces.index(photos).id)
    assert (type(job), job.state, job.added) == (Job, "done", 1)
    assert next(one for one in faces.photos() if one.taken_at).taken_at == datetime(2024, 5, 1, 12, 30)


def test_questions_by_path_and_by_bytes(faces, photos):
    for asked in (png(0, 5), photo(photos / "asked.png", 0, 5), str(photos / "asked.png")):
        known, unknown = faces.identify(asked)
        assert (type(known), known.person, known.name, unknown.person) == (Found, 1, "Ada", None)
        assert known.probability > 0.9 > unknown.probability
        assert len(known.landmarks_xy_px) == 5
    assert faces.identify(png(0), false_match_rate=1e-9)[0].person is None
    same, other = faces.verify(png(0), photos / "1.png"), faces.verify(png(0), png(1))
    assert (type(same), same.same, other.same) == (Verified, True, False)
    assert same.faces[0].box_xyxy_px == (-0.5, -0.5, 31.5, 31.5)
    hits = faces.search(photos / "0.png", k=2)
    assert [(hit.face.name, hit.face.path is not None) for hit in hits] == [("Ada", True)] * 2


def test_photos_are_uploaded_to_stay(faces):
    new, old = png(7), faces.photo(1).sha256
    digest = hashlib.sha256(new).hexdigest()
    assert faces.known([digest, old]) == [old]
    done = faces.upload([new, b"no photo"])
    assert [(one.state, one.sha256) for one in done.photos] == [("stored", digest), ("refused", None)]
    *_, job = faces.watch(done.job)
    assert (job.state, job.added) == ("done", 1)
    assert faces.known([digest]) == [digest]
    [month] = faces.timeline()
    assert (month.month, len(month.photos)) == (None, 7)
    assert Image.open(io.BytesIO(faces.picture(month.photos[0], px=320))).size == (192, 192)
    assert faces.server().upload_bytes == 2**20
    assert faces.models().detector.name == "square-detector"
    assert [(token.name, token.scope, token.expires_at) for token in faces.tokens()] == [("owner", "admin", None)]
    assert list(faces.skipped()) == []


@pytest.mark.slow
def test_a_film_is_watched(faces, photos):
    clips = pytest.importorskip("tests.face.clips", reason="needs av", exc_type=ImportError)
    clips.write(photos / "film.mkv", map(scenes.pixels, scenes.stay(2, {0: (1, 1)})))
    stream = faces.start_stream(file=photos / "film.mkv", false_match_rate=0.01)
    end = time.monotonic() + 60
    while not faces.stream(stream.id).over and time.monotonic() < end:
        time.sleep(0.05)
    [ended] = faces.streams().streams
    assert (ended.id, ended.state, ended.error) == (stream.id, "ended", None)
    [visit] = faces.seen()
    assert (visit.person, visit.name, visit.present) == (1, "Ada", False)
    assert Image.open(io.BytesIO(faces.seen_picture(visit.id))).format == "JPEG"


def test_changes_are_undone(faces):
    with pytest.raises(InputError, match="change: expected one that this client has made, got none"):
        faces.undo()
    nameless = faces.people(named=False)
    assert [(one.id, one.name) for one in nameless] == [(2, None)]
    [unknown] = faces.review()
    assert (unknown.person, unknown.likely[0].person.name) == (nameless[0], "Ada")
    before = faces.people()
    faces.give(1, unknown.faces[:1])
    first = faces.last_change
    faces.merge(1, [2])
    assert [(one.name, one.faces) for one in faces.people()] == [("Ada", 5)]
    with pytest.raises(GalleryError):
        faces.undo(first)  # the same faces were changed since
    assert {one.id for one in faces.undo()} == {1, 2}
    faces.undo(first)
    assert faces.people() == before
    assert [one.name for one in faces.people(name="aDA")] == ["Ada"]


def test_enroll_takes_all_photos_or_none(faces, photos):
    done = faces.enroll("<Eve>", [png(5, seed=1), photo(photos / "e.png", 5)])
    assert done == Enrolled(done.person, "<Eve>", 2)
    with pytest.raises(PhotoError, match=f"^{photos}/two.png: expected one face or one clearly largest"):
        faces.enroll("Two", [png(6), photo(photos / "two.png", 6, 7)])
    assert "Two" not in {person.name for person in faces.people()}


def test_an_export_goes_into_another_gallery(faces, tmp_path, service):
    faces.export_to(tmp_path / "export")
    with FolderGallery.open(tmp_path / "other", model=service.gallery.model) as other:
        assert other.import_from(tmp_path / "export").faces == 6
    assert faces.forget(1).faces == 3
    assert faces.import_from(tmp_path / "export") == Imported(0, 0, 0)  # forgotten is forgotten
    with pytest.raises(FileNotFoundError):
        faces.import_from(tmp_path / "none")
    with pytest.raises(GalleryError, match=f"^{tmp_path}/0.png: expected a gallery's export"):
        faces.import_from(photo(tmp_path / "0.png", 0))


def test_errors_are_those_of_the_server(faces, tmp_path):
    for ask in (faces.person, faces.photo, faces.face, faces.thumbnail, faces.job, faces.cancel, faces.forget):
        with pytest.raises(NotFoundError, match="expected one of the gallery, got 99"):
            ask(99)
    with pytest.raises(NotFoundError):
        list(faces.watch(99))
    for call, kind, message in (
        (lambda: faces.name(2, "Ada"), GalleryError, "merge the two"),
        (lambda: faces.name(2, "\x1b"), InputError, "name: expected printable text"),
        (lambda: faces.merge(1, []), InputError, "others: "),
        (lambda: faces.identify(png(0), false_match_rate=2), InputError, "false_match_rate: "),
        (lambda: faces.index("/etc"), AccessError, "below an allowed --root"),
        (lambda: faces.search(png()), PhotoError, "^photo 1: expected a face, found none"),
        # the server answers while the photo is still being sent
        (lambda: faces.search(bytes(80 * 2**20)), PhotoError, "^body: expected at most 67108864 bytes"),
    ):
        with pytest.raises(kind, match=message):
            call()
    (tmp_path / "large").write_bytes(bytes(2**20 + 1))
    with pytest.raises(PhotoError, match=f"^{tmp_path}/large: expected at most 1048576 bytes"):
        faces.identify(tmp_path / "large")


def test_tokens(url, service):
    reader, writer = service.tokens.add("r", "read"), service.tokens.add("w", "write")
    for token, call, message in (
        ("", lambda faces: faces.name(1, "Eve"), "expected a token, or a page .*; give one as `token`"),
        ("visavis_wrong", FaceClient.about, "of this gallery, got another; give one as `token` or in VISAVIS_TOKEN"),
        (reader, lambda faces: faces.name(1, "Eve"), "expected the scope write, got read"),
        (writer, lambda faces: faces.forget(1), "expected the scope admin, got write"),
    ):
        with FaceClient(url, token=token) as faces, pytest.raises(AccessError, match=message):
            call(faces)
    with FaceClient(url) as anybody:
        assert anybody.person(1).name == "Ada"

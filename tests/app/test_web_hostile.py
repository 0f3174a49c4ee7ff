"""A gallery of hostile names, paths and photos in the browser: no script of theirs runs, nothing is an element."""

import os

import pytest

from tests.app.hostile_files import MARKUP, polyglots
from tests.app.server_client import EASY, LIMITS
from tests.app.web_client import Web, browser, serving
from tests.face.fake_pack import photo
from visavis.app.server.application import make_app
from visavis.app.server.service import Service
from visavis.face.system import FaceSystem

__all__ = ["browser"]  # a fixture

pytestmark = pytest.mark.usefixtures("in_process")

NAMES = (
    MARKUP[:190],
    "'\"><svg onload=alert(1)>",
    "{{constructor.constructor('alert(1)')()}}",
    "${alert(1)}`",
    "javascript:alert(1)",
    "\u2066<b>\u2069&lt;script&gt;",
)
PATHS = ("/", "/people", "/people/1", "/people/2", "/review", "/search", "/verify", "/streams", "/settings")


@pytest.fixture
def hostile(tmp_path, squares):
    """The service of a gallery where everything that has a name has a hostile one."""
    photos = tmp_path / "<img src=x onerror=alert(1)>"
    photos.mkdir()
    for number, name in enumerate(NAMES):
        for copy in range(2):
            photo(photos / f"{name.replace('/', '_')[:80]} {copy}.png", number)
    (photos / os.fsdecode(b"\xff<script>alert(1)<\\script>.jpg")).write_bytes(b"<script>alert(1)</script>")
    for name, data in polyglots().items():
        (photos / f"<script>{name}").write_bytes(data)
    with FaceSystem.open(tmp_path / "g.visavis", pack=squares) as system:
        system.index(photos)
        people = system.gallery.people()
        for person, name in zip(people, NAMES, strict=False):
            if name.isprintable():
                system.name(person.id, name)
    service = Service(tmp_path / "g.visavis", pack=squares, roots=[photos.resolve()], limits=LIMITS)
    yield service
    service.close()


def test_nothing_hostile_runs_or_is_taken_for_markup(hostile, browser):
    with serving(make_app(hostile, EASY)) as address:
        context = browser.new_context(viewport={"width": 1280, "height": 800}, locale="en-GB")
        web = Web(context.new_page(), address)
        alerts = []
        web.page.on("dialog", lambda dialog: (alerts.append(dialog.message), dialog.dismiss()))
        shown = ""
        for path in PATHS:
            page = web.goto(path)
            page.wait_for_load_state("networkidle")
            shown += page.inner_text("body")
            strange = page.evaluate(
                "document.querySelectorAll('[onerror], [onload], body script:not([src]), b').length"
            )
            assert strange == 0, path
            assert not page.evaluate("[...document.links].some((link) => link.protocol === 'javascript:')"), path
        context.close()
    assert MARKUP[:30] in shown  # as text
    assert not alerts
    assert not web.complaints()

"""The page of streams in a browser: starting, watching, who was seen; with drawn people and real processes."""

from contextlib import closing

import pytest

from tests.app.server_client import gallery
from tests.app.web_client import browser, expect_accessible, server, wait_for, web
from tests.face.clips import encode, rtsp, write
from tests.face.scenes import FPS, pixels, stay
from visavis.app.server.service import Service
from visavis.face.stream.sources import Source

__all__ = ["browser", "gallery", "server", "web"]  # fixtures

pytestmark = pytest.mark.usefixtures("in_process")

ADA, EVE = 0, 6
NAME = "<img src=x onerror=alert(1)>"
SCENES = [*stay(0.5, {}), *stay(2, {ADA: (1, 1), EVE: (8, 4)})]
LIVE = encode(map(pixels, stay(6, {ADA: (1, 1)})), container="ts")


@pytest.fixture
def service(gallery, photos, squares):
    write(photos / "clip.mkv", map(pixels, SCENES), times_s=[number / FPS for number in range(len(SCENES))])
    with rtsp(LIVE, pause_s=0.02) as door:
        sources = {"door": Source.parse(door.url), NAME: Source.parse(str(photos / "clip.mkv"))}
        with closing(Service(gallery, pack=squares, roots=[photos.resolve()], streams=sources)) as service:
            service.gallery.name(1, NAME)
            yield service


def test_a_page_without_streams_says_what_to_do(web):
    page = web.goto("/streams")
    page.get_by_role("heading", name="Nobody has been seen yet").wait_for()
    expect_accessible(page)


def test_a_file_is_watched_from_the_page_and_its_people_are_listed(web):
    page = web.goto("/streams")
    page.get_by_label("Camera or video").select_option(NAME)
    page.get_by_role("button", name="Start", exact=True).click()
    page.get_by_role("heading", name="Seen").wait_for()
    rows = page.locator(".visits li")
    wait_for(lambda: page.get_by_text("1 that has ended").count())
    assert rows.count() == 2
    ada = rows.filter(has=page.get_by_role("link", name=NAME))
    assert ada.count() == 1
    assert "0:00 – 0:02" in ada.inner_text()
    assert rows.filter(has_text="Unknown").count() == 1
    assert ada.locator("img").evaluate("(image) => image.naturalWidth") > 0
    expect_accessible(page)
    ada.get_by_role("link").click()
    page.wait_for_url("**/people/1")


@pytest.mark.slow
def test_a_camera_shows_its_picture_and_who_is_there_until_it_is_stopped(web):
    page = web.goto("/streams")
    page.get_by_label("Camera or video").select_option("door")
    page.get_by_role("button", name="Start", exact=True).click()
    stream = page.get_by_role("article", name="door")
    stream.get_by_role("link", name=NAME).wait_for()
    picture = stream.locator("img")
    picture.wait_for()
    wait_for(lambda: picture.evaluate("(image) => image.naturalWidth") == 320)
    assert "here now" in page.locator(".visits").inner_text()
    for scheme in ("light", "dark"):
        page.mouse.move(0, 0)
        page.emulate_media(color_scheme=scheme)
        expect_accessible(page)
    page.set_viewport_size({"width": 375, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    stream.get_by_role("button", name="Stop").click()
    stream.wait_for(state="detached")
    wait_for(lambda: "here now" not in page.locator(".visits").inner_text())


@pytest.mark.slow
def test_whoever_may_only_read_sees_no_buttons(web, service):
    service.streams.start(NAME, fps=None, false_match_rate=1e-3)
    wait_for(lambda: service.streams.all()[0].over)
    web.page.route("**/api/v1/session", lambda route: route.fulfill(json={"scope": "read", "name": "phone"}))
    page = web.goto("/streams")
    page.get_by_role("heading", name="Seen").wait_for()
    assert page.get_by_role("button", name="Start").count() == 0


@pytest.mark.slow
@pytest.mark.parametrize(("language", "title"), [("de", "Gesehen"), ("zh", "看到的人")])
def test_other_languages(web, service, language, title):
    service.streams.start(NAME, fps=None, false_match_rate=1e-3)
    wait_for(lambda: service.streams.all()[0].over)
    web.page.add_init_script(f"localStorage.setItem('visavis.language', '{language}')")
    page = web.goto("/streams")
    page.get_by_role("heading", name=title).wait_for()
    expect_accessible(page)

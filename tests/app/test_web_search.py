"""The pages that look at a photo which is not kept: search, by file, paste or camera, and comparing two."""

import base64
import re

import pytest

from tests.app.server_client import png
from tests.app.web_client import Web, browser, expect_accessible, gallery, server, service, web

__all__ = ["browser", "gallery", "server", "service", "web"]  # fixtures

pytestmark = pytest.mark.usefixtures("in_process")

ADA, BOB = 1, 2  # people of the gallery: three photos of Ada, two of Bob, who has no name, and one of nobody
KEEP_STREAMS = """
    window.streams = [];
    const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    navigator.mediaDevices.getUserMedia = async (wanted) => {
        window.wanted = wanted;
        const stream = await ask(wanted);
        window.streams.push(stream);
        return stream;
    };
"""


def upload(*people, name="photo.png", **options):
    return {"name": name, "mimeType": "image/png", "buffer": png(*people, **options)}


def test_the_largest_face_is_searched_and_any_other_on_demand(web, service):
    before = service.gallery.counts()
    page = web.goto("/search")
    page.set_input_files("input[type=file]", upload(1, 0))
    page.get_by_text("2 faces found. Choose one in the photo.").wait_for()
    page.locator(".hits").first.wait_for()
    chosen = page.locator(".found-faces [aria-pressed=true]")
    found = {}
    for box in page.locator(".found-faces button").all():
        box.click()
        page.wait_for_selector(".hits")
        assert chosen.count() == 1
        assert chosen.get_attribute("aria-label") == box.get_attribute("aria-label")
        found[box.get_attribute("aria-label")] = page.locator(".hits > li > :nth-child(2)").first.inner_text()
    assert sorted(found.values()) == ["Ada", "No name yet"]
    page.locator(".hits .pair a").first.click()
    page.wait_for_url("**/?photo=*")
    assert service.gallery.counts() == before, "the photo was kept"


@pytest.mark.slow
def test_boxes_lie_on_the_faces_and_answers_are_rates(web):
    """Oracle: a drawn face fills the first cell of 32 px of a photo of 192 px."""
    page = web.goto("/search")
    page.set_input_files("input[type=file]", upload(0))
    page.locator(".found-faces button").wait_for()
    image = page.locator(".found-faces img").bounding_box()
    box = page.locator(".found-faces button").bounding_box()
    scale = image["width"] / 192
    assert box["x"] - image["x"] == pytest.approx(0, abs=2 * scale)
    assert box["width"] == pytest.approx(32 * scale, abs=3 * scale)
    page.wait_for_selector(".hits")
    sure = page.locator(".hits .sure").first.inner_text()
    assert re.fullmatch(r"(9\d\.\d+|100)% (fewer than )?1 in [\d.,]+( million| billion)? strangers", sure)
    page.locator(".rest summary").click()
    assert re.match(r"\d\d?(\.\d+)?% \d\d(\.\d+)?% of strangers", page.locator(".rest .sure").last.inner_text())


@pytest.mark.slow
def test_a_photo_without_a_face_and_a_file_that_is_none_are_told(web):
    web.expected = ("status of 422",)
    page = web.goto("/search")
    page.set_input_files("input[type=file]", upload())
    page.get_by_role("heading", name="No face found").wait_for()
    script = {"name": "x.png", "mimeType": "image/png", "buffer": b"<svg onload=alert(1)>"}
    page.set_input_files("input[type=file]", script)
    page.get_by_role("alert").get_by_text("This photo cannot be used").wait_for()


@pytest.mark.slow
def test_a_photo_can_be_dropped_and_pasted(web):
    page = web.goto("/search")
    give = """([kind, base64]) => {
        const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
        const data = new DataTransfer();
        data.items.add(new File([bytes], "photo.png", { type: "image/png" }));
        const event = kind === "drop"
            ? new DragEvent("drop", { bubbles: true, cancelable: true, dataTransfer: data })
            : new ClipboardEvent("paste", { bubbles: true, clipboardData: data });
        document.querySelector(".photo-input").dispatchEvent(event);
    }"""
    for kind, person, expected in (("drop", 0, "Ada"), ("paste", 1, "No name yet")):
        page.evaluate(give, [kind, base64.b64encode(png(person)).decode()])
        page.locator(".hits > li").first.get_by_text(expected).wait_for()


@pytest.fixture
def camera(chromium, server, browser):
    """A window of a browser with a camera that shows a test picture."""
    playwright = browser.browser_type
    with_camera = playwright.launch(
        executable_path=chromium,
        args=["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"],
    )
    context = with_camera.new_context(viewport={"width": 1280, "height": 800}, locale="en-GB", reduced_motion="reduce")
    web = Web(context.new_page(), server)
    web.page.add_init_script(KEEP_STREAMS)
    yield web
    with_camera.close()
    assert not web.complaints()


@pytest.mark.slow
def test_the_camera_is_shown_first_and_off_afterwards(camera):
    states = "() => window.streams.flatMap((stream) => stream.getTracks()).map((track) => track.readyState)"
    sent = []
    camera.page.on("request", lambda request: request.method == "POST" and sent.append(request.url))
    page = camera.goto("/search")
    assert page.evaluate(states) == []
    page.get_by_role("button", name="Use the camera").click()
    page.get_by_text("What the camera sees is shown only here").wait_for()
    take = page.get_by_role("button", name="Take the picture")
    page.wait_for_function("() => document.querySelector('.camera video').videoWidth > 0")
    assert page.evaluate("window.wanted.audio") is False
    assert page.evaluate(states) == ["live"]
    expect_accessible(page)
    page.get_by_role("button", name="Cancel").click()
    page.wait_for_selector(".camera", state="detached")
    assert page.evaluate(states) == ["ended"]
    assert not sent

    page.get_by_role("button", name="Use the camera").click()
    take.click()
    page.locator(".found-faces img").wait_for()
    assert page.evaluate(states) == ["ended", "ended"]
    page.wait_for_function("() => document.querySelector('.hits, .empty')")
    assert sent
    assert page.locator(".found-faces img").evaluate("image => image.naturalWidth") > 100


@pytest.mark.slow
def test_without_a_camera_the_page_says_so(web):
    page = web.goto("/search")
    page.evaluate(
        "() => { navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', 'NotFoundError') } }"
    )
    page.get_by_role("button", name="Use the camera").click()
    page.get_by_text("There is no camera, or this page may not use it.").wait_for()


def put_two(page, first, second):
    inputs = page.locator("input[type=file]")
    inputs.nth(0).set_input_files(upload(first, seed=1))
    inputs.nth(1).set_input_files(upload(second, seed=2))
    page.wait_for_selector(".verdict")


def test_verdict_follows_the_limit_that_is_chosen(web):
    page = web.goto("/verify")
    put_two(page, 0, 0)
    page.get_by_role("heading", name="The same person", exact=True).wait_for()
    text = page.locator(".verdict").inner_text()
    assert "Probability that it is the same person: 9" in text
    assert re.search(r"As alike: (fewer than )?1 in [\d.,]+( million| billion)? strangers", text)
    slider = page.get_by_role("slider")
    assert slider.get_attribute("aria-valuetext") == "1 in 1,000 strangers"
    put_two(page, 0, 1)
    page.get_by_role("heading", name="Different people").wait_for()
    slider.focus()
    page.keyboard.press("Home")
    assert slider.get_attribute("aria-valuetext") == "1 in 10 strangers"
    page.get_by_text(re.compile(r"by mistake: 1 in 10 strangers\. Pairs of the same person recognised: 99")).wait_for()
    page.keyboard.press("End")
    assert slider.get_attribute("aria-valuetext") == "1 in 1 million strangers"


def test_picture_of_the_calibration_is_true_and_told_in_words(web, service):
    """The marks lie where the calibration has them: similarity runs evenly along the axis, though it is never shown."""
    page = web.goto("/verify")
    put_two(page, 0, 1)
    told = page.locator(".odds svg").get_attribute("aria-label")
    assert told.startswith("Two hills over an axis from less to more alike")
    assert re.search(r"As alike as this pair: .* strangers\. At this limit", told)

    calibration = service.calibration
    low, high = calibration.pairs.edges[[0, -1]]

    def x(similarity):
        return 12 + 616 * (similarity - low) / (high - low)

    limit = float(page.locator(".odds path.limit").get_attribute("d").split()[0][1:])
    edges = calibration.pairs.edges  # between its points the curve runs straight
    assert abs(limit - x(calibration.similarity_at(1e-3))) < x(edges[1]) - x(edges[0])
    pair = float(page.locator(".this-pair circle").get_attribute("cx"))
    found = service.verify(png(0, seed=1), png(1, seed=2), false_match_rate=1e-3, liveness=False)
    assert pair == pytest.approx(x(max(found.similarity, low)), abs=1)
    source = page.content() + told
    assert f"{found.similarity:.3f}" not in source
    assert calibration.measured_on in page.locator(".odds").inner_text()


@pytest.mark.slow
def test_calibration_that_kept_no_pairs_is_told(web):
    empty = '{"model": "m", "measured_on": "photos", "points": []}'
    web.page.route("**/api/v1/calibration", lambda route: route.fulfill(content_type="application/json", body=empty))
    web.goto("/verify").get_by_text("calibrated before the picture was kept").wait_for()


@pytest.mark.slow
@pytest.mark.parametrize("language", ["en-GB", "de-DE", "zh-CN"])
def test_answers_are_accessible_in_each_language_and_fit_a_phone(browser, server, language):
    for scheme in ("light", "dark"):
        context = browser.new_context(
            viewport={"width": 360, "height": 740}, locale=language, color_scheme=scheme, reduced_motion="reduce"
        )
        web = Web(context.new_page(), server)
        page = web.goto("/search")
        page.set_input_files("input[type=file]", upload(1, 0))
        page.wait_for_selector(".hits img")
        expect_accessible(page)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        put_two(web.goto("/verify"), 0, 1)
        expect_accessible(page)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        context.close()
        assert not web.complaints()

"""The web app's photos: the grid, the viewer, adding photos, settings and index jobs."""

import hashlib
import io
import stat
import threading

import pytest
from PIL import Image

from tests.app.server_client import API, client, gallery, png, service
from tests.app.web_client import Web, browser, expect_accessible, server, serving, wait_for, web
from tests.face.fake_pack import photo
from visavis.app.server.application import make_app
from visavis.app.server.pictures import Pictures
from visavis.app.server.service import Service
from visavis.errors import BusyError
from visavis.face.system import FaceSystem

__all__ = ["browser", "client", "gallery", "server", "service", "web"]  # fixtures

pytestmark = pytest.mark.usefixtures("in_process")

SCRIPT = "<img src=x onerror=document.title='harmed'>"
COUNT = 100_000
LOADED = """(() => {
    const tiles = [...document.querySelectorAll(".grid li")];
    return tiles.length > 0 && tiles.every((one) => one.querySelector("img")?.naturalWidth > 0);
})()"""


def upload(name, data):
    return {"name": name, "mimeType": "image/png", "buffer": data}


def size(jpeg):
    return Image.open(io.BytesIO(jpeg)).size


def many(page):
    """Have the page believe in 100,000 photos of 200 months, each the same picture."""
    months = [
        {
            "month": f"{2026 - month // 12}-{12 - month % 12:02}",
            "photos": list(range(500 * month + 1, 500 * month + 501)),
        }
        for month in range(200)
    ]
    page.route("**/api/v1/timeline", lambda route: route.fulfill(json=months))
    page.route("**/picture?*", lambda route: route.fulfill(body=png(0), content_type="image/png"))


def photos_folder(service):
    return service.state / "photos"


# The API beneath


def test_timeline_is_by_month_the_newest_first_without_what_has_no_file(client, service, photos):
    for number, when in enumerate(["2024:05:01 10:00:00", "2024:05:03 10:00:00", "2025:01:01 00:00:00"]):
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0x9003] = when
        photo(photos / f"dated{number}.jpg", 3 + number, exif=exif)
    client.post(f"{API}/index/jobs", json={"folder": str(photos)})
    rows = wait_for(lambda: len(service.gallery.photos()) == 9 and service.gallery.photos())
    by_name = {row.paths[0].stem: row.id for row in rows}
    undated = sorted((by_name[f"{number}"] for number in range(6)), reverse=True)
    expected = [
        {"month": "2025-01", "photos": [by_name["dated2"]]},
        {"month": "2024-05", "photos": [by_name["dated1"], by_name["dated0"]]},
        {"month": None, "photos": undated},
    ]
    assert client.get(f"{API}/timeline").json() == expected
    service.gallery.enroll([service.gallery.faces(photo=undated[0])[0].id], "Eve")
    service.gallery.remove_file(photos / "5.png")
    assert client.get(f"{API}/timeline").json()[2]["photos"] == undated[1:]


def test_picture_is_upright_small_and_not_sent_twice(client, service, photos):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: 192 x 384 when seen
    Image.new("RGB", (1920, 960), "red").save(photos / "turned.jpg", exif=exif)
    client.post(f"{API}/index/jobs", json={"folder": str(photos)})
    number = wait_for(lambda: len(service.gallery.photos()) == 7 and service.gallery.photos())[-1].id
    url = f"{API}/photos/{number}/picture"
    pictures = {px: client.get(url, params={"px": px}) for px in (320, 640, 1600)}
    assert [size(answer.content) for answer in pictures.values()] == [(160, 320), (320, 640), (800, 1600)]
    assert pictures[320].headers["cache-control"] == "private, no-cache"
    assert len({answer.headers["etag"] for answer in pictures.values()}) == 3
    again = client.get(url, params={"px": 320}, headers={"If-None-Match": pictures[320].headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert size(client.get(f"{API}/photos/1/picture", params={"px": 640}).content) == (192, 192), "never enlarged"
    assert client.get(url, params={"px": 5}).status_code == 422
    assert client.get(f"{API}/photos/99/picture").status_code == 404


def test_picture_of_a_file_that_is_another_now_is_not_shown(client, photos):
    first = photos / "0.png"
    first.unlink()
    assert "index its folder again" in client.get(f"{API}/photos/1/picture").json()["error"]["message"]
    first.symlink_to(photos / "1.png")  # a photo that this gallery may know, but not under this number
    assert client.get(f"{API}/photos/1/picture").status_code == 404
    first.unlink()
    first.write_text("root:x:0:0")
    assert client.get(f"{API}/photos/1/picture").status_code in (404, 422)


def test_pictures_hold_so_many_bytes_and_drop_the_one_longest_unused(service):
    rows = service.gallery.photos()
    made = []

    class Counting:
        def decode(self, data, path, **options):
            made.append(path.name)
            return service.decoders.decode(data, path, **options)

    one = len(Pictures(service.decoders).jpeg(rows[0], 320))
    pictures = Pictures(Counting(), held_bytes=int(2.5 * one))
    for row in (rows[0], rows[1], rows[0], rows[2], rows[0], rows[1]):
        pictures.jpeg(row, 320)
    assert made == ["0.png", "1.png", "2.png", "1.png"]


def test_who_asks_for_a_picture_while_the_server_stops_is_told_and_not_kept_waiting(service):
    service.decoders.close()
    told = []

    def ask():
        with pytest.raises(BusyError, match="the server is being stopped"):
            Pictures(service.decoders).jpeg(service.gallery.photos()[0], 320)
        told.append(True)

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert told == [True] * 3


def test_uploads_are_kept_by_content_and_refused_with_a_reason(client, service, photos):
    new, known = png(7), (photos / "0.png").read_bytes()
    files = [("photos", (f"../../{SCRIPT}", data)) for data in (new, known, b"GIF89a?", b"x" * (2**20 + 1), b"")]
    answer = client.post(f"{API}/photos", files=files)
    assert answer.status_code == 201
    taken = answer.json()["photos"]
    assert [one["state"] for one in taken] == ["stored", "known", "refused", "refused", "refused"]
    assert "at most 1048576 bytes" in taken[3]["reason"]
    digest = hashlib.sha256(new).hexdigest()
    assert taken[0]["sha256"] == digest
    folder = photos_folder(service)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()] == [
        f"{digest[:2]}/{digest}.png"
    ]
    wait_for(lambda: service.jobs.get(answer.json()["job"]).state == "done")
    assert service.gallery.has_content(digest)
    asked = [digest, "0" * 64, hashlib.sha256(known).hexdigest()]
    assert client.post(f"{API}/photos/known", json={"sha256": asked}).json()["known"] == [asked[0], asked[2]]
    assert client.post(f"{API}/photos", files=files[1:2]).json()["job"] is None, "nothing new"


def test_uploading_needs_the_scope_write(client, service):
    client.headers["Authorization"] = f"Bearer {service.tokens.add('reader', 'read')}"
    assert client.post(f"{API}/photos", files=[("photos", ("a", png(7)))]).status_code == 403
    assert not photos_folder(service).exists()


def test_settings_tell_of_tokens_without_secrets_and_of_skipped_files(client, photos):
    (photos / f"{SCRIPT.replace('/', '')}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    client.post(f"{API}/index/jobs", json={"folder": str(photos)})
    skipped = wait_for(lambda: client.get(f"{API}/skipped").json()["files"])
    assert [one["path"] for one in skipped] == [str(photos / f"{SCRIPT}.png")]
    assert "damaged" in skipped[0]["reason"]
    [token] = client.get(f"{API}/tokens").json()
    assert (token["name"], token["scope"], set(token)) == (
        "owner",
        "admin",
        {"name", "scope", "created_at", "expires_at"},
    )
    server = client.get(f"{API}/server").json()
    assert server == {"roots": [str(photos.resolve())], "upload_bytes": 2**20, "upload_pixels": 2_000_000}
    models = client.get(f"{API}/models").json()
    assert models["embedder"]["licence"] == "CC0-1.0"
    assert models["measured_on"] == "squares of nineteen colours"


# The grid


def test_photos_are_shown_opened_and_walked_through_by_keys(web, service):
    service.gallery.name(1, SCRIPT)
    page = web.goto("/")
    page.get_by_role("heading", name="Without a date").wait_for()
    tiles = page.locator(".grid a")
    assert tiles.count() == 6
    wait_for(lambda: page.evaluate(LOADED))
    expect_accessible(page)
    page.emulate_media(color_scheme="dark")
    expect_accessible(page)
    tiles.first.focus()
    for key in ("ArrowRight", "ArrowDown", "End", "ArrowLeft"):
        page.keyboard.press(key)
    page.wait_for_selector("[data-index='4']:focus")
    page.keyboard.press("Enter")  # the photo before the last: ada in 1.png
    viewer = page.get_by_role("dialog")
    viewer.get_by_role("link", name=SCRIPT).wait_for()
    expect_accessible(page)
    page.keyboard.press("ArrowRight")
    page.wait_for_url("**/?photo=1")
    viewer.get_by_role("button", name="Details").click()
    viewer.get_by_text("192 × 192 pixels").wait_for()
    expect_accessible(page)
    page.keyboard.press("Escape")
    page.wait_for_selector("[data-index='5']:focus")
    assert viewer.count() == 0
    assert page.title() == "Photos · visavis", "a name is text, whatever it holds"


def test_photo_whose_file_is_gone_says_so(web, photos):
    web.expected = ("404",)
    (photos / "0.png").unlink()
    web.goto("/?photo=1").get_by_text("its file is gone").wait_for()


@pytest.mark.slow
def test_a_hundred_thousand_photos_make_a_bounded_page_and_any_is_at_hand(web):
    many(web.page)
    page = web.goto("/")
    page.get_by_text("100,000 photos").wait_for()
    rows = -(-500 // 5)  # five columns at this width
    tile = (1280 - 216 - 64 - 4 * 6) // 5
    height = page.locator(".grid").evaluate("(grid) => grid.offsetHeight")
    assert height == 200 * (52 + rows * (tile + 6) + 20)
    for share in (0.5, 1.0, 0.013):
        page.evaluate(f"scrollTo(0, {share} * document.body.scrollHeight)")
        wait_for(lambda: page.evaluate(LOADED))
        assert page.locator(".grid li").count() < 150
    page.get_by_label("Jump to a month").select_option(label="May 2010")
    page.get_by_role("heading", name="May 2010").wait_for()
    top = page.get_by_role("heading", name="May 2010").bounding_box()["y"]
    assert abs(top) < 2
    page.locator(".grid a").first.focus()
    page.keyboard.press("End")
    page.wait_for_selector(f"[data-index='{COUNT - 1}']:focus")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/?photo={COUNT}")


@pytest.mark.slow
def test_coming_back_finds_the_grid_where_it_was(web):
    many(web.page)
    page = web.goto("/")
    page.get_by_text("100,000 photos").wait_for()
    page.evaluate("scrollTo(0, 123456)")
    wait_for(lambda: page.evaluate(LOADED))
    page.get_by_role("link", name="Settings").click()
    page.wait_for_selector("h1:focus:has-text('Settings')")
    assert page.evaluate("scrollY") == 0
    page.go_back()
    page.wait_for_selector(".grid img")
    assert page.evaluate("scrollY") == 123456


# Adding photos


def test_chosen_files_are_sent_indexed_and_shown_and_refusals_named(web, photos):
    page = web.goto("/")
    page.locator("input[type=file][multiple]").set_input_files([
        upload("new.png", png(7)),
        upload("known.png", (photos / "0.png").read_bytes()),
        upload(f"{SCRIPT}.png", b"no photo"),
        upload("notes.txt", b"no photo"),
    ])  # fmt: skip
    page.get_by_text("1 photo taken in").wait_for()
    page.get_by_text("7 photos").wait_for()
    card = page.get_by_role("region", name="Adding photos")
    assert "3 of 3 sent" in card.inner_text()
    assert "1 was here already" in card.inner_text()
    refused = card.locator("li").all_inner_texts()
    assert [text.splitlines()[0] for text in refused] == ["notes.txt", f"{SCRIPT}.png"]
    assert "expected a photo" in refused[1]
    expect_accessible(page)
    card.get_by_role("button", name="Close").click()
    assert card.count() == 0
    assert page.title() == "Photos · visavis", "a file's name is text, whatever it holds"


@pytest.mark.slow
def test_drop_anywhere_adds_and_is_left_alone_where_a_page_has_its_own_use(web, service):
    drop = """(kind) => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([new Uint8Array(%s)], "dropped.png"));
        const event = new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true });
        document.querySelector("main").dispatchEvent(event);
    }""" % list(png(7))  # noqa: UP031  braces
    page = web.goto("/search")
    page.evaluate(drop, "dragover")
    assert page.get_by_text("Drop photos or folders").count() == 0
    page = web.goto("/settings")
    page.evaluate(drop, "dragover")
    page.get_by_text("Drop photos or folders").wait_for()
    expect_accessible(page)
    page.evaluate(drop, "drop")
    page.get_by_text("1 photo taken in").wait_for()
    assert page.get_by_text("Drop photos or folders").count() == 0
    assert len(service.gallery.photos()) == 7


@pytest.mark.slow
def test_interrupted_upload_goes_on_and_a_cancelled_one_sends_no_more(web, service):
    page = web.goto("/")
    answers = ["unreachable", "pass", "pass", "hold"]
    held = []

    def handle(route):
        kind = answers.pop(0) if answers else "pass"
        if kind == "unreachable":
            route.abort()
        elif kind == "hold":
            held.append(route)
        else:
            route.continue_()

    page.route("**/api/v1/photos", handle)
    web.expected = ("ERR_FAILED",)
    page.locator("input[type=file][multiple]").set_input_files(
        [upload(f"{number}.png", png(7, seed=number)) for number in range(24)]  # three batches
    )
    page.get_by_text("The server cannot be reached").wait_for()
    page.get_by_role("button", name="Go on").click()
    page.get_by_text("16 of 24 sent").wait_for()
    wait_for(lambda: page.evaluate("1") and held)  # Playwright works while it is asked
    page.get_by_role("button", name="Cancel").click()
    page.get_by_text("Adding photos was cancelled").wait_for()
    held[0].abort()
    wait_for(lambda: len(service.gallery.photos()) == 6 + 16)


@pytest.mark.slow
def test_empty_gallery_says_what_to_do(browser, tmp_path, squares):
    FaceSystem.open(tmp_path / "empty.visavis", pack=squares).close()
    service = Service(tmp_path / "empty.visavis", pack=squares)
    with serving(make_app(service)) as address:
        page = browser.new_page(locale="de-DE")
        Web(page, address).goto("/").get_by_role("heading", name="Noch keine Fotos").wait_for()
        expect_accessible(page)
        page.close()


# Settings


def test_folder_is_indexed_from_the_settings_with_its_progress(web, photos):
    photo(photos / "more.png", 8)
    page = web.goto("/settings")
    page.get_by_role("button", name="Index").click()
    page.get_by_text("New photos: 1, new faces: 1, skipped: 0").wait_for()
    expect_accessible(page)
    page.get_by_label("Folder on the server").fill("/etc")
    web.expected = ("403",)
    page.get_by_role("button", name="Index").click()
    page.get_by_text("This folder may not be read").wait_for()
    expect_accessible(page)


def test_what_cannot_be_undone_says_what_is_lost_first(web, service):
    page = web.goto("/settings")
    button = page.get_by_role("button", name="Sort all faces anew")
    button.click()
    dialog = page.get_by_role("dialog")
    assert "Groups without a name, 1 of them, are taken apart" in dialog.inner_text()
    expect_accessible(page)
    page.keyboard.press("Escape")
    assert dialog.count() == 0
    assert button.evaluate("(one) => one === document.activeElement")
    people = [row.id for row in service.gallery.people()]
    button.click()
    dialog.get_by_role("button", name="Sort anew").click()
    page.get_by_text("Sorted. People: 2, faces alone: 1").wait_for()
    assert [row.id for row in service.gallery.people()] != people


@pytest.mark.slow
def test_export_is_saved_and_can_be_imported(web, tmp_path):
    page = web.goto("/settings")
    with page.expect_download() as download:
        page.get_by_role("button", name="Export").press("Space")
    path = tmp_path / "gallery.visavis.zip"
    download.value.save_as(path)
    page.locator("input[type=file][accept*=visavis]").set_input_files(path)
    page.get_by_role("dialog").get_by_role("button", name="Import").click()
    page.get_by_text("Imported. Photos: 0, faces: 0, people: 0").wait_for()

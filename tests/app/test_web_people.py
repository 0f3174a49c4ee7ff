"""The pages of people, one person and review: what is done there ends up in the gallery, and undo takes it back."""

import json
import re

import pytest

from tests.app.web_client import browser, expect_accessible, gallery, server, service, web

__all__ = ["browser", "gallery", "server", "service", "web"]  # fixtures

pytestmark = pytest.mark.usefixtures("in_process")

ADA, BOB = 1, 2  # people of the gallery: three photos of Ada, two of Bob, who has no name, and one of nobody
SCRIPT = "<img src=x onerror=alert(1)>"


def rows(service):
    """All that a user can change, read from the tables."""
    tables = ("SELECT id, person_id, pinned FROM face", "SELECT * FROM name", "SELECT * FROM separate")
    return [sorted(service.gallery._database.rows(table)) for table in (*tables, "SELECT id FROM person")]


def people(service):
    return {row.id: (row.name, row.faces) for row in service.gallery.people()}


def lay_apart(service):
    """Everybody is nobody's but for a first Ada, so that the next three people look like her or like each other."""
    faces = [row.id for row in service.gallery.faces()]
    for face in (faces[1], faces[3]):
        person = service.gallery.new_person()
        service.gallery.assign([face], person, pinned=True)
    return faces


def both_themes(web, look):
    for scheme in ("light", "dark"):
        web.page.emulate_media(color_scheme=scheme)
        look()


def test_names_are_shown_as_they_are_and_never_run(web, service):
    service.gallery.name(ADA, SCRIPT)
    alerts = []
    web.page.on("dialog", lambda dialog: (alerts.append(dialog.message), dialog.dismiss()))
    page = web.goto("/people")
    page.locator(".card strong", has_text=SCRIPT).wait_for()
    page.goto(f"{web.address}/people/{ADA}")
    page.locator("h1", has_text=SCRIPT).wait_for()
    page.get_by_role("button", name="Rename").click()
    assert page.get_by_label("Name").input_value() == SCRIPT
    web.goto(f"/people/{BOB}").get_by_role("button", name="Merge with").click()
    page.get_by_role("button", name=SCRIPT).click()
    page.get_by_role("heading", name="Make one person of these 2?").wait_for()
    page.keyboard.press("Escape")
    lay_apart(service)
    web.goto("/review").wait_for_selector(".review-card")
    page.keyboard.press("s")  # the first looks like nobody
    page.locator(".guess .name", has_text=SCRIPT).wait_for()
    web.goto("/people?name=" + "%3Cimg").locator(".card strong", has_text=SCRIPT).wait_for()
    assert not alerts
    assert page.locator("img[src=x]").count() == 0
    assert page.title() == "People · visavis"


def test_selected_people_are_merged_and_parted_again(web, service):
    service.gallery.name(BOB, "Bob")
    before = rows(service)
    page = web.goto("/people")
    page.get_by_role("button", name="Select").click()
    page.get_by_role("checkbox", name="Ada").check()
    assert page.get_by_role("button", name="Merge").is_disabled()
    page.get_by_role("checkbox", name="Bob").check()
    page.get_by_role("button", name="Merge").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("The name Ada stays; dropped: Bob.").wait_for()
    dialog.get_by_role("button", name="Merge").click()
    page.get_by_text("Merged").wait_for()
    assert people(service) == {ADA: ("Ada", 5)}
    page.get_by_role("button", name="Undo").click()
    page.get_by_role("link", name="Bob").wait_for()
    assert rows(service) == before


@pytest.mark.slow
def test_people_are_found_and_the_nameless_stand_apart(web):
    page = web.goto("/people")
    page.get_by_role("link", name="Ada").wait_for()
    page.get_by_role("searchbox").fill("nobody")
    page.get_by_role("heading", name="Nobody of that name").wait_for()
    page.get_by_role("searchbox").fill("aD")
    page.get_by_role("link", name="Ada 3 faces").wait_for()
    assert page.url.endswith("?name=aD")
    page.get_by_role("link", name="Without a name").click()
    page.get_by_role("link", name="No name yet 2 faces").wait_for()
    assert page.get_by_role("link", name="Ada").count() == 0


def test_twenty_thousand_people_scroll_with_few_elements(web):
    """The API is played: only the pages that are looked at are asked for, and the last is where the scrollbar ends."""
    asked = []

    def answer(route):
        query = dict(part.split("=") for part in route.request.url.split("?")[1].split("&"))
        offset, limit = int(query["offset"]), int(query["limit"])
        asked.append(offset)
        found = [
            {"id": number + 1, "name": f"Person {number + 1}", "faces": 1, "best_face": 1}
            for number in range(offset, min(offset + limit, 20_000))
        ]
        route.fulfill(content_type="application/json", body=json.dumps({"people": found, "total": 20_000}))

    web.page.route("**/api/v1/people?*", answer)
    page = web.goto("/people")
    page.get_by_role("link", name="Person 1 1 face", exact=True).wait_for()
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    page.get_by_role("link", name="Person 20000").wait_for()
    assert page.locator(".windowed > li").count() < 150
    assert page.locator(".windowed > li").last.get_attribute("aria-setsize") == "20000"
    assert len(asked) < 8


@pytest.mark.slow
def test_a_person_is_renamed_and_gets_the_old_name_back(web, service):
    before = rows(service)
    page = web.goto(f"/people/{BOB}")
    page.get_by_label("Who is this?").fill("  Bob ")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("heading", name="Bob").wait_for()
    assert people(service)[BOB] == ("Bob", 2)
    page.get_by_role("button", name="Undo").click()
    page.get_by_role("heading", name="No name yet").wait_for()
    assert rows(service) == before


@pytest.mark.slow
def test_a_name_that_is_taken_offers_to_merge(web, service):
    page = web.goto(f"/people/{BOB}")
    page.get_by_label("Who is this?").fill("Ada")
    page.keyboard.press("Enter")
    page.get_by_role("dialog").get_by_role("button", name="Merge").click()
    page.wait_for_url(f"**/people/{ADA}")
    page.get_by_text("5 faces in 5 photos").wait_for()
    assert people(service) == {ADA: ("Ada", 5)}


def test_faces_are_split_off_and_given_to_somebody(web, service):
    before = rows(service)
    page = web.goto(f"/people/{ADA}")
    page.locator(".face-card input").first.check()
    first = int(page.locator(".face-card img").first.get_attribute("src").split("/")[-2])
    page.get_by_role("button", name="Someone else").click()
    page.get_by_text("2 faces in 2 photos").wait_for()
    [row] = service.gallery.faces(ids=[first])
    assert row.person_id not in (ADA, BOB)
    assert row.pinned
    assert (ADA, row.person_id) in service.gallery.separated()
    page.get_by_role("button", name="Undo").click()
    page.get_by_text("3 faces in 3 photos").wait_for()
    assert rows(service) == before

    web.goto(f"/people/{BOB}").locator(".face-card input").first.check()
    page.get_by_role("button", name="This is …").click()
    page.get_by_role("dialog").get_by_role("button", name="Ada").click()
    page.get_by_text("1 face in 1 photo").wait_for()
    assert people(service) == {ADA: ("Ada", 4), BOB: (None, 1)}


@pytest.mark.slow
def test_the_most_doubtful_face_comes_first(web, service):
    stranger = next(row.id for row in service.gallery.faces() if row.person_id is None)
    service.gallery.assign([stranger], ADA, pinned=True)
    page = web.goto(f"/people/{ADA}")
    page.get_by_label("Doubtful first").check()
    page.locator(".face-card small", has_text="strangers").first.wait_for()
    assert page.locator(".face-card img").first.get_attribute("src") == f"/api/v1/faces/{stranger}/thumbnail"


def test_who_is_forgotten_is_gone_and_the_page_shows_the_proof(web, service):
    faces = [row.id for row in service.gallery.faces(person=ADA)]
    page = web.goto(f"/people/{ADA}")
    page.get_by_role("button", name="Forget").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("3 faces with their pictures").wait_for()
    dialog.get_by_text("the 3 photos themselves").wait_for()
    expect_accessible(page)
    dialog.get_by_role("button", name="Cancel").click()
    assert ADA in people(service)
    page.get_by_role("button", name="Forget").click()
    dialog.get_by_role("button", name="Forget").click()
    page.get_by_role("heading", name="Forgotten").wait_for()
    proof = page.get_by_role("status").filter(has_text="were deleted").inner_text()
    assert "3 faces were deleted, with their pictures and features." in proof
    assert "The name was deleted." in proof
    assert re.search(r"All \d+ files \(.+\) were looked through afterwards: nothing is left\.", proof)
    page.get_by_text("3 photos still show the person").click()
    page.get_by_text("/photos/0.png").wait_for()
    expect_accessible(page)
    assert ADA not in people(service)
    assert not service.gallery.faces(ids=faces)


def test_review_by_keys_and_back_to_where_it_began(web, service):
    """The queue: Bob's one face left, then the one of Ada's and the other of Bob's that stand alone."""
    faces = lay_apart(service)
    before = rows(service)
    page = web.goto("/review")
    page.get_by_text("3 people without a name").wait_for()
    page.get_by_role("heading", name="Looks like nobody known").wait_for()
    page.keyboard.press("t")
    page.keyboard.type("Bob")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Is it the same person?").wait_for()
    page.locator(".guess .name", has_text="Ada").wait_for()
    page.keyboard.press("n")
    page.locator(".guess .name", has_text="Ada").wait_for(state="detached")
    page.keyboard.press("u")
    page.locator(".guess .name", has_text="Ada").wait_for()
    page.keyboard.press("y")
    page.locator(".guess .name", has_text="Bob").wait_for()
    assert service.gallery.faces(ids=[faces[1]])[0].person == "Ada"
    page.keyboard.press("1")
    page.get_by_role("heading", name="Everybody has a name").wait_for()
    assert {row.name for row in service.gallery.people()} == {"Ada", "Bob"}
    for left in (1, 2, 3):
        page.keyboard.press("u")
        page.get_by_text(f"{left} {'person' if left == 1 else 'people'} without a name").wait_for()
    page.wait_for_function("() => !document.querySelector('[aria-busy=true]')")
    assert rows(service) == before


@pytest.mark.slow
def test_review_goes_on_after_what_was_skipped(web, service):
    lay_apart(service)
    page = web.goto("/review")

    def shown():
        return page.locator(".review-card a", has_text="All faces").get_attribute("href")

    first = shown()
    page.keyboard.press("s")
    page.wait_for_function("first => !document.querySelector(`.review-card a[href='${first}']`)", arg=first)
    second = shown()
    page.reload()
    page.wait_for_selector(".review-card")
    assert shown() == second
    page.keyboard.press("s")
    page.wait_for_function("second => !document.querySelector(`.review-card a[href='${second}']`)", arg=second)
    page.keyboard.press("s")
    page.get_by_role("heading", name="That was the last one").wait_for()
    page.get_by_role("button", name="Go through them again").click()
    page.wait_for_selector(".review-card")
    assert shown() == first


@pytest.mark.slow
def test_typing_a_name_is_not_taken_for_keys(web, service):
    page = web.goto("/review")
    page.get_by_label("Or type a name").fill("")
    page.keyboard.type("sunny")
    assert page.get_by_label("Or type a name").input_value() == "sunny"
    page.keyboard.press("Escape")
    assert people(service)[BOB] == (None, 2)


@pytest.mark.slow
def test_a_name_that_the_gallery_refuses_is_told(web, service):
    web.expected = ("status of 422",)
    page = web.goto("/review")
    page.get_by_label("Or type a name").fill("a\u202eb")
    page.keyboard.press("Enter")
    page.get_by_text("name: expected printable text").wait_for()
    assert people(service)[BOB] == (None, 2)


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/people", "/people?show=nameless", f"/people/{ADA}", f"/people/{BOB}", "/review"])
def test_pages_with_people_are_accessible(web, service, path):
    lay_apart(service)
    service.gallery.name(ADA, "Ada, Countess of Lovelace, the first to publish an algorithm for a machine")

    def look():
        web.goto(path).wait_for_selector("main img.face")
        web.page.set_viewport_size({"width": 360, "height": 740})
        expect_accessible(web.page)
        assert web.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        web.page.set_viewport_size({"width": 1280, "height": 800})

    both_themes(web, look)


@pytest.mark.slow
def test_choosing_is_accessible(web):
    page = web.goto(f"/people/{ADA}")
    page.locator(".face-card input").first.check()
    expect_accessible(page)
    page.get_by_role("button", name="Merge with").click()
    page.get_by_role("searchbox").wait_for()
    expect_accessible(page)


@pytest.mark.slow
def test_whoever_may_only_look_is_offered_no_changes(web):
    reader = json.dumps({"name": "phone", "scope": "read", "token": True})
    web.page.route("**/api/v1/session", lambda route: route.fulfill(content_type="application/json", body=reader))
    page = web.goto(f"/people/{ADA}")
    page.wait_for_selector(".face-card img")
    assert page.get_by_role("checkbox").count() == 0
    for name in ("Forget", "Merge with", "Rename", "Same person"):
        assert page.get_by_role("button", name=name).count() == 0
    web.goto("/review").get_by_text("Your token may look, but not name anybody").wait_for()

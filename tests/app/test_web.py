"""The web app's shell: pages, their policy and files, languages, signing in."""

import json
import re

import pytest
from fastapi.testclient import TestClient

from tests.app.server_client import EASY
from tests.app.web_client import browser, expect_accessible, gallery, server, service, serving, web
from visavis.app.server.application import make_app
from visavis.app.server.guard import COOKIE, Rules
from visavis.app.server.routes.pages import PAGES, WEB

__all__ = ["browser", "gallery", "server", "service", "web"]  # fixtures

pytestmark = pytest.mark.usefixtures("in_process")

ADDRESSES = [path.replace("{number}", "1") for path in PAGES]
CLOSED = Rules(open=False, per_second=1e6, burst=10**6)
UNTRANSLATED = """() => {  // text in the page, and in what is read out, that came from no language file
    const found = [];
    const isOurs = (text) => !/\\p{L}/u.test(text) || /^[^\\p{L}]*⟦.*⟧[^\\p{L}]*$/su.test(text);
    const check = (element, text) => element.closest("[translate=no], kbd") || isOurs(text) || found.push(text);
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const { parentElement, data } = walker.currentNode;
        if (!parentElement.closest("noscript, script")) check(parentElement, data);
    }
    for (const name of ["aria-label", "title", "placeholder", "alt"])
        for (const element of document.querySelectorAll(`[${name}]`)) check(element, element.getAttribute(name));
    return found;
}"""


def texts(language):
    """A language's file, which is JSON but for its first lines."""
    source = (WEB / "i18n" / f"{language}.js").read_text("utf-8")
    return json.loads(source[source.index("export default") + len("export default") :].strip().rstrip(";"))


@pytest.fixture
def closed(service):
    """The address of a server that demands a token, and a token that may read."""
    with serving(make_app(service, CLOSED)) as address:
        yield address, service.tokens.add("phone", "read")


# Languages


@pytest.mark.parametrize("language", ["de", "zh"])
def test_languages_have_the_same_texts_with_the_same_places(language):
    english, other = texts("en"), texts(language)
    assert list(other) == list(english)
    for key, text in english.items():
        forms = [one if isinstance(one, str) else one["other"] for one in (text, other[key])]
        places = [sorted(set(re.findall(r"{(\w+)}", form))) for form in forms]
        assert places[0] == places[1], key
        assert isinstance(text, str) == isinstance(other[key], str), key


def test_texts_are_those_that_the_pages_use():
    code = "".join(path.read_text("utf-8") for path in WEB.rglob("*.js") if path.parent.name not in ("vendor", "i18n"))
    used = set(re.findall(r"""\bt\(\s*["']([^"']+)["']""", code))
    assert used <= set(texts("en")), "a page shows a text that there is not"
    families = (*re.findall(r"\bt\(`([\w.]+)\$\{", code), "error.")
    unused = [key for key in texts("en") if key not in used and f'"{key}"' not in code and not key.startswith(families)]
    assert not unused, "no page shows these; a family `${page}.title` needs no mention"


@pytest.mark.slow
def test_pages_show_no_words_but_those_of_their_language(web):
    marked = {
        key: f"⟦{text}⟧" if isinstance(text, str) else {form: f"⟦{words}⟧" for form, words in text.items()}
        for key, text in texts("en").items()
    }
    source = f"export default {json.dumps(marked)};"
    web.page.route("**/i18n/en.js", lambda route: route.fulfill(body=source, content_type="text/javascript"))
    for path in (*ADDRESSES, "/?photo=1"):
        page = web.goto(path)
        page.wait_for_load_state("networkidle")
        assert "⟦" in page.inner_text("header"), "the marked language is not in use"
        assert page.evaluate(UNTRANSLATED) == [], path


def test_language_and_theme_are_chosen_and_remembered(web):
    page = web.goto("/settings")
    page.get_by_label("Language").select_option("de")
    page.get_by_role("heading", name="Einstellungen").wait_for()
    page.get_by_label("Farbschema").select_option("dark")
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    assert page.evaluate(ground) == "rgb(16, 21, 19)"
    page.reload()
    page.get_by_role("heading", name="Einstellungen").wait_for()
    assert page.evaluate("document.documentElement.lang") == "de"
    assert page.evaluate(ground) == "rgb(16, 21, 19)"
    page.get_by_label("Farbschema").select_option("light")
    assert page.evaluate(ground) == "rgb(255, 255, 255)"


# Moving about


def test_links_keys_and_the_browsers_buttons_lead_from_page_to_page(web):
    page = web.goto("/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    page.evaluate("window.isSame = true")
    page.get_by_role("link", name="Settings").click()
    page.wait_for_selector("h1:focus:has-text('Settings')")
    assert page.title() == "Settings · visavis"
    assert page.get_by_role("link", name="Settings").get_attribute("aria-current") == "page"
    page.go_back()
    page.get_by_role("heading", name="Photos", exact=True).wait_for()
    assert page.evaluate("window.isSame"), "the page was loaded anew"


@pytest.mark.slow
def test_phones_reach_every_page_and_need_no_sideways_scrolling(web):
    web.page.set_viewport_size({"width": 360, "height": 740})
    for path in ADDRESSES:
        page = web.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, path
    page.get_by_role("button", name="More").click()
    page.get_by_role("link", name="Compare").click()
    page.get_by_role("heading", name="Compare", exact=True).wait_for()
    assert page.get_by_role("link", name="Streams").is_hidden()


def test_unknown_address_within_the_app_says_so(web):
    page = web.goto("/people/ada")
    page.get_by_text("There is no such page").wait_for()
    expect_accessible(page)


# Files and their policy


def test_every_page_has_the_strict_policy_and_files_are_asked_for_anew_or_kept_for_good(service):
    with TestClient(make_app(service, EASY), base_url="http://127.0.0.1") as client:
        for path in ADDRESSES:
            answer = client.get(path)
            assert answer.headers["content-type"] == "text/html; charset=utf-8"
            policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
            assert policy["default-src"] == "'none'"
            assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
            assert answer.headers["x-content-type-options"] == "nosniff"
        assert not re.search(r"<style|style=|<script>|\son\w+=", answer.text), "nothing inline"
        again = client.get("/", headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert client.get("/assets/app.js").headers["cache-control"] == "no-cache"
        for path in (WEB / "vendor").iterdir():
            kept = client.get(f"/assets/vendor/{path.name}").headers.get("cache-control", "")
            assert kept.endswith("immutable") == bool(re.search(r"\d\.\d", path.name) or "LICENSE" in path.name)


def test_no_file_but_the_apps_is_served(service):
    with TestClient(make_app(service, EASY), base_url="http://127.0.0.1") as client:
        for name in ["../app.py", "%2e%2e/guard.py", "..%2fguard.py", "/etc/passwd", "pages", "", "app.js/"]:
            assert client.get(f"/assets/{name}").status_code == 404, name


# Signing in


@pytest.mark.slow
def test_browser_asks_for_a_token_once_and_no_script_can_read_it(browser, closed):
    address, token = closed
    context = browser.new_context(locale="en-GB")
    page = context.new_page()
    page.goto(address)
    page.get_by_label("Token").fill("visavis_wrong")
    expect_accessible(page)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_text("This token is not known here").wait_for()
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_text("6 photos").wait_for()
    assert page.get_by_role("button", name="Add photos").count() == 0, "it may only read"
    [cookie] = context.cookies()
    assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"]) == (COOKIE, True, "Strict")
    assert page.evaluate("document.cookie") == ""
    page.goto(f"{address}/settings")
    page.get_by_text("Signed in with the token phone: look and ask.").wait_for()
    page.get_by_role("button", name="Sign out").click()
    page.get_by_label("Token").wait_for()
    assert context.cookies() == []
    context.close()


def test_cookie_counts_for_reading_and_from_pages_of_this_server_for_changes(service):
    token = service.tokens.add("tablet", "write")
    with TestClient(make_app(service, CLOSED), base_url="http://127.0.0.1") as client:
        own = {"Origin": "http://127.0.0.1"}
        api = "/api/v1"
        assert client.get(f"{api}/people").status_code == 401
        assert client.post(f"{api}/session", headers={"Authorization": f"Bearer {token}x", **own}).status_code == 401
        made = client.post(f"{api}/session", headers={"Authorization": f"Bearer {token}", **own})
        assert made.json() == {"name": "tablet", "scope": "write", "token": True}
        assert "HttpOnly" in made.headers["set-cookie"]
        assert "SameSite=strict" in made.headers["set-cookie"]
        assert client.get(f"{api}/people").status_code == 200
        rename = (f"{api}/people/2", {"name": "Bob"})
        assert client.patch(rename[0], json=rename[1]).status_code == 401, "no page of ours asks"
        elsewhere = {"Origin": "http://evil.example"}
        assert client.patch(rename[0], json=rename[1], headers=elsewhere).status_code == 403
        assert client.patch(rename[0], json=rename[1], headers=own).status_code == 200
        assert client.delete(f"{api}/people/2", headers=own).status_code == 403, "beyond its scope"
        assert client.post(f"{api}/session", headers=own).status_code == 422, "a cookie makes no cookie"
        service.tokens.revoke("tablet")
        assert client.get(f"{api}/people").status_code == 401

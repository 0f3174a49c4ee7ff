"""The web app's shell: pages, policy, files, languages, sign-in."""

import json
import re

import pytest

from tests.app.web_client import browser, expect_accessible, gallery, server, service, web
from visavis.app.server.routes.pages import PAGES, WEB

__all__ = ["browser", "gallery", "server", "service", "web"]  # fixtures

pytestmark = pytest.mark.usefixtures("in_process")

ADDRESSES = [path.replace("{number}", "1") for path in PAGES]


def texts(language):
    """A language's file, which is JSON but for its first lines."""
    source = (WEB / "i18n" / f"{language}.js").read_text("utf-8")
    return json.loads(source[source.index("export default") + len("export default") :].strip().rstrip(";"))


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


@pytest.mark.parametrize("path", ADDRESSES)
def test_page_is_accessible(web, path):
    for scheme in ("light", "dark"):
        web.page.emulate_media(color_scheme=scheme)
        expect_accessible(web.goto(path))

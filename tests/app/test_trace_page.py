"""The page of a trace is whole, harmless and tells what happened; in a browser its keys turn the leaves."""

import base64
import hashlib
import html.parser
import io
import json
import math
import re
import shutil
import stat

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.gui.any_action import actions
from tests.gui.fake_screen import BUTTON, FIELD, HEIGHT, WIDTH, FakeScreen
from visavis.app import trace_page
from visavis.app.trace_marks import readable, said, shapes
from visavis.app.trace_page import write_page
from visavis.errors import ReplyError
from visavis.gui import trace as traces
from visavis.gui.actions import CallUser, Click, Drag, Finished, Hotkey, Navigate, Scroll, Type
from visavis.gui.agent import Agent
from visavis.gui.model import ScriptedModel
from visavis.gui.safety import Policy

EVIL = (
    "<script>alert(1)</script>",
    "</script></style></svg><img src=x onerror=alert(1)>",
    "\" onload='alert(1)' x=\"",
    "{{ 7 * 7 }}{% raw %}",
    "]]><!-- --!>&lt;b&gt;",
    "Zoë 👩‍💻 李 עברית",
)
UNSEEN = "half \ud83d, \x1b[2J, turned \u202eabc"
VOID = {"meta", "img", "input", "br"}
ATTRIBUTES = {
    *("lang", "charset", "name", "content", "http-equiv", "class", "id", "dir", "title", "alt", "src", "href", "role"),
    *("type", "value", "min", "max", "placeholder", "autocomplete", "spellcheck", "tabindex"),
    *("viewbox", "width", "height", "preserveaspectratio", "cx", "cy", "r", "x", "y", "d", "points"),
    *("font-size", "text-anchor"),
}


class Page(html.parser.HTMLParser):
    """A page as a browser takes it apart."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.text, self.sources = [], [], "", {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("script", "style"):
            self.sources.setdefault(self.open[-1], []).append(data)
        else:
            self.text += data

    def all(self, tag, **wanted):
        found = [attributes for name, attributes in self.elements if name == tag]
        return [attributes for attributes in found if wanted.items() <= attributes.items()]


def run(folder, *answers, screen=None, instruction="Press the button", policy=None, max_steps=30):
    agent = Agent(ScriptedModel(*answers, tokens=(100, 10)), screen or FakeScreen(), trace=folder, policy=policy)
    return traces.read(agent.run(instruction, max_steps=max_steps).trace)


def page_of(trace, path):
    """The page, once it is known to be harmless: nothing from outside, one script and one style, both by their hash."""
    write_page(trace, path)
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    names = {name for _, attributes in page.elements for name in attributes}
    assert {name for name in names if not name.startswith("aria-")} <= ATTRIBUTES
    for _, attributes in page.elements:
        for name in {"src", "href"} & attributes.keys():
            assert re.fullmatch(r"data:image/webp;base64,[\w+/=]+|#step-\d+|#end", attributes[name])
    policy = page.all("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for tag, (source,) in page.sources.items():
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert len(page.all("script")) == len(page.all("style")) == 1
    assert "url(" not in page.sources["style"][0]
    assert "@import" not in page.sources["style"][0]
    return page


@pytest.mark.parametrize("evil", EVIL)
def test_texts_are_data(tmp_path, evil):
    model = [
        ReplyError(f"no {evil}", f"reply {evil}"),
        (f"thought {evil}", Click(BUTTON), Type(f"typed {evil}")),
        ("address", Navigate(f"http://x/{evil}")),
        Finished(f"answer {evil}"),
    ]
    screen = FakeScreen(url=f"http://here/{evil}")
    screen.name = f"screen {evil}"
    trace = run(tmp_path, *model, screen=screen, instruction=f"instruction {evil}")
    trace = traces.correct(trace, 1, (Type(f"better {evil}"),), thought=f"correction {evil}")
    page = page_of(trace, tmp_path / "page.html")
    told = ("no", "reply", "thought", "typed", "answer", "screen", "instruction", "better", "correction")
    for said_by in told:
        assert f"{said_by} {evil}" in page.text
    assert f"http://here/{evil}" in page.text
    assert f"open http://x/{evil}" in page.text


def test_what_is_not_to_be_seen_is_told(tmp_path):
    trace = run(tmp_path, (UNSEEN, Click(BUTTON)), instruction=f"do {UNSEEN}")
    page = page_of(trace, tmp_path / "page.html")
    assert page.text.count(r"half \ud83d, \x1b[2J, turned \u202eabc") >= 2


@given(st.text(st.characters(codec=None)))
def test_any_text_is_readable(text):
    shown = readable(text)
    shown.encode()
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", shown)
    if text.isprintable():
        assert shown == text


def test_it_tells_what_happened(tmp_path):
    screen = FakeScreen(url="https://shop.example.org/cart")
    trace = run(
        tmp_path,
        ("Plan: 1. press 2. tell", Click(BUTTON)),
        ("Done: 1. I click buy now.", Click(FIELD)),
        ("Nothing there.", Click((90, 5))),
        ("Keys.", Hotkey(("ctrl", "a"))),
        ("Done: 2.", Finished("pressed")),
        screen=screen,
    )
    page = page_of(trace, tmp_path / "page.html")
    words = " ".join(page.text.split())
    for shown in (
        "Finished 5 steps",
        "550 tokens",
        "by its words",
        "refused",
        "The screen did not change",
        "press ctrl + a",
        "finished: pressed",
        "https://shop.example.org/cart",
        "100 read, 10 written",
    ):
        assert shown in words
    assert [frame["id"] for frame in page.all("article")] == [f"step-{number}" for number in range(1, 6)] + ["end"]
    assert [link["class"] for link in page.all("a")] == ["performed", "refused", *["performed"] * 3, "none"]
    assert len(page.all("image")) == len(page.all("img")) == 6
    assert page.all("svg", **{"class": "shot"})[0]["viewbox"] == f"0 0 {WIDTH} {HEIGHT}"
    assert "kbd" in dict(page.elements)
    discs = page.all("circle", **{"class": "fill"})
    assert (discs[0]["cx"], discs[0]["cy"]) == tuple(map(str, BUTTON))


def test_few_pictures_are_exact_and_many_are_smaller(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)

    class Noise(FakeScreen):
        def screenshot(self):
            seen = super().screenshot()
            seen.pixels[:] = rng.integers(0, 256, seen.pixels.shape, np.uint8)
            return seen

    trace = run(tmp_path, *[Click(BUTTON)] * 3, screen=Noise())
    exact = page_of(trace, tmp_path / "page.html").all("image")
    for step, image in zip(trace.steps, exact, strict=False):
        data = base64.b64decode(image["href"].partition(",")[2])
        with Image.open(io.BytesIO(data), formats=["WEBP"]) as picture:
            assert (np.asarray(picture.convert("RGB")) == trace.screenshot(step).pixels).all()
    monkeypatch.setattr(trace_page, "EXACT", 2)
    monkeypatch.setattr(trace_page, "LONG_SIDE_PX", 48)
    for image in page_of(trace, tmp_path / "page.html").all("image"):
        assert (image["width"], image["height"]) == (str(WIDTH), str(HEIGHT))  # where the marks are
        with Image.open(io.BytesIO(base64.b64decode(image["href"].partition(",")[2]))) as picture:
            assert picture.size == (48, 32)


def test_runs_in_every_state_have_a_page(tmp_path):
    asked = run(tmp_path, CallUser("Which one?"))
    page = page_of(asked, tmp_path / "page.html")
    assert "Asks the user" in page.text
    assert page.text.count("Which one?") >= 2
    failed = run(tmp_path, Click(BUTTON), max_steps=1)
    page = page_of(failed, tmp_path / "page.html")
    assert "Failed: no steps left" in page.text
    assert "not finished after 1 steps" in page.text
    record = json.loads((failed.folder / "run.json").read_bytes())
    (failed.folder / "run.json").write_text(json.dumps({k: v for k, v in record.items() if k != "outcome"}))
    assert "Not ended" in page_of(traces.read(failed.folder), tmp_path / "page.html").text  # killed, or going on
    (failed.folder / "steps.jsonl").write_bytes(b"")
    shutil.rmtree(failed.folder / "screenshots")
    page = page_of(traces.read(failed.folder), tmp_path / "page.html")
    assert "No step was done." in page.text
    assert page.all("article") == page.all("input") == []
    dry = run(tmp_path, Click(BUTTON), policy=Policy(dry_run=True))
    assert "dry run" in page_of(dry, tmp_path / "page.html").text


def test_a_picture_that_is_gone_or_damaged_is_told(tmp_path):
    trace = run(tmp_path, *[Click(BUTTON)] * 3)
    (trace.folder / traces.picture(1)).unlink()
    (trace.folder / traces.picture(2)).write_bytes(b"GIF89a")
    page = page_of(trace, tmp_path / "page.html")
    assert page.text.count("The picture is missing or damaged.") == 2
    assert len(page.all("image")) == 3


def test_it_is_for_the_owner_alone_and_whole_or_not_there(tmp_path):
    trace = run(tmp_path)
    write_page(trace, tmp_path / "page.html")
    assert stat.S_IMODE((tmp_path / "page.html").stat().st_mode) == 0o600
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        write_page(trace, tmp_path / "folder")
    assert not list(tmp_path.glob("*.part"))


@given(st.data(), st.tuples(st.integers(2, 4000), st.integers(2, 4000)))
def test_every_action_is_said_and_drawn(data, size):
    action = data.draw(actions(size))
    assert said(action)
    for shape in shapes(action, size, number=2):
        assert all(math.isfinite(value) for point in shape.points for value in point)


@pytest.mark.parametrize(
    ("action", "way"),
    [
        (Scroll((50, 50), down=3), (0, 1)),
        (Scroll((50, 50), down=-3), (0, -1)),
        (Scroll((50, 50), right=2), (1, 0)),
        (Drag(((10, 10), (90, 10), (90, 60))), (0, 1)),
        (Drag(((10, 10), (20, 20), (20, 20))), (1, 1)),
    ],
)
def test_an_arrow_points_where_it_goes(action, way):
    (head,) = [shape for shape in shapes(action, (100, 100)) if shape.kind == "head"]
    tip, *base = np.array(head.points)
    ahead = tip - np.mean(base, axis=0)
    np.testing.assert_allclose(ahead / np.linalg.norm(ahead), np.array(way) / np.linalg.norm(way), atol=1e-9)


@pytest.fixture
def browser():
    """A function that opens a file in Chromium; what it returns evaluates a script there."""
    from visavis.errors import ScreenError
    from visavis.gui.screen._browser import Browser, find_chromium

    try:
        find_chromium()
    except ScreenError:
        pytest.skip("needs Chromium")
    with Browser() as chromium:
        session = chromium.attach()

        def opened(path):
            chromium.connection.call("Page.navigate", session=session, url=path.as_uri())
            return lambda script: chromium.connection.evaluate(script, session=session)

        yield opened


def test_in_a_browser(tmp_path, browser):
    trace = run(
        tmp_path,
        ("first", Click(BUTTON)),
        ("second </script><script>document.title = 'evil'</script>", Click(FIELD)),
        ("third", Type("Ada")),
        Finished("done"),
        instruction="Type Ada",
    )
    write_page(trace, tmp_path / "page.html")
    page = browser(tmp_path / "page.html")
    shown = "document.querySelectorAll('.now').length + ' ' + document.querySelector('.now h2')?.firstChild.data.trim()"

    def press(key, target="document.body"):
        page(f"{target}.dispatchEvent(new KeyboardEvent('keydown', {{key: '{key}', bubbles: true}}))")
        return page(shown)

    for _ in range(200):  # it may still be loading
        if page("document.readyState") == "complete" and page("location.protocol") == "file:":
            break
    assert page("document.title") == "Type Ada"
    assert page(shown) == "1 Step 1"
    assert press("ArrowRight") == "1 Step 2"
    assert press("ArrowLeft") == "1 Step 1"
    assert press("ArrowLeft") == "1 Step 1"
    assert press("End") == "1 The end"
    assert press("Home") == "1 Step 1"
    assert page("location.hash") == "#step-1"
    press(" ")
    assert page("document.body.classList.contains('playing')")
    press(" ")
    assert not page("document.body.classList.contains('playing')")
    press("/")
    assert page("document.activeElement.id") == "search"
    page("search = document.getElementById('search'); search.value = 'THIRD'; search.oninput()")
    assert page(shown) == "1 Step 3"
    assert page("document.querySelectorAll('#timeline .out').length") == 4
    page("search.value = 'click'; search.oninput()")
    assert page(shown) == "1 Step 1"
    assert press("Enter", "search") == "1 Step 2"
    assert press("Enter", "search") == "1 Step 1"
    page("search.value = 'nowhere to be found'; search.oninput()")
    assert page("document.getElementById('hits').textContent") == "none"
    assert press("Escape", "search") == "1 Step 1"
    assert page("document.querySelectorAll('#timeline .out').length") == 0
    press("m")
    assert page("getComputedStyle(document.querySelector('.now .marks')).display") == "none"
    assert page("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    # Neither the style nor the script was refused: the one hides what is not shown, the other shows the player.
    assert page("getComputedStyle(document.querySelector('.frame:not(.now)')).display") == "none"
    assert page("getComputedStyle(document.getElementById('player')).display") == "block"
    assert page("document.documentElement.scrollWidth <= innerWidth")

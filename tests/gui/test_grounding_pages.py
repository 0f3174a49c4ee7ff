"""Sets made of pages: where things are is compared with the colours in the picture, which the browser drew."""

import http.server
import io
import itertools
import json
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visavis.errors import InputError
from visavis.gui.bench.grounding import generate, load
from visavis.gui.bench.grounding._pages import Pages

pytestmark = pytest.mark.usefixtures("chromium")
PAGES = Path(__file__).parent / "pages" / "grounding"
WINDOW = (800, 600, 1.0)
COLOURS = {  # of all that can be asked for at the top of the page
    "Save": ("button", "text", "e6194b"),
    "Home": ("link", "text", "3cb44b"),
    "Round": ("button", "icon", "4363d8"),
    "Mail": ("textbox", "icon", "f58231"),
    "Remember": ("checkbox", "icon", "911eb4"),
    "Shadow": ("button", "text", "9a6324"),
    "Framed": ("button", "text", "800000"),
    "保存": ("button", "text", "46f0f0"),
    "Colour": ("combobox", "text", "f032e6"),
    "Open all": ("button", "text", "bcf60c"),
    "Buy": ("button", "text", "008080"),
    "Inner": ("button", "text", "aaffc3"),
    "Close": ("button", "icon", "ffd8b1"),
    "Print": ("button", "icon", "dcbeff"),
    "Picture": ("link", "icon", "ffe119"),
}


def size_of(png):
    return Image.open(io.BytesIO(png)).size


def box_of(png, colour):
    """Of all pixels of a colour: left, top, and one past the last ones."""
    pixels = np.array(Image.open(io.BytesIO(png)).convert("RGB"))
    rows, columns = (pixels == tuple(bytes.fromhex(colour))).all(2).nonzero()
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


@pytest.fixture(scope="module")
def pages():
    with Pages(PAGES) as pages:
        yield pages


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """Shows a page, under a new name as the browser keeps the old: what there is to click on it."""
    count = itertools.count()
    folder = tmp_path_factory.mktemp("shelf")
    with Pages(folder) as pages:

        def names(body):
            name = f"{next(count)}.html"
            page(folder, body, name)
            look = pages.look(name, WINDOW)
            return None if look is None else {thing.name for thing in look.things}

        page(folder, "<button>Other</button>", "other.html")
        yield names


@pytest.mark.parametrize("scale", [1.0, 2.0, 1.5])
def test_what_can_be_hit_is_found_where_it_is_drawn(pages, scale):
    look = pages.look("targets.html", (800, 600, scale))
    assert size_of(look.png) == (800 * scale, 600 * scale)
    found = {thing.name: thing for thing in look.things}
    assert len(found) == len(look.things)
    assert set(found) == set(COLOURS)
    for name, (role, kind, colour) in COLOURS.items():
        assert (found[name].role, found[name].kind) == (role, kind), name
        left, top, right, bottom = found[name].box_xyxy_px
        drawn = box_of(look.png, colour)
        if name == "Picture":  # the link reaches below what it holds, to the foot of its line
            assert drawn[3] <= bottom <= drawn[3] + 6 * scale
            bottom = drawn[3]
        allowed = 0 if scale == 1 and name != "Round" else 1  # a pixel that is drawn in part has another colour
        assert np.abs(np.subtract((left, top, right, bottom), drawn)).max() <= allowed, name


def test_what_comes_by_scrolling(pages):
    (thing,) = pages.look("targets.html", WINDOW, down=1.0).things
    assert (thing.name, thing.box_xyxy_px[1]) == ("Below", 0)


def page(folder, body, name="index.html"):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"<!doctype html><meta charset=utf-8><body>{body}", encoding="utf-8")
    return folder


def test_nothing_but_the_folder_is_asked(tmp_path):
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_):
            pass

    (tmp_path / "secret.js").touch()
    own = page(tmp_path / "own", "")
    (own / "link.js").symlink_to(tmp_path / "secret.js")
    (own / "own.js").write_text("document.body.innerHTML += '<button>Own</button>'")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            there = f"127.0.0.1:{server.server_port}"
            page(
                own,
                f"<img src=http://{there}/a><iframe src=http://localhost:{server.server_port}/b></iframe>"
                f"<script>fetch('http://{there}/c', {{mode: 'no-cors'}}); new WebSocket('ws://{there}/d')</script>"
                f"<link rel=stylesheet href=http://[::ffff:127.0.0.1]:{server.server_port}/e>"
                "<script src=own.js></script>"
                "<script>for (const name of ['..%2fsecret.js', '/%2e%2e/secret.js', 'link.js', 'a%00b.js'])"
                " fetch(name).then(answer => answer.ok && document.write('<button>Secret</button>'))</script>",
            )
            with Pages(own) as pages:
                assert [thing.name for thing in pages.look("index.html", WINDOW).things] == ["Own"]
        finally:
            server.shutdown()
            thread.join()
    assert asked == []


@pytest.mark.parametrize(
    "body",
    [
        "<button>Go</button><script>setInterval(() => document.body.append('more '), 20)</script>",  # never at rest
        "<button>Go</button><meta http-equiv=refresh content='0; other.html'>",
        "<button>Go</button><script>setTimeout(() => location = 'other.html')</script>",
        "<script>location = 'http://127.0.0.1:1/'</script><button>Go</button>",
        "<link rel=stylesheet href=none.css><button>Go</button>",  # it looks like nothing its author has seen
        "<script src=none.js></script><button>Go</button>",
    ],
)
def test_a_page_that_moves_or_leaves_or_is_not_whole_gives_nothing(shelf, body):
    assert shelf(body) is None
    assert shelf("<button>Next</button>") == {"Next"}


@pytest.mark.parametrize(
    "body",
    [
        "<script>alert('Hello'); confirm('Sure?'); prompt('Who?')</script>",
        "<script>open('other.html')</script>",
        "<style>@keyframes a { to { margin-left: 200px } } p { animation: a 1s infinite }</style><p>Moves</p>",
        "<style>@keyframes a { to { opacity: 1 } } p { opacity: 0; animation: a 9s forwards }</style><p>Fades in</p>",
        "<iframe sandbox srcdoc='<button>Sandboxed</button>'></iframe>",
        "<iframe src=https://example.org></iframe>",
        "<a href=other.html download></a><script>document.querySelector('a').click()</script>",
        "<script>throw 1</script><script>onbeforeunload = event => event.preventDefault()</script>",
    ],
)
def test_what_pages_do_is_in_no_ones_way(shelf, body):
    assert shelf(f"<p><button>Go</button></p>{body}") == {"Go"}
    assert shelf("<button>Next</button>") == {"Next"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A set of two packages, and the set once more."""
    folder = tmp_path_factory.mktemp("made")
    one = page(folder / "one", "<button>Alpha</button> <button>Beta</button> <button>Gamma</button>")
    page(one, "<button>Alpha</button> <button>Beta</button> <button>Delta</button>", "second page.html")
    (one / "package.json").write_text(json.dumps({"name": "@scope/one"}))
    page(
        folder / "two",
        "<button>1</button> <button>\ue000\ue001</button> <button aria-label=Blank style='all: unset; width: 50px; "
        f"height: 50px; display: block'></button><button>{'long ' * 9}</button>"
        "<button>snake_case</button> <button style='width: 90vw; height: 60vh'>Large</button>"
        "<p><input type=radio aria-label='Pick \"me\"'>",
    )
    told = []
    for name in "set", "again":
        made = generate(
            [one, folder / "two"],
            folder / name,
            viewports=[(640, 480, 1.0), (500, 400, 2.0)],
            per_page=2,
            seed=3,
            progress=lambda done, of: told.append((done, of)),
        )
    return folder, made, told


def test_a_set_is_made(made):
    folder, targets, told = made
    assert told == [(1, 3), (2, 3), (3, 3)] * 2
    assert load(folder / "again" / "targets.json") == targets
    assert [target.source for target in targets] == ["@scope/one"] * (len(targets) - 1) + ["two"]
    words = [target.instruction for target in targets]
    asked = [text.split('"')[1] for text in words[:-1]]
    assert set(asked) <= {"Alpha", "Beta", "Gamma", "Delta"}
    assert len(set(asked)) == len(asked) >= 3  # two a page, none of them twice
    assert words[-1] in ('Choose the option "Pick "me""', 'Pick "Pick "me""')
    assert {target.kind for target in targets[:-1]} == {"text"}
    assert targets[-1].kind == "icon"
    for target in targets:
        width, height = size_of(target.image.read_bytes())
        assert (width, height) in [(640, 480), (1000, 800)]
        left, top, right, bottom = target.box_xyxy_px
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height


def test_the_same_seed_gives_the_same_set(made):
    folder, targets, _ = made
    files = {path.name for path in (folder / "set").iterdir()}
    assert files == {"targets.json"} | {target.image.name for target in targets}
    assert {path.name: path.read_bytes() for path in (folder / "set").iterdir()} == {
        path.name: path.read_bytes() for path in (folder / "again").iterdir()
    }


def test_nothing_is_left_of_a_set_that_was_not_made(tmp_path):
    folder = page(tmp_path / "pages", "<button>Go</button>")
    (tmp_path / "set.part").mkdir()  # a run that was killed left it
    (tmp_path / "set.part" / "old.png").touch()

    def stop(_done, _of):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(folder, tmp_path / "set", progress=stop)
    with pytest.raises(InputError, match="expected pages with something to click, found none in 1 pages"):
        generate(page(tmp_path / "empty", "Nothing"), tmp_path / "set")
    assert {path.name for path in tmp_path.iterdir()} == {"pages", "empty"}
    generate(folder, tmp_path / "set")
    assert {path.name for path in tmp_path.iterdir()} == {"pages", "empty", "set"}
    assert not (tmp_path / "set" / "old.png").exists()


@pytest.mark.parametrize(
    ("folder", "options", "message"),
    [
        ("none", {}, "folders: expected folders, got"),
        ("empty", {}, "folders: expected HTML files in"),
        ("pages", {"output": "pages"}, "output: expected a new name for a folder, got"),
        ("pages", {"per_page": 0}, "per_page: expected at least 1, got 0"),
        ("pages", {"viewports": []}, "viewports: expected"),
        ("pages", {"viewports": [(0, 5, 1.0)]}, "viewports: expected"),
        ("pages", {"viewports": [(800, 600, 0)]}, "viewports: expected"),
        ("pages", {"viewports": [(800, 600, float("nan"))]}, "viewports: expected"),
    ],
)
def test_what_is_refused(tmp_path, folder, options, message):
    page(tmp_path / "pages", "<button>Go</button>")
    (tmp_path / "empty").mkdir()
    output = tmp_path / options.pop("output", "set")
    with pytest.raises(InputError, match=message):
        generate(tmp_path / folder, output, **options)

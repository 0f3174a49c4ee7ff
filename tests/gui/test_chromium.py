"""ChromiumScreen on real pages: every action as the page hears it, what lies outside of pages, and every fault."""

import json
import os
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

from visavis.errors import InputError, ScreenError
from visavis.gui.actions import (
    Back,
    Click,
    Drag,
    Finished,
    Hotkey,
    LongPress,
    Move,
    Navigate,
    OpenApp,
    Press,
    Release,
    Scroll,
    Type,
)
from visavis.gui.screen import ChromiumScreen, _browser

pytestmark = pytest.mark.usefixtures("chromium")

PAGES = Path(__file__).with_name("pages")


class Handler(SimpleHTTPRequestHandler):
    """Files of `pages`, and some addresses that misbehave; `server.asked` has all that was asked."""

    def do_GET(self):
        place = urlsplit(self.path)
        self.server.asked.append(place.path)
        if place.path == "/redirect":
            self.send_response(302)
            self.send_header("Location", parse_qs(place.query)["to"][0])
            self.end_headers()
        elif place.path == "/secret":
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="x"')
            self.end_headers()
            self.wfile.write(b"<title>Refused</title>")
        elif place.path == "/never":
            self.server.over.wait(60)
        else:
            super().do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def serve():
    """A function that starts a server on loopback and returns it; `address` is where it is."""
    running = []

    def start():
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=PAGES))
        server.asked, server.over = [], threading.Event()
        server.address = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        running.append(server)
        return server

    yield start
    for server in running:
        server.over.set()
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def server(serve):
    return serve()


@pytest.fixture(scope="module")
def shared_screen(server):
    with ChromiumScreen(f"{server.address}/form.html", size=(800, 600)) as screen:
        yield screen


@pytest.fixture
def screen(shared_screen, server):
    shared_screen.perform(Navigate(f"{server.address}/form.html"))
    return shared_screen


def value(screen, script):
    return screen._connection.evaluate(script, session=screen._pages.session)


def at(screen, selector, number=0):
    """The middle of an element, in pixels of the screenshot."""
    box = f"[...document.querySelectorAll({selector!r})][{number}].getBoundingClientRect()"
    x, y = value(screen, f"(() => {{ const r = {box}; return [r.x + r.width / 2, r.y + r.height / 2]; }})()")
    return int(x * screen._scale), int(y * screen._scale)


def wait_for(holds):
    """Wait until something holds, for long enough."""
    until = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.02)


def said(screen):
    return value(screen, "document.getElementById('out').textContent").splitlines()


def button(screen, number):
    """The middle of a dialog's button, found by its colour in the picture: the first is blue, the second framed."""
    assert screen._pages.dialog is not None
    left, top, width, height = screen._pages.dialog.boxes[number]
    return int(left + width / 2), int(top + height / 2)


def test_ten_steps_through_a_form(screen):
    screen.perform(Click(at(screen, "#name")))
    screen.perform(Type("Ada 李雷 😀 it's"))
    screen.perform(Click(at(screen, "#color")))
    screen.perform(Click(at(screen, "#color option", 1)))
    screen.perform(Scroll(at(screen, "#long"), down=5))
    screen.perform(Drag((at(screen, "#box"), (300, 140), at(screen, "#target"))))
    screen.perform(Click(at(screen, "#save")))
    screen.perform(Click(at(screen, "#prompt")))
    screen.perform(Type("Grace 世界\n"))
    screen.perform(Click(at(screen, "#events"), "right"))
    assert said(screen) == [
        "color Green",
        "scrolled",
        "dropped the box",
        "saved Ada 李雷 😀 it's Green",
        "prompted Grace 世界",
        *("contextmenu 2 0 false", "auxclick 2 1 false"),
    ]


def test_a_drag_of_one_step_enters_before_it_drops(screen):
    value(screen, "target.style.cssText += 'left: 20px; width: 60px; height: 60px'")
    value(screen, "target.style.top = `${box.getBoundingClientRect().bottom}px`")
    (x, y), (_, below) = at(screen, "#box"), at(screen, "#target")
    middle = (y + below) // 2
    screen.perform(Drag(((x, middle - 5), (x, middle + 5))))
    assert said(screen) == ["dropped the box"]


def test_clicks_of_every_button_and_count(screen):
    events = at(screen, "#events")
    for action in Click(events), Click(events, count=2), Click(events, "middle"), Move(events):
        screen.perform(action)
    screen.perform(Press("ctrl"))
    screen.perform(Click(events))
    screen.perform(Release("ctrl"))
    screen.perform(Click(events))
    assert said(screen) == [
        "click 0 1 false",
        *("click 0 1 false", "click 0 2 false", "dblclick 0 2 false"),
        "auxclick 1 1 false",
        "key Control ControlLeft true false",
        "click 0 1 true",
        "click 0 1 false",
    ]


def test_a_drag_goes_by_small_steps_and_ends_where_it_should(screen):
    x, y = at(screen, "#pen")
    screen.perform(Drag(((x - 50, y - 10), (x, y + 10), (x + 50, y - 10))))
    down, up = said(screen)
    (a, b), (c, d, moved) = down.split()[1:], up.split()[1:]
    assert (int(c) - int(a), int(d) - int(b), moved) == (100, 0, "true")


def test_a_long_press_holds(screen):
    value(screen, "pen.onmousedown = () => { pen.since = performance.now(); }")
    value(screen, "pen.onmouseup = () => log(performance.now() - pen.since > 500)")
    screen.perform(LongPress(at(screen, "#pen")))
    assert said(screen) == ["true"]


def test_keys_as_a_keyboard_sends_them(screen):
    screen.perform(Hotkey(("ctrl", "shift", "k")))
    screen.perform(Hotkey(("f2",)))
    assert said(screen) == [
        "key Control ControlLeft true false",
        "key Shift ShiftLeft true true",
        "key K KeyK true true",
        "key F2 F2 false false",
    ]


@pytest.mark.parametrize(
    "text", ['it\'s "quoted" <b>', "~!@#$%^&*()_+{}|:?", "naïve café", "日本語テキスト", "👩‍👩‍👧 x", "a  b"]
)
def test_any_text_arrives(screen, text):
    screen.perform(Click(at(screen, "#name")))
    screen.perform(Type(text))
    assert value(screen, "document.getElementById('name').value") == text
    screen.perform(Hotkey(("ctrl", "a")))
    screen.perform(Type("Z"))
    assert value(screen, "document.getElementById('name').value") == "Z"


def test_lines_end_in_any_way(screen):
    value(screen, "document.body.innerHTML = '<textarea id=text></textarea>'")
    screen.perform(Click(at(screen, "#text")))
    screen.perform(Type("a\r\nb\rc\nd"))
    assert value(screen, "text.value") == "a\nb\nc\nd"
    value(screen, "setTimeout(() => { document.title = prompt('?') })")
    wait_for(lambda: screen._pages.dialog)
    screen.perform(Type("e\r\n"))
    assert value(screen, "document.title") == "e"


def test_escape_leaves_the_full_screen(screen):
    value(screen, "document.onclick = () => document.body.requestFullscreen()")
    screen.perform(Click((5, 5)))
    assert value(screen, "document.fullscreenElement !== null")
    screen.perform(Hotkey(("escape",)))
    assert value(screen, "document.fullscreenElement === null")


def test_enter_at_the_end_of_a_text_submits(screen):
    screen.perform(Click(at(screen, "#name")))
    screen.perform(Type("Ada\n"))
    assert said(screen) == ["saved Ada Red"]


def test_a_list_that_drops_down_is_in_the_picture(screen):
    before = screen.screenshot().pixels
    screen.perform(Click(at(screen, "#color")))
    x, y = at(screen, "#color option", 2)
    opened = screen.screenshot().pixels
    assert not np.array_equal(before[y - 10 : y + 10, x - 20 : x + 20], opened[y - 10 : y + 10, x - 20 : x + 20])
    screen.perform(Hotkey(("escape",)))
    assert said(screen) == []


@pytest.mark.parametrize(("number", "answer"), [(0, "true"), (1, "false")])
def test_a_dialog_is_drawn_and_its_buttons_work(screen, number, answer):
    screen.perform(Click(at(screen, "#confirm")))
    pixels = screen.screenshot().pixels
    x, y = button(screen, 0)
    assert abs(pixels[y, x - 20].astype(int) - (26, 115, 232)).max() < 12  # the blue of the first one
    screen.perform(Click((5, 5)))  # beside it: nothing
    assert screen._pages.dialog is not None
    screen.perform(Click(button(screen, number)))
    assert said(screen) == [f"confirmed {answer}"]


def test_keys_work_a_dialog(screen):
    for keys, answer in (("enter", "true"), ("escape", "false")):
        screen.perform(Click(at(screen, "#confirm")))
        screen.perform(Hotkey((keys,)))
        assert said(screen)[-1] == f"confirmed {answer}"
    screen.perform(Click(at(screen, "#prompt")))
    screen.perform(Hotkey(("backspace",)))  # what stands there is marked
    screen.perform(Type("Bob"))
    screen.perform(Hotkey(("backspace",)))
    screen.perform(Hotkey(("enter",)))
    assert said(screen)[-1] == "prompted Bo"


def test_another_page_is_opened_over_a_dialog(screen, server):
    screen.perform(Click(at(screen, "#confirm")))
    with pytest.raises(InputError, match="url: expected an address"):
        screen.perform(Navigate("a b"))
    assert screen._pages.dialog is not None
    screen.perform(Navigate(f"{server.address}/second.html"))
    assert screen.screenshot().url == f"{server.address}/second.html"
    assert screen._pages.dialog is None
    value(screen, "setTimeout(() => { for (;;) alert(1); })")
    wait_for(lambda: screen._pages.dialog)
    screen.perform(Navigate(f"{server.address}/form.html"))
    assert screen.screenshot().url == f"{server.address}/form.html"
    assert screen._pages.dialog is None


def test_a_page_behind_a_password_says_so(screen, server):
    screen.perform(Navigate(f"{server.address}/secret"))
    assert value(screen, "document.title") == "Refused"


def test_a_page_opens_no_programs(server, tmp_path, monkeypatch):
    for name in "xdg-open", "xdg-email", "true":
        (tmp_path / name).write_text(f"#!/bin/sh\n: > '{tmp_path}/{name}.ran'\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with ChromiumScreen(f"{server.address}/form.html", size=(400, 300)) as screen:
        value(screen, "document.body.innerHTML = '<a href=mailto:a@b>mail</a>'")
        screen.perform(Click(at(screen, "a")))
        wait_for(lambda: list(tmp_path.glob("*.ran")))
    assert [path.name for path in tmp_path.glob("*.ran")] == ["true.ran"]


def test_a_page_that_wants_to_be_kept(screen, server):
    screen.perform(Navigate(f"{server.address}/second.html"))
    screen.perform(Click(at(screen, "#entry")))
    screen.perform(Type("x"))
    screen.perform(Back())
    assert screen._pages.dialog.kind == "beforeunload"
    screen.screenshot()
    screen.perform(Click(button(screen, 1)))
    assert value(screen, "document.title") == "Second"
    screen.perform(Back())
    screen.perform(Hotkey(("enter",)))
    assert value(screen, "document.title") == "Form"


def test_files_and_downloads_are_refused_in_words(screen):
    for name, word in ("#file", "files"), ("#download", "x.html"):
        screen.perform(Click(at(screen, name)))
        screen.screenshot()
        assert word in screen._pages.dialog.message
        screen.perform(Click(button(screen, 0)))
        assert screen._pages.dialog is None


def test_a_new_tab_is_followed_and_left_again(screen, server):
    screen.perform(Click(at(screen, "#popup")))
    assert screen.screenshot().url == f"{server.address}/second.html"
    screen.perform(Hotkey(("ctrl", "tab")))
    assert screen.screenshot().url == f"{server.address}/form.html"
    screen.perform(Hotkey(("ctrl", "tab")))
    screen.perform(Click(at(screen, "#close")))
    assert screen.screenshot().url == f"{server.address}/form.html"
    screen.perform(Click(at(screen, "#popup")))
    screen.perform(Hotkey(("ctrl", "w")))
    assert screen.screenshot().url == f"{server.address}/form.html"


def test_back_forward_and_reload(screen, server):
    screen.perform(Navigate(f"{server.address}/second.html"))
    screen.perform(Back())
    assert value(screen, "document.title") == "Form"
    screen.perform(Hotkey(("alt", "right")))
    assert value(screen, "document.title") == "Second"
    value(screen, "document.title = 'changed'")
    screen.perform(Hotkey(("f5",)))
    assert value(screen, "document.title") == "Second"


@pytest.mark.parametrize(
    ("size", "scale", "pixels"),
    [((640, 480), 1.0, (640, 480)), ((640, 480), 2.0, (1280, 960)), ((403, 303), 1.5, (605, 455))],
)
def test_points_are_pixels_of_the_screenshot(server, size, scale, pixels):
    with ChromiumScreen(f"{server.address}/form.html", size=size, scale=scale) as screen:
        shot = screen.screenshot()
        assert shot.size == screen.size() == pixels
        assert shot.scale == scale
        blue = np.argwhere((shot.pixels == (74, 144, 217)).all(-1))  # all of the box
        (top, left), (bottom, right) = blue.min(0).tolist(), blue.max(0).tolist()
        value(screen, "document.onclick = (event) => log(event.target.id)")
        for point in (left, top), (left - 1, top), (right, bottom), (right + 1, bottom):
            screen.perform(Click(point))
        assert said(screen) == ["box", "", "box", ""]


def test_what_a_browser_does_not_have(screen):
    for action in OpenApp("Files"), Finished():
        with pytest.raises(InputError, match="action: expected one a browser has"):
            screen.perform(action)
    with pytest.raises(InputError, match="point"):
        screen.perform(Click((800, 10)))
    for url in "javascript:alert(1)", "data:text/html,x", "chrome://crash", "a b":
        with pytest.raises(InputError, match="url: expected an address"):
            screen.perform(Navigate(url))


@pytest.fixture
def udp():
    """A socket on loopback that hears what a page sends past its proxy."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as heard:
        heard.bind(("127.0.0.1", 0))
        heard.setblocking(False)
        yield heard


def test_nothing_reaches_an_origin_that_is_not_allowed(serve, server, udp):
    other = serve()
    address = f"{server.address}/ways_out.html?other={other.address}&udp={udp.getsockname()[1]}"
    with ChromiumScreen(address, origins=[server.address], size=(400, 300)) as screen:
        wait_for(lambda: value(screen, "document.title") == "done")
        screen.perform(Click((50, 50)))
        assert value(screen, "document.title") == "Not allowed"
        screen.perform(Hotkey(("ctrl", "w")))
        screen.perform(Navigate(f"{server.address}/redirect?to={other.address}/hop"))
        assert value(screen, "document.title") == "Not allowed"
        assert other.address in value(screen, "document.body.textContent")
        with pytest.raises(InputError, match="url: expected one of http"):
            screen.perform(Navigate(other.address))
    assert other.asked == []
    with pytest.raises(BlockingIOError):
        udp.recv(1)
    with pytest.raises(InputError, match="url: expected one of"):
        ChromiumScreen(other.address, origins=[server.address])


def test_without_a_list_of_origins_the_same_page_gets_out(serve, server, udp):
    other = serve()
    address = f"{server.address}/ways_out.html?other={other.address}&udp={udp.getsockname()[1]}"
    with ChromiumScreen(address, size=(400, 300)) as screen:
        wait_for(lambda: value(screen, "document.title") == "done")
    missed = {"/fetch", "/redirected", "/image", "/script", "/frame", "/srcdoc", "/data", "/blob", "/worker", "/socket"}
    assert missed <= set(other.asked)
    assert udp.recv(1)


def test_no_name_that_is_not_allowed_is_looked_up(server, tmp_path, monkeypatch):
    log = tmp_path / "net.json"
    flags = (*_browser._FLAGS, f"--log-net-log={log}", "--net-log-capture-mode=Everything")
    monkeypatch.setattr(_browser, "_FLAGS", flags)
    with ChromiumScreen(f"{server.address}/form.html", size=(400, 300), origins=[server.address]) as screen:
        value(
            screen,
            """new Promise((end) => {
              document.head.innerHTML = '<link rel=dns-prefetch href="//one.example">';
              const urls = ['stun:two.example', 'turn:three.example', 'turn:four.example?transport=tcp'];
              const peer = new RTCPeerConnection({ iceServers: [{ urls, username: 'x', credential: 'x' }] });
              peer.onicegatheringstatechange = () => { if (peer.iceGatheringState === 'complete') end(); };
              peer.createDataChannel('x');
              peer.createOffer().then((offer) => peer.setLocalDescription(offer));
            })""",
        )
        screen._connection.send("Browser.close")
        wait_for(lambda: screen._browser._process.poll() is not None)
    constants, *events = log.read_text().splitlines()
    kinds = json.loads(constants.rstrip(",") + "}")["constants"]["logEventTypes"]
    asking = [f'"type":{kinds[name]}' for name in ("DNS_TRANSACTION", "HOST_RESOLVER_SYSTEM_TASK")]
    assert not [line for line in events if ".example" in line and any(kind in line for kind in asking)]


def test_a_browser_that_is_killed(server):
    screen = ChromiumScreen(f"{server.address}/form.html", size=(400, 300))
    profile = Path(screen._browser._temporary)
    os.killpg(screen._browser.pid, signal.SIGKILL)
    with pytest.raises(ScreenError, match="browser: expected"):
        screen.perform(Click((10, 10)))
    with pytest.raises(ScreenError, match="browser: expected"):
        screen.screenshot()
    screen.close()
    screen.close()
    assert not profile.exists()
    with pytest.raises(ScreenError, match="it was closed"):
        screen.screenshot()


def test_a_page_that_never_comes_and_one_that_is_not_there(server):
    with ChromiumScreen(f"{server.address}/form.html", size=(400, 300), settle_s=0.5) as screen:
        screen.perform(Navigate(f"{server.address}/never"))
        assert screen.screenshot().url == f"{server.address}/form.html"
        screen.perform(Navigate(f"{server.address}/second.html"))
        assert screen.screenshot().url == f"{server.address}/second.html"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        nobody = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    with pytest.raises(ScreenError, match="url: expected a page at .*ERR_CONNECTION_REFUSED"):
        ChromiumScreen(nobody, size=(400, 300))


def test_a_page_that_is_busy_for_ever(server):
    with ChromiumScreen(f"{server.address}/form.html", size=(400, 300), settle_s=0.5, answer_s=2.0) as screen:
        screen._connection.send(
            "Runtime.evaluate", session=screen._pages.session, expression="setTimeout(() => { for (;;); })"
        )
        until = time.monotonic() + 20
        while screen._connection.send("Runtime.evaluate", session=screen._pages.session, expression="0").done():
            assert time.monotonic() < until  # until it has begun
        for do in partial(screen.perform, Click((10, 10))), screen.screenshot:
            with pytest.raises(ScreenError, match="is it busy"):
                do()
        screen.perform(Navigate(f"{server.address}/second.html"))
        assert screen.screenshot().url == f"{server.address}/second.html"


def crash(screen):
    screen._connection.send("Page.crash", session=screen._pages.session)
    wait_for(lambda: screen._pages.crashed)


def test_a_page_that_has_crashed_says_so_and_is_loaded_anew(server):
    form, second = f"{server.address}/form.html", f"{server.address}/second.html"
    with ChromiumScreen(form, size=(400, 300), settle_s=1.0) as screen:
        for again in (
            lambda: Click(button(screen, 0)),
            lambda: Hotkey(("enter",)),
            lambda: Hotkey(("f5",)),
            lambda: Navigate(second),
            Back,
        ):
            before = screen.screenshot().pixels
            crash(screen)
            screen.perform(Type("x"))  # meets nobody
            assert not np.array_equal(screen.screenshot().pixels, before)
            screen.perform(again())
            assert screen._pages.dialog is None
            assert value(screen, "document.readyState") == "complete"
        assert screen.screenshot().url == form


def test_a_tab_that_has_crashed_leaves_the_others_alone(screen, server):
    screen.perform(Click(at(screen, "#popup")))
    crash(screen)
    screen.perform(Hotkey(("ctrl", "tab")))
    screen.perform(Navigate(f"{server.address}/form.html"))
    screen.perform(Click(at(screen, "#name")))
    screen.perform(Type("Ada\n"))
    assert said(screen) == ["saved Ada Red"]
    screen.perform(Hotkey(("ctrl", "tab")))
    assert screen._pages.crashed
    screen.perform(Hotkey(("ctrl", "w")))
    assert said(screen) == ["saved Ada Red"]


def test_the_last_tab_is_closed(server):
    with ChromiumScreen(f"{server.address}/form.html", size=(400, 300)) as screen:
        screen._connection.call("Target.closeTarget", targetId=screen._pages.target)
        wait_for(lambda: not screen._pages._targets)
        for do in partial(screen.perform, Click((10, 10))), screen.screenshot:
            with pytest.raises(ScreenError, match="the last was closed"):
                do()


def test_browsers_that_start_at_the_same_time_all_show_their_page(server):
    def start(_):
        with ChromiumScreen(f"{server.address}/form.html", size=(320, 240)) as screen:
            return screen.screenshot().size

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(start, range(8))) == [(320, 240)] * 8


def test_bad_settings_are_refused_before_a_browser_starts():
    for options, message in (
        ({"size": (0, 5)}, "size: expected"),
        ({"scale": 0.0}, "scale: expected"),
        ({"settle_s": 0.0}, "settle_s: expected"),
        ({"answer_s": float("nan")}, "answer_s: expected"),
        ({"origins": ["example.org"]}, "origins: expected an origin"),
    ):
        with pytest.raises(InputError, match=message):
            ChromiumScreen("about:blank", **options)

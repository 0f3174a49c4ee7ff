"""What arrives in a window when X11Screen performs; the window is another client, which writes its events down."""

import gc
import signal
import subprocess
import threading
import warnings
from itertools import pairwise
from math import dist

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from Xlib import XK, X

from tests.gui.x11 import Heard, Listener, opened, set_monitor, until, x_server
from visavis.errors import InputError, ScreenError
from visavis.gui.actions import (
    Back,
    CallUser,
    Click,
    Drag,
    Finished,
    Home,
    Hotkey,
    LongPress,
    Move,
    Navigate,
    OpenApp,
    Press,
    Release,
    Scroll,
    Type,
    Wait,
)
from visavis.gui.screen import X11Screen

BUTTONS = {"left": 1, "middle": 2, "right": 3}
INSIDE = st.tuples(st.integers(100, 599), st.integers(120, 519))  # of the listener's box


@pytest.fixture
def screen(x_display):
    with X11Screen(x_display) as opened_screen:
        yield opened_screen


@pytest.fixture
def listener(x_display):
    with Listener(x_display) as opened_listener:
        yield opened_listener


def presses(listener):
    """Keysyms pressed, and which ones were released in which order."""
    return [(each.kind.removeprefix("Key"), each.detail) for each in listener.of("KeyPress", "KeyRelease")]


def codes(name, *keysyms):
    with opened(name) as connection:
        return [connection.keysym_to_keycode(XK.string_to_keysym(keysym)) for keysym in keysyms]


def nothing_held(name):
    with opened(name) as connection:
        buttons = X.Button1Mask | X.Button2Mask | X.Button3Mask
        return not any(connection.query_keymap()) and not connection.screen().root.query_pointer().mask & buttons


@pytest.mark.parametrize("button", BUTTONS)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_click_is_so_many_presses_of_the_button_at_the_point(screen, listener, button, count):
    screen.perform(Click((300, 200), button, count))
    number = BUTTONS[button]
    mask = X.Button1Mask << (number - 1)
    pair = [Heard("ButtonPress", number, 0, (300, 200)), Heard("ButtonRelease", number, mask, (300, 200))]
    assert listener.of("ButtonPress", "ButtonRelease") == pair * count


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(point=INSIDE)
def test_the_pointer_goes_to_the_point(screen, listener, point):
    listener.heard.clear()
    screen.perform(Move((0, 0)))
    screen.perform(Move(point))
    assert [each.at for each in listener.heard] == [point]


@pytest.mark.parametrize("point", [(0, 0), (1279, 799), (0, 799), (1279, 0)])
def test_corners_are_points_of_the_screen(screen, point):
    screen.perform(Move(point))
    with opened(screen.name.split()[1]) as connection:
        pointer = connection.screen().root.query_pointer()
    assert (pointer.root_x, pointer.root_y) == point


def test_a_second_click_at_a_place_is_no_double_click(screen, listener):
    for _ in range(2):
        screen.perform(Click((300, 200)))
    first, second = listener.of("ButtonPress")
    assert second.time_ms - first.time_ms >= 500


def test_a_mouse_for_the_left_hand(x_display, screen, listener):
    with opened(x_display) as connection:
        usual = connection.get_pointer_mapping()
        connection.set_pointer_mapping([3, 2, 1, *usual[3:]])
        try:
            screen.perform(Click((300, 200), "right"))
        finally:
            connection.set_pointer_mapping(usual)
            connection.sync()
    assert [each.detail for each in listener.of("ButtonPress")] == [3]


def test_a_drag_follows_its_path_with_the_button_down(screen, listener):
    path = ((150, 150), (150, 151), (400, 300), (590, 130))
    screen.perform(Drag(path))
    events = listener.of("ButtonPress", "ButtonRelease", "MotionNotify")
    down = next(number for number, each in enumerate(events) if each.kind == "ButtonPress")
    assert events[down] == Heard("ButtonPress", 1, 0, path[0])
    assert events[-1] == Heard("ButtonRelease", 1, X.Button1Mask, path[-1])
    way = [each.at for each in events[down:]]
    assert all(each.state == X.Button1Mask for each in events[down + 1 :])
    assert [point for point in way if point in path] == [*path, path[-1]]
    assert max(dist(a, b) for a, b in pairwise(way)) <= 18  # steps of 16, rounded


@pytest.mark.parametrize("down", [-3, 0, 40])
@pytest.mark.parametrize("right", [-2, 0, 1])
def test_the_wheel_turns_by_notches(screen, listener, down, right):
    if down == right == 0:
        with pytest.raises(InputError, match="down, right: expected notches"):
            screen.perform(Scroll((300, 200)))
        return
    screen.perform(Scroll((300, 200), down, right))
    turned = [each.detail for each in listener.of("ButtonPress")]
    assert turned == [4] * -down + [5] * down + [6] * -right + [7] * right
    assert {each.at for each in listener.of("ButtonPress")} == {(300, 200)}


def test_a_long_press_holds(screen, listener):
    screen.perform(LongPress((300, 200)))
    press, release = listener.of("ButtonPress", "ButtonRelease")
    assert (press.detail, press.at, release.at) == (1, (300, 200), (300, 200))
    assert release.time_ms - press.time_ms >= 1000


@pytest.mark.parametrize(
    ("keys", "keysyms"),
    [
        (("ctrl", "c"), ["Control_L", "c"]),
        (("ctrl", "shift", "t"), ["Control_L", "Shift_L", "t"]),
        (("alt", "f7"), ["Alt_L", "F7"]),
        (("ctrl", "+"), ["Control_L", "Shift_L", "equal"]),
        (("shift", "+"), ["Shift_L", "equal"]),
        (("meta",), ["Super_L"]),
        (("pagedown",), ["Next"]),
        (("ctrl", "space"), ["Control_L", "space"]),
    ],
)
def test_keys_go_down_in_order_and_up_in_the_reverse_one(x_display, screen, listener, keys, keysyms):
    screen.perform(Hotkey(keys))
    expected = codes(x_display, *keysyms)
    down = [("Press", code) for code in expected]
    assert presses(listener) == down + [("Release", code) for code in reversed(expected)]


NAMES = {
    **{f"f{number}": f"F{number}" for number in range(1, 25)},
    "enter": "Return",
    "escape": "Escape",
    "backspace": "BackSpace",
    "delete": "Delete",
    "insert": "Insert",
    "home": "Home",
    "end": "End",
    "pageup": "Page_Up",
    "pagedown": "Page_Down",
    "tab": "Tab",
    "menu": "Menu",
    "up": "Up",
    "down": "Down",
    "left": "Left",
    "right": "Right",
    "pause": "Pause",
    "printscreen": "Print",
}


def test_every_key_writes_its_symbol():
    with x_server(manager=False) as (name, _), X11Screen(name) as screen, Listener(name) as listener:
        for key in NAMES:  # no window manager: it has some of them for itself
            screen.perform(Hotkey((key,)))
        assert [each.sym for each in listener.of("KeyPress")] == list(map(XK.string_to_keysym, NAMES.values()))


def test_a_held_key_holds_until_it_is_released(screen, listener):
    screen.perform(Press("shift"))
    screen.perform(Type("a1"))
    screen.perform(Click((300, 200)))
    screen.perform(Release("shift"))
    screen.perform(Click((400, 200)))
    assert [each.state & X.ShiftMask for each in listener.of("ButtonPress")] == [1, 0]
    assert listener.text() == "A!"


def test_a_key_is_held_once_and_released_once(screen, listener):
    screen.perform(Press("ctrl"))
    with pytest.raises(InputError, match="key: expected one that is not held yet, got ctrl"):
        screen.perform(Press("ctrl"))
    screen.perform(Hotkey(("ctrl", "c")))  # the hotkey does not let go of it
    screen.perform(Click((300, 200)))
    assert listener.of("ButtonPress")[0].state == X.ControlMask
    screen.perform(Release("ctrl"))
    with pytest.raises(InputError, match="key: expected one that is held, got ctrl"):
        screen.perform(Release("ctrl"))


def test_what_is_held_is_let_go_of_at_the_end(x_display):
    with X11Screen(x_display) as screen:
        screen.perform(Press("shift"))
        screen.perform(Press("+"))
        assert not nothing_held(x_display)
    assert nothing_held(x_display)


def test_what_is_held_is_let_go_of_on_an_error(x_display, screen, listener, monkeypatch):
    moves = []

    def move(x, y):
        moves.append((x, y))
        if len(moves) == 3:
            raise ScreenError("broken")

    monkeypatch.setattr(screen._connection, "move", move)
    with pytest.raises(ScreenError, match="broken"):
        screen.perform(Drag(((200, 200), (300, 300))))
    until(
        lambda: [each.kind for each in listener.of("ButtonPress", "ButtonRelease")] == ["ButtonPress", "ButtonRelease"]
    )
    assert nothing_held(x_display)


LETTERS = st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Cn")) | st.sampled_from("aZ '\"\\\n\té汉字😀ß́")


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(LETTERS, max_size=60))
@example(text="¦")  # of Shift and AltGr
def test_any_text_arrives(screen, listener, text):
    listener.heard.clear()
    screen.perform(Type(text))
    assert listener.text() == text


def test_line_ends_of_every_kind_are_one_enter(screen, listener):
    screen.perform(Type("a\r\nb\rc\nd\n"))
    assert listener.text() == "a\nb\nc\nd\n"


@pytest.mark.parametrize("text", ["a\x1b[31m", "\x00", "\x7f", "b\x08", "\x85"])
def test_no_key_writes_a_control_character(screen, listener, text):
    with pytest.raises(InputError, match=r"text: expected characters that keys write, got U\+00"):
        screen.perform(Type(text))
    assert not listener.heard


def test_more_characters_than_free_keys_for_a_program_that_is_late(x_display, screen, listener):
    text = "".join(chr(0x4E00 + number) for number in range(100))
    listener.busy.set()
    typing = threading.Thread(target=screen.perform, args=(Type(text),))
    with opened(x_display) as connection:
        before = connection.get_keyboard_mapping(8, 248)
        typing.start()
        until(lambda: connection.get_keyboard_mapping(8, 248) != before)
    typing.join(0.5)
    assert typing.is_alive()
    listener.busy.clear()
    typing.join()
    assert listener.text() == text


def test_the_keyboard_is_given_back(x_display):
    with opened(x_display) as connection:
        before = connection.get_keyboard_mapping(8, 248)
        with X11Screen(x_display) as screen:
            screen.perform(Type("漢字"))
            assert connection.get_keyboard_mapping(8, 248) != before
        assert connection.get_keyboard_mapping(8, 248) == before


def test_caps_lock_changes_no_text(x_display, screen, listener):
    (lock,) = codes(x_display, "Caps_Lock")
    screen.perform(Hotkey(("capslock",)))
    try:
        screen.perform(Type("aBé"))
        assert listener.text() == "aBé"
        assert not any(each.state & X.LockMask for each in listener.of("KeyPress") if each.detail != lock)
        with opened(x_display) as connection:
            assert connection.screen().root.query_pointer().mask & X.LockMask
    finally:
        screen.perform(Hotkey(("capslock",)))


@pytest.fixture
def layout(x_display):
    def choose(*arguments):
        subprocess.run(["setxkbmap", "-display", x_display, *arguments], check=True, capture_output=True)

    yield choose
    choose("-layout", "us", "-option", "")


def test_keys_of_the_layout_in_use(x_display, screen, listener, layout):
    layout("-layout", "de")
    with opened(x_display) as connection:
        before = connection.get_keyboard_mapping(8, 248)
        screen.perform(Type("zyß@{Ü"))
        assert connection.get_keyboard_mapping(8, 248) == before  # nothing had to be lent
    assert listener.text() == "zyß@{Ü"
    screen.perform(Type("^´é"))  # dead keys, and a letter that takes one
    assert listener.text() == "zyß@{Ü^´é"


def test_keys_of_the_second_layout(x_display, screen, listener, layout):
    layout("-layout", "us,de", "-option", "grp:caps_toggle")
    screen._call(lambda: screen._connection.hold("key", 66) and screen._connection.let_go("key", 66))
    screen.perform(Type("zyß\n漢"))
    with opened(x_display) as connection:
        rows = [connection.get_keyboard_mapping(each.detail, 1)[0] for each in listener.of("KeyPress")[-5:]]
    assert [row[2] for row in rows[:3]] == [ord(character) for character in "zyß"]  # the second group begins there
    assert [row[0] for row in rows[3:]] == [XK.XK_Return, 0x1000000 + ord("漢")]


def test_an_action_ends_when_the_program_has_handled_it(x_display, listener):
    with X11Screen(x_display, settle_s=60) as screen:
        listener.busy.set()
        seen = []
        acting = threading.Thread(
            target=lambda: (screen.perform(Click((300, 200))), seen.append(len(listener.of("ButtonPress"))))
        )
        acting.start()
        acting.join(0.5)
        assert acting.is_alive()
        listener.busy.clear()
        acting.join()
        assert seen == [1]


def test_an_action_ends_when_the_program_has(x_display):
    with X11Screen(x_display, settle_s=60) as screen, Listener(x_display) as listener:
        listener.busy.set()
        acting = threading.Thread(target=screen.perform, args=(Click((300, 200)),))
        acting.start()
        acting.join(0.3)
        listener.window.destroy()
        listener._connection.flush()
        until(lambda: not acting.is_alive())


def test_a_program_that_never_answers_is_not_waited_for_longer_than_settle_s(x_display, listener):
    listener.busy.set()
    with X11Screen(x_display, settle_s=0.2) as screen:
        screen.perform(Click((300, 200)))
    listener.busy.clear()


class Painter(threading.Thread):
    """Paints a square of a display, one colour after the other, until told to stop."""

    def __init__(self, name, left):
        super().__init__()
        self._name, self._left, self.end = name, left, threading.Event()

    def run(self):
        with opened(self._name) as connection:
            root = connection.screen().root
            brush = root.create_gc(subwindow_mode=X.IncludeInferiors)
            for colour in range(1_000_000):
                brush.change(foreground=colour % 255)
                root.fill_rectangle(brush, self._left, 700, 20, 20)
                connection.sync()
                if self.end.wait(0.02):
                    break


def test_an_action_ends_when_nothing_is_drawn_any_more(x_display):
    with X11Screen(x_display, settle_s=60) as screen:
        painter = Painter(x_display, 1000)
        painter.start()
        acting = threading.Thread(target=screen.perform, args=(Move((300, 200)),))
        acting.start()
        acting.join(0.5)
        assert acting.is_alive()
        painter.end.set()
        until(lambda: not acting.is_alive())
        painter.join()


def test_a_screenshot_is_what_the_server_holds(x_display, screen):
    with opened(x_display) as connection:
        root = connection.screen().root
        brush = root.create_gc(subwindow_mode=X.IncludeInferiors)
        for number, colour in enumerate((0xFF0000, 0x00FF00, 0x0000FF, 0x123456)):
            brush.change(foreground=colour)
            root.fill_rectangle(brush, 700 + 20 * number, 300, 20, 10)
        connection.sync()
        raw = root.get_image(0, 0, 1280, 800, X.ZPixmap, 0xFFFFFFFF).data
        shot = screen.screenshot()
        root.clear_area(700, 300, 80, 10)
        connection.sync()
    expected = np.frombuffer(raw, np.dtype("<u4")).reshape(800, 1280)
    packed = shot.pixels.astype(np.uint32) @ np.array([0x10000, 0x100, 1], np.uint32)
    assert np.array_equal(packed, expected & 0xFFFFFF)
    assert [int(packed[305, 705 + 20 * number]) for number in range(4)] == [0xFF0000, 0xFF00, 0xFF, 0x123456]
    assert shot.size == screen.size() == (1280, 800)
    assert shot.scale == 1
    assert shot.pixels.flags.writeable
    assert shot.pixels.flags.c_contiguous


@pytest.fixture
def two_monitors(x_display):
    """`left`, 640 x 800, and `right`, 640 x 700, 100 px lower."""
    with opened(x_display) as connection:
        root = connection.screen().root
        (usual,) = root.xrandr_get_monitors().monitors
        for name, x, y, height, outputs in (("left", 0, 0, 800, usual.crtcs), ("right", 640, 100, 700, [])):
            set_monitor(connection, name, (x, y, 640, height), outputs)
        connection.sync()
        yield x_display
        for each in root.xrandr_get_monitors().monitors:
            root.xrandr_delete_monitor(each.name)
        connection.sync()


@pytest.mark.parametrize(("monitor", "size", "corner"), [("right", (640, 700), (640, 100)), (0, (640, 800), (0, 0))])
def test_a_monitor_has_its_own_pixels(two_monitors, monitor, size, corner):
    with X11Screen(two_monitors, monitor=monitor) as one, X11Screen(two_monitors) as whole, Listener(two_monitors):
        assert whole.monitors() == ("left", "right")
        assert one.name == f"x11 {two_monitors} monitor {monitor}"
        assert one.size() == one.screenshot().size == size
        assert whole.size() == (1280, 800)
        x, y = corner
        everything = whole.screenshot().pixels
        assert np.array_equal(one.screenshot().pixels, everything[y : y + size[1], x : x + size[0]])
        with pytest.raises(InputError, match=r"point: expected a pixel of 640"):
            one.perform(Click(size))


def test_a_point_of_a_monitor_is_where_it_shows(two_monitors):
    with (
        X11Screen(two_monitors, monitor="right") as screen,
        Listener(two_monitors, box=(700, 150, 500, 500)) as listener,
    ):
        screen.perform(Click((100, 90)))
        screen.perform(Drag(((200, 200), (210, 210))))
        screen.perform(Scroll((101, 91), 1))
        assert [each.at for each in listener.of("ButtonPress")] == [(740, 190), (840, 300), (741, 191)]
        assert listener.of("ButtonRelease")[1].at == (850, 310)


def test_what_another_monitor_shows_is_not_waited_for(two_monitors):
    painter = Painter(two_monitors, 1000)
    painter.start()
    with X11Screen(two_monitors, monitor="left", settle_s=60) as screen:
        acting = threading.Thread(target=screen.perform, args=(Move((300, 200)),))
        acting.start()
        until(lambda: not acting.is_alive())
        painter.end.set()
    painter.join()


def test_a_monitor_that_is_not_there(x_display, two_monitors):
    with pytest.raises(InputError, match=r"monitor: expected one of 0 \(left\), 1 \(right\), got 'HDMI-1'"):
        X11Screen(two_monitors, monitor="HDMI-1")
    with X11Screen(two_monitors, monitor="right") as screen, opened(x_display) as connection:
        connection.screen().root.xrandr_delete_monitor(connection.intern_atom("right"))
        connection.sync()
        with pytest.raises(ScreenError, match="display: expected monitor right as before, got none") as failure:
            screen.perform(Click((1, 1)))
        assert not failure.value.acted
        with pytest.raises(ScreenError, match="display: expected monitor right"):
            screen.screenshot()


def test_a_display_that_grows():
    with x_server("800x600", manager=False) as (name, _), opened(name) as connection:
        root = connection.screen().root
        resources = root.xrandr_get_screen_resources()
        connection.xrandr_set_crtc_config(resources.crtcs[0], resources.config_timestamp, 0, 0, 0, 1, [])
        root.xrandr_set_screen_size(640, 480, 170, 130)
        connection.sync()
        with X11Screen(name) as screen:
            assert screen.screenshot().size == screen.size() == (640, 480)
            root.xrandr_set_screen_size(800, 600, 210, 160)
            connection.sync()
            assert screen.screenshot().size == screen.size() == (800, 600)
            screen.perform(Move((799, 599)))


@pytest.mark.parametrize("action", [Back(), Home(), Navigate("http://example.org"), Wait(), Finished(), CallUser()])
def test_actions_that_a_desktop_does_not_have(screen, action):
    with pytest.raises(InputError, match=f"action: expected one that a desktop has, got {type(action).__name__}"):
        screen.perform(action)


@pytest.mark.parametrize("action", [Click((1280, 0)), Move((0, 800)), Drag(((0, 0), (5, 800))), Scroll((2000, 1), 1)])
def test_points_outside(screen, listener, action):
    with pytest.raises(InputError, match=r"expected a pixel of 1280 x 800"):
        screen.perform(action)
    assert not listener.heard


def test_a_display_that_is_gone():
    with x_server(manager=False) as (name, server):
        screen = X11Screen(name)
        screen.perform(Press("shift"))
        server.kill()
        server.wait()
        with pytest.raises(ScreenError, match="it is gone"):
            screen.perform(Click((1, 1)))
        for _ in range(2):
            with pytest.raises(ScreenError, match="display: expected"):
                screen.screenshot()
        screen.close()
        screen.close()
        with pytest.raises(ScreenError, match="screen: expected an open one"):
            screen.screenshot()


@pytest.mark.parametrize("look", [True, False])
def test_a_display_that_hangs(look):
    with x_server(manager=False) as (name, server):
        screen = X11Screen(name, answer_s=0.5)
        server.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(ScreenError, match=r"display: expected an answer within 0.5 s, got none: it hangs"):
                screen.screenshot() if look else screen.perform(Click((1, 1)))
            with pytest.raises(ScreenError, match="display: expected an answer, got none earlier"):
                screen.screenshot()
            screen.close()
        finally:
            server.send_signal(signal.SIGCONT)
        screen._lane._thread.join()


def test_a_display_that_dies_in_the_middle_of_an_action(x_display):
    with x_server(manager=False) as (name, server), X11Screen(name) as screen, opened(x_display):
        failures = []

        def hold():
            try:
                screen.perform(LongPress((200, 200)))
            except ScreenError as error:
                failures.append(error)

        with opened(name) as connection:
            acting = threading.Thread(target=hold)
            acting.start()
            until(lambda: connection.screen().root.query_pointer().mask & X.Button1Mask)
        server.kill()
        until(lambda: not acting.is_alive())
        assert "it is gone" in str(failures[0])
        assert failures[0].acted


def test_no_display(monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # python-xlib forgets the socket of an attempt that failed
        with pytest.raises(ScreenError, match=r"display: expected an X display at :4077, got .*; is it running?"):
            X11Screen(":4077")
        with pytest.raises(ScreenError, match="display: expected an X display at nonsense"):
            X11Screen("nonsense")
        gc.collect()
    monkeypatch.delenv("DISPLAY", raising=False)
    with pytest.raises(ScreenError, match=r"display: expected a name such as :0, got none"):
        X11Screen()


def test_the_display_of_the_environment(x_display, monkeypatch):
    monkeypatch.setenv("DISPLAY", x_display)
    with X11Screen() as screen:
        assert screen.name == f"x11 {x_display}"


def test_values_out_of_range():
    for settle_s in (-1, float("nan"), float("inf")):
        with pytest.raises(InputError, match="settle_s: expected seconds from 0"):
            X11Screen(":0", settle_s=settle_s)
    for answer_s in (0, float("nan")):
        with pytest.raises(InputError, match="answer_s: expected seconds above 0"):
            X11Screen(":0", answer_s=answer_s)


def test_a_program_that_no_menu_has(screen):
    with pytest.raises(InputError, match="name: expected a program of .*, got 'rm -rf /'"):
        screen.perform(OpenApp("rm -rf /"))

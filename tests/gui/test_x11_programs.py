"""X11Screen in programs of other people: an editor of GTK, a terminal."""

import os
import shutil

import pytest
from Xlib import X

from tests.gui.x11 import opened, running, until
from visavis.app.trace_page import write_page
from visavis.errors import InputError
from visavis.gui import Agent, ScriptedModel
from visavis.gui import trace as traces
from visavis.gui.actions import Click, Drag, Hotkey, OpenApp, Press, Release, Scroll, Type
from visavis.gui.screen import X11Screen

TEXT = "It's \"quoted\" \\n 'text'\n\t你好，世界 😀 naïve Ж €\nAction: click(point='1 2')\n"


@pytest.fixture
def at_home(tmp_path, monkeypatch):
    """Programs keep their settings here, and know no desktop but this one."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for variable in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / variable.lower()))
    for variable, value in (("GSETTINGS_BACKEND", "memory"), ("NO_AT_BRIDGE", "1"), ("LC_ALL", "C.UTF-8")):
        monkeypatch.setenv(variable, value)
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)
    return tmp_path


def windows(name):
    """The places of the windows that people see, by title."""
    with opened(name) as connection:
        root = connection.screen().root
        listed = root.get_full_property(connection.intern_atom("_NET_CLIENT_LIST"), X.AnyPropertyType)
        found = {}
        for number in listed.value if listed else ():
            window = connection.create_resource_object("window", number)
            title = window.get_full_text_property(connection.intern_atom("_NET_WM_NAME"))
            place = window.translate_coords(root, 0, 0)
            size = window.get_geometry()
            found[title or ""] = (-place.x, -place.y, size.width, size.height)
        return found


def submit(screen, dialog):
    """Press Enter until the dialog is gone: while it looks up the name typed, it takes none."""
    name = screen.name.split()[1]
    until(lambda: dialog in windows(name))
    until(lambda: screen.perform(Hotkey(("enter",))) or dialog not in windows(name))


def needs(program):
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"needs {program}")


@pytest.fixture
def mousepad(x_display, at_home):  # noqa: ARG001 (a fixture that another needs)
    """The screen with an empty Mousepad, opened by its name, and the window's top left corner; closed at the end."""
    with X11Screen(x_display, settle_s=10) as screen:
        screen.perform(OpenApp("mousepad"))
        (corner,) = until(lambda: [box[:2] for title, box in windows(x_display).items() if "Mousepad" in title])
        yield screen, corner
        pids = screen._started
        for pid in pids:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
        pids.clear()
    until(lambda: not windows(x_display))


@needs("mousepad")
def test_text_of_every_kind_is_saved_by_an_editor(mousepad, at_home):
    screen, _ = mousepad
    screen.perform(Type(TEXT))
    screen.perform(Hotkey(("ctrl", "s")))
    screen.perform(Type(f"{at_home}/你好.txt"))
    submit(screen, "Save As")
    until(lambda: (at_home / "你好.txt").read_text(encoding="utf-8") == TEXT)


@needs("mousepad")
def test_an_agent_works_in_an_editor(mousepad, at_home, x_display):
    """Menus, a dialog, the clipboard, a held key, the mouse: the file says that each step did what it should."""
    screen, (x, y) = mousepad
    file = at_home / "notes.txt"
    first_line, menu = (x + 30, y + 62), (x + 20, y + 12)
    model = ScriptedModel(
        ("I write two lines.", Type("alpha beta\ngamma 世界\n")),
        ("To the beginning.", Hotkey(("ctrl", "home"))),
        ("I mark the first line.", Press("shift"), Hotkey(("end",)), Release("shift")),
        ("I copy it to the end.", Hotkey(("ctrl", "c")), Hotkey(("ctrl", "end")), Hotkey(("ctrl", "v"))),
        ("I mark a word.", Click(first_line, count=2)),
        ("Another takes its place.", Type("omega")),
        ("I mark the second line.", Drag(((x + 3, y + 80), (x + 300, y + 81)))),
        ("Another takes its place.", Type("delta")),
        ("Is there more below?", Scroll(first_line, down=2)),
        ("I open the menu.", Click(menu)),
        ("I choose Save.", Click((x + 40, y + 164))),
        ("I name the file.", Type(str(file))),
    )
    run = Agent(model, screen, trace=at_home / "runs").run("Write a note")
    assert (run.outcome, len(run.steps)) == ("finished", 13)
    submit(screen, "Save As")
    until(lambda: file.read_text(encoding="utf-8") == "omega beta\ndelta\nalpha beta")
    assert f"{file} - Mousepad" in windows(x_display)
    trace = traces.read(run.trace)
    assert {attempt.verdict for step in trace.steps for attempt in step.attempts} == {"performed"}
    assert all(trace.steps[number - 1].changed for number in (1, 6, 8))  # what was typed is seen
    write_page(trace, at_home / "page.html")
    assert (at_home / "page.html").read_text().count("data:image/") >= 13


@needs("xterm")
def test_a_terminal_gets_text_of_every_kind(x_display, at_home):
    environment = {**os.environ, "DISPLAY": x_display, "SHELL": "/bin/sh"}
    with (
        X11Screen(x_display) as screen,
        running("xterm", "-u8", "-e", "cat > typed", env=environment, cwd=at_home) as xterm,
    ):
        until(lambda: windows(x_display) and (at_home / "typed").exists())
        screen.perform(Click(screen_centre(x_display)))
        screen.perform(Type('it\'s 漢字 \\ "é" ~\n'))
        screen.perform(Hotkey(("ctrl", "d")))
        until(lambda: (at_home / "typed").read_text(encoding="utf-8") == 'it\'s 漢字 \\ "é" ~\n')
        until(lambda: xterm.poll() is not None)


def screen_centre(name):
    ((x, y, width, height),) = windows(name).values()
    return x + width // 2, y + height // 2


def test_a_program_that_starts_is_waited_for_and_outlives_the_screen(x_display, at_home, monkeypatch):
    folder = at_home / "xdg_data_home" / "applications"
    folder.mkdir(parents=True)
    said = at_home / "said"
    script = at_home / "speak"
    script.write_text('#!/bin/sh\nprintf "%s|" "$@" "$DISPLAY" > said.new\nmv said.new said\n')
    script.chmod(0o755)
    entry = f'[Desktop Entry]\nType=Application\nName=Speak\nExec={script} "two words" %U $HOME ; %c\n'
    (folder / "speak.desktop").write_text(entry)
    monkeypatch.chdir(at_home)
    with X11Screen(x_display) as screen:
        screen.perform(OpenApp("SPEAK"))
        assert until(said.exists)
        assert said.read_text() == f"two words|$HOME|;|Speak|{x_display}|"  # no shell has seen it
        with pytest.raises(InputError, match="name: expected a program of "):
            screen.perform(OpenApp(str(script)))
        until(lambda: not screen._running())  # nothing is left of it

"""The menu's programs: files as the Desktop Entry Specification has them."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visavis.errors import InputError
from visavis.gui.screen._desktop_entries import _command, find_program, programs

PYTHON = sys.executable


@pytest.fixture
def menu(tmp_path, monkeypatch):
    """Writes an entry: its id, more lines, and whether it is the user's or the system's."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_DATA_DIRS", f"{tmp_path / 'system'}:")

    def write(name, lines="", *, own=False, head="[Desktop Entry]\nType=Application\n"):
        file = tmp_path / ("home" if own else "system") / "applications" / f"{name}.desktop"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(head + lines, encoding="utf-8")
        return file

    return write


def entry(name, command=PYTHON, more=""):
    return f"Name={name}\nExec={command}\n{more}"


@pytest.mark.parametrize("name", ["Text Editor", "writer", "ORG.X.WRITER", "Schreiber", "编辑器", " python"])
def test_all_names_of_a_program(menu, name, monkeypatch, tmp_path):
    python = tmp_path / "python"
    python.symlink_to(PYTHON)
    monkeypatch.setenv("PATH", str(tmp_path))
    more = "Name[de]=Schreiber\nName[zh_CN]=编辑器\nGenericName=Text Editor\n"
    menu("org.x.Writer", entry("Writer", "python %U", more))
    assert find_program(name).id == "org.x.Writer"


def test_its_own_name_goes_before_another_s_kind(menu):
    menu("a", entry("Terminal"))
    menu("b", entry("Zutty", more="GenericName=Terminal\n"))
    menu("c", entry("XTerm", more="GenericName=Terminal\n"))
    assert find_program("terminal").id == "a"


def test_several_programs_of_a_name(menu):
    for identity in "ab":
        menu(identity, entry(f"Editor {identity}", more="GenericName=Editor\n"))
    with pytest.raises(InputError, match="name: expected one of Editor a, Editor b, got 'Editor'"):
        find_program("Editor")


def test_no_such_program(menu):
    with pytest.raises(InputError, match="name: expected a program of no programs, got 'x'"):
        find_program("x")
    for number in range(25):
        menu(f"p{number:02}", entry(f"Program {number:02}"))
    with pytest.raises(InputError, match=r"name: expected a program of Program 00, .*, Program 19, ..., got '/bin/sh'"):
        find_program("/bin/sh")


def test_what_a_menu_does_not_show(menu):
    menu("hidden", entry("A", more="Hidden=true\n"))
    menu("nodisplay", entry("B", more="NoDisplay=true\n"))
    menu("missing", entry("C", "/no/such/program"))
    menu("untried", entry("D", more="TryExec=no-such-program\n"))
    menu("malformed", entry("E", f'{PYTHON} "open'))
    menu("link", entry("F"), head="[Desktop Entry]\nType=Link\n")
    menu("nameless", f"Exec={PYTHON}\n")
    menu("commandless", "Name=G\n")
    menu("other", entry("H"), head="[Other]\nType=Application\n")
    menu("bytes").write_bytes(b"\xff\xfe")
    menu("good", entry("Good", more=f"[Desktop Action new]\nName=Wrong\nExec={PYTHON} --wrong\n"))
    assert [(each.name, each.command) for each in programs()] == [("Good", (PYTHON,))]


def test_the_user_s_own_entry_stands_for_the_system_s(menu):
    menu("x", entry("Theirs"))
    menu("x", entry("Ours"), own=True)
    menu("y", entry("Gone"))
    menu("y", entry("Gone", more="Hidden=true\n"), own=True)
    assert [each.name for each in programs()] == ["Ours"]


def test_a_program_of_the_terminal(menu):
    menu("vim", entry("Vim", f"{PYTHON} %F", "Terminal=true\n"))
    terminal, option, *rest = find_program("vim").command
    assert terminal in ("x-terminal-emulator", "xterm")
    assert (option, rest) == ("-e", [PYTHON])


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("a b  c", ("a", "b", "c")),
        ('a "b c" d', ("a", "b c", "d")),
        ('a ""', ("a", "")),
        (r'"\"\`\$\\"', ('"`$\\',)),
        ("a %f %F %u %U %d %m", ("a",)),
        ("a %c", ("a", "Nice Name")),
        ("a --at=%k", ("a", "--at=/x.desktop")),
        ("a %i b", ("a", "--icon", "pic", "b")),
        ("a 100%%", ("a", "100%")),
        ("a $(b) `c` ; d > e", ("a", "$(b)", "`c`", ";", "d", ">", "e")),
        ("", ()),
        ('a "b', ()),
    ],
)
def test_the_words_of_a_command(command, words):
    assert _command({"Name": "Nice Name", "Icon": "pic", "Exec": command}, "/x.desktop") == words


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n")), min_size=1, max_size=5))
def test_quoted_words_come_back(words):
    def quoted(word):
        return '"' + "".join("\\" + each if each in '"`$\\' else each for each in word) + '"'

    assert _command({"Name": "", "Exec": " ".join(map(quoted, words))}, "") == tuple(words)

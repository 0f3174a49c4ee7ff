import json
import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visavis.app.output import emit, printable, progress


@given(st.text(st.characters()))  # surrogates too, as in file names that are no valid UTF-8
def test_printable_text_is_printable_and_encodes(text):
    shown = printable(text)
    assert shown.isprintable()
    shown.encode()
    assert printable(shown) == shown


@given(st.text().filter(str.isprintable))
def test_what_is_printable_stays_as_it_is(text):
    assert printable(text) == text


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\nb\r.jpg", r"a\nb\r.jpg"),
        ("\x1b]0;owned\x07", r"\x1b]0;owned\x07"),
        ("\u202egpj.exe", r"\u202egpj.exe"),
        (os.fsdecode(b"caf\xe9.jpg"), r"caf\udce9.jpg"),
        ("Zoë [red]🎉.jpg", "Zoë [red]🎉.jpg"),
        (Path("x\ty"), r"x\ty"),
    ],
)
def test_names_are_shown_not_obeyed(name, shown):
    assert printable(name) == shown


@pytest.mark.parametrize("text", ["[red]a[/red].jpg", ":smile:", "x" * 500, "1 'two'"])
def test_text_is_printed_as_it_is_and_not_wrapped_in_a_pipe(text, capsys):
    emit(None, as_json=False, text=text)
    assert capsys.readouterr().out == text + "\n"


def test_json_is_one_line_of_ascii(capsys):
    value = {"name": os.fsdecode(b"\xff\n"), "path": Path("ö"), "day": date(2026, 11, 1)}
    emit(value, as_json=True, text="not this")
    line = capsys.readouterr().out
    assert line.isascii()
    assert line.count("\n") == 1
    assert json.loads(line) == {"name": "\udcff\n", "path": "ö", "day": "2026-11-01"}


def test_no_progress_in_a_pipe(capsys):
    with progress("reading") as report:
        report(1, 2)
    assert capsys.readouterr() == ("", "")


@pytest.mark.skipif(os.name == "nt", reason="no pseudo-terminals there")
def test_progress_on_a_terminal_goes_to_standard_error():
    master, terminal = os.openpty()
    code = "from visavis.app.output import progress\nwith progress('re[b]ad') as report: report(3, 7)"
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, stderr=terminal, check=False
    )
    os.close(terminal)
    drawn = os.read(master, 1 << 16).decode()
    os.close(master)
    assert (done.returncode, done.stdout) == (0, b"")
    assert "re[b]ad" in drawn
    assert "3/7" in drawn

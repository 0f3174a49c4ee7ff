"""``visavis gui``, its screens and models replaced by those of the tests."""

import json
from pathlib import Path

import pytest

from tests.gui.fake_screen import BUTTON, FIELD, FakeScreen
from visavis.app.cli import gui, main
from visavis.gui import trace as traces
from visavis.gui.actions import JSON_TOOLS, UI_TARS_1_5, CallUser, Click, Finished, Move, Type
from visavis.gui.model import ScriptedModel

HERE = "https://shop.example.org/"
EVIL = "a\n\x1b[2J</script>[red]\ud83d"


@pytest.fixture
def screen(monkeypatch):
    """The screen that commands get; what they asked for is in `asked`."""
    screen = FakeScreen(url=HERE)
    screen.asked = []

    def opened(*arguments, **options):
        screen.asked.append((*arguments, options))
        return screen

    monkeypatch.setattr(gui, "_screen", opened)
    return screen


@pytest.fixture
def run(screen, capsys, monkeypatch, tmp_path):
    """Runs ``visavis gui ...`` with a model that answers so; the exit code, and what was printed."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments, model=()):
        monkeypatch.setattr(gui, "remote_model", lambda *_: ScriptedModel(*model, tokens=(100, 10)))
        screen.asked.clear()
        code = main(["gui", *map(str, arguments)])
        seen = capsys.readouterr()
        return code, json.loads(seen.out) if "--json" in arguments else seen.out, seen.err

    return call


def test_a_run_is_told_step_by_step(run, screen):
    code, out, err = run("run", "Press it", HERE, model=[("I press.", Click(BUTTON)), ("Well.", Finished("pressed"))])
    assert code == 0
    assert out == f"finished: pressed\ntrace: {Path('runs/0001')}\n"
    assert err.splitlines() == ["  1  click at 16, 16  (I press.)", "  2  finished: pressed  (Well.)"]
    assert screen.done == [Click(BUTTON)]
    assert screen.closed
    assert screen.asked == [(HERE, None, "1280x800", {"window": False, "allow": None})]
    assert traces.read("runs/0001").instruction == "Press it"


def test_a_run_in_json(run):
    code, value, _ = run("run", "Press it", HERE, "--json", "--trace", "there", model=[CallUser("Which?")])
    assert code == 1
    assert value.pop("seconds") >= 0
    assert value == {
        "outcome": "call_user",
        "reason": "",
        "answer": "Which?",
        "message": "",
        "steps": 1,
        "prompt_tokens": 100,
        "completion_tokens": 10,
        "trace": str(Path("there/0001")),
    }


@pytest.mark.parametrize(
    ("options", "reason"),
    [(("--max-steps", 2), "steps"), (("--max-tokens", 150), "tokens"), (("--max-seconds", 1e-9), "time")],
)
def test_a_run_has_limits(run, options, reason):
    code, value, _ = run("run", "Press it", HERE, "--json", *options, model=[Click(BUTTON)] * 9)
    assert (code, value["outcome"], value["reason"]) == (1, "failed", reason)


def test_a_dry_run_performs_nothing(run, screen):
    code, _, err = run("run", "Press it", HERE, "--dry-run", model=[Click(BUTTON)])
    assert code == 0
    assert screen.done == []
    assert "[dry]" in err


def test_what_cannot_be_taken_back_is_asked_about_where_somebody_is(run, screen, monkeypatch):
    model = [("I click buy now.", Click(BUTTON))]
    _, _, err = run("run", "Buy", HERE, model=model)
    assert screen.done == []
    assert "[refused: by its words" in err
    run("run", "Buy", HERE, "--yes", model=model)
    assert screen.done == [Click(BUTTON)]
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    answers = []
    monkeypatch.setattr("typer.confirm", lambda question, **_: answers.append(question) or len(answers) > 1)
    run("run", "Buy", HERE, model=model)
    assert screen.done == [Click(BUTTON)]
    run("run", "Buy", HERE, model=model)
    assert screen.done == [Click(BUTTON)] * 2
    assert answers[0].startswith("click at 16, 16: by its words")


def test_a_question_is_answered_where_somebody_is(run, monkeypatch):
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.prompt", lambda question, **_: {"On?": "yes", "Off?": ""}[question])
    _, out, _ = run("run", "Set it", HERE, model=[CallUser("On?"), CallUser("Off?")])
    assert out.startswith("call_user: Off?")
    assert traces.read("runs/0001").steps[0].remarks == ("The user answers: yes",)


def test_only_what_is_allowed(run, screen):
    _, _, err = run("run", "Press", HERE, "--allow", "https://other.org", model=[Click(BUTTON)])
    assert screen.done == []
    assert "where nothing may be done" in err
    assert screen.asked[0][-1]["allow"] == ["https://other.org"]


@pytest.mark.parametrize("source", ["env:SHOP_PIN", "file:pin.txt"])
def test_secrets_are_typed_where_they_belong(run, screen, monkeypatch, tmp_path, source):
    monkeypatch.setenv("SHOP_PIN", "93 75")
    (tmp_path / "pin.txt").write_text("93 75\n")
    model = [(Click(FIELD), Type("{{secret:pin}}"))]
    code, out, err = run("run", "Log in", HERE, "--secret", f"pin={source}", model=model)
    assert code == 0
    assert screen.text == "93 75"
    assert "93 75" not in out + err
    assert not any(b"93 75" in file.read_bytes() for file in (tmp_path / "runs").rglob("*.json*"))
    screen.url = "https://evil.org/"
    _, _, err = run("run", "Log in", HERE, "--secret", f"pin={source}", model=model)
    assert "may not be typed at https://evil.org" in err


@pytest.mark.parametrize(
    ("arguments", "code", "problem"),
    [
        (["run", "Do"], 2, "expected either an address or --display, got neither"),
        (["run", "Do", HERE, "--display", ":1"], 2, "got both"),
        (["run", "Do", "--display", ":1", "--allow", "https://x.org"], 2, "a display knows no addresses"),
        (["run", "Do", HERE, "--secret", "pin=env:VISAVIS_NO_SUCH"], 2, "there is no variable VISAVIS_NO_SUCH"),
        (["run", "Do", HERE, "--secret", "pin=hunter2"], 2, "expected env:VARIABLE or file:PATH"),
        (["run", "Do", HERE, "--secret", "pin=file:nowhere"], 3, "nowhere"),
        (["run", " ", HERE], 3, "instruction: expected some words"),
        (["run", "Do", HERE, "--allow", "shop"], 3, "origins: expected an origin"),
        (["show", "nowhere"], 3, "nowhere"),
        (["replay", "nowhere", HERE], 3, "nowhere"),
        (["export", "nowhere", "-o", "out.jsonl"], 3, "nowhere"),
        (["serve"], 2, "got neither"),
        (["serve", HERE, "--port", "0", "--token", "env:SHORT_TOKEN"], 3, "token: expected at least 16"),
    ],
)
def test_what_cannot_be_done_is_told(run, monkeypatch, arguments, code, problem):
    monkeypatch.setenv("SHORT_TOKEN", "short")
    found, out, err = run(*arguments)
    assert found == code
    assert problem in " ".join(err.replace("│", " ").split())
    assert "hunter2" not in out + err
    assert out == ""


@pytest.mark.parametrize("size", ["1280", "axb", "1280x", "x800", "-1x5"])
def test_a_size_that_is_none(capsys, size):
    assert main(["gui", "run", "Do", HERE, f"--size={size}"]) == 2
    assert "--size" in capsys.readouterr().err


def test_ctrl_c_tells_where_the_trace_is(run):
    code, out, err = run("run", "Press", HERE, model=[Click(BUTTON), KeyboardInterrupt()])
    assert code == 130
    assert out == ""
    assert f"stopped; trace: {Path('runs/0001')}" in err
    assert traces.read("runs/0001").ending.reason == "interrupt"


def test_texts_obey_nobody(run):
    _, out, err = run("run", EVIL, HERE, model=[(EVIL, Click(BUTTON)), Finished("a\n\x1b[2J</script>[red]")])
    assert "\x1b" not in out + err
    assert r"a\n\x1b[2J</script>[red]" in out
    assert len(err.splitlines()) == 2
    code, out, _ = run("show", "runs/0001")
    assert (code, out) == (0, f"{Path('runs/0001/page.html')}\n")


def test_show_writes_the_page(run, tmp_path):
    run("run", "Press it", HERE, model=[Click(BUTTON)])
    code, value, _ = run("show", "runs/0001", "--output", "there.html", "--json")
    assert (code, value) == (0, {"file": "there.html"})
    assert "Press it" in (tmp_path / "there.html").read_text()


def test_replay_tells_what_is_the_same_and_what_is_not(run, screen):
    run("run", "Press it", HERE, model=[Click(BUTTON), Move((1, 1))])
    screen.clicks = 0
    code, out, err = run("replay", "runs/0001", HERE)
    assert (code, out) == (0, "The screen is the same in all 3 looks.\n")
    assert err.splitlines()[0] == "  1  same: click at 16, 16"
    code, out, err = run("replay", "runs/0001", HERE)  # with a bar of the click before
    assert (code, out) == (1, "The screen differs in 3 of 3 looks, first in step 1.\n")
    assert err.splitlines()[0] == "  1  differs in 6 pixels from (2, 2) to (3, 4): click at 16, 16"
    code, value, _ = run("replay", "runs/0001", HERE, "--json")
    assert (code, value["same"]) == (1, False)
    assert value["steps"][0] == {
        "step": 1,
        "same": False,
        "pixels": 12,
        "box": [2, 2, 8, 5],
        "attempts": [
            {
                "action": {"action": "click", "point": [16, 16], "button": "left", "count": 1},
                "verdict": "performed",
                "note": "",
            }
        ],
    }


def test_replay_ends_where_it_may_not_go_on(run, screen):
    run("run", "Buy it", HERE, "--yes", model=[("I click buy now.", Click(BUTTON)), Move((1, 1))])
    screen.clicks = 0
    code, out, _ = run("replay", "runs/0001", HERE)
    assert code == 1
    assert "It ended early: click at 16, 16 [refused: by its words" in out
    code, _, _ = run("replay", "runs/0001", HERE, "--yes")
    assert code == 0


@pytest.mark.parametrize("dialect", ["ui-tars-1.5", "ui-tars-1.0", "doubao-1.5", "mobile", "json-tools"])
def test_export_writes_lines(run, screen, dialect, tmp_path):
    run("run", "Press it", HERE, model=[Click(BUTTON)])
    screen.clicks = 0
    run("run", "Press it", HERE, "--max-steps", 1, model=[Click(FIELD)])
    options = ("-o", "out.jsonl", "--dialect", dialect)
    code, value, _ = run("export", "runs/0001", "runs/0002", *options, "--json")
    assert (code, value) == (0, {"file": "out.jsonl", "records": 2, "traces": 2})
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [set(line) for line in lines] == [{"messages", "images"}] * 2
    code, out, _ = run("export", "runs/0001", "runs/0002", *options, "--format", "preference")
    assert (code, out) == (0, "out.jsonl: 1 records of 2 runs\n")
    code, _, _ = run("export", "runs/0002", *options)
    assert code == 1
    assert (tmp_path / "out.jsonl").read_bytes() == b""


def test_serve_tells_address_and_token(run, monkeypatch):
    served = []

    def serve_http(_server, *, token, port, on_ready):
        served.append((token, port))
        on_ready("http://127.0.0.1:7/mcp")

    monkeypatch.setattr("visavis.gui.server.serve_http", serve_http)
    code, value, _ = run("serve", HERE, "--port", 7, "--json")
    assert (code, served) == (0, [(value["token"], 7)])
    assert len(value["token"]) >= 40
    monkeypatch.setenv("OWN_TOKEN", "a-token-of-my-own")
    code, out, _ = run("serve", HERE, "--port", 0, "--token", "env:OWN_TOKEN")
    assert (code, out, served[1]) == (0, "http://127.0.0.1:7/mcp\n", ("a-token-of-my-own", 0))
    monkeypatch.setattr("visavis.gui.server.serve_stdio", lambda _: served.append("stdio"))
    code, out, _ = run("serve", HERE)
    assert (code, out, served[2]) == (0, "", "stdio")  # standard output is the wire


def test_the_model_is_asked_as_the_options_say(screen, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODEL_KEY", "a-key")
    made = []

    class Asked(ScriptedModel):
        def __init__(self, *arguments, **options):
            super().__init__()
            made.append((arguments, options))

    monkeypatch.setattr("visavis.gui.model.RemoteModel", Asked)
    place = ("--endpoint", "http://127.0.0.1:9/v1", "--model", "m")
    assert main(["gui", "run", "Do", HERE, *place, "--dialect", "json-tools", "--api-key", "env:MODEL_KEY"]) == 0
    assert main(["gui", "run", "Do", HERE, *place]) == 0
    assert made == [
        (("http://127.0.0.1:9/v1", "m"), {"dialect": JSON_TOOLS, "api_key": "a-key"}),
        (("http://127.0.0.1:9/v1", "m"), {"dialect": UI_TARS_1_5, "api_key": None}),
    ]
    assert screen.closed

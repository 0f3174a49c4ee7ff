"""``visavis gui``: the GUI agent."""

import secrets as randomness
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from visavis.app.cli import bench
from visavis.app.cli.endpoints import (
    DIALECT,
    ENDPOINT,
    MODEL,
    ApiKey,
    Dialects,
    Endpoint,
    ModelName,
    Spoken,
    dialect_of,
    kept,
    remote_model,
)
from visavis.app.cli.opening import Json
from visavis.app.output import emit, printable

if TYPE_CHECKING:
    from visavis.gui.actions import Action
    from visavis.gui.agent import Run
    from visavis.gui.agent.reflection import Change
    from visavis.gui.replay import Repeated
    from visavis.gui.safety import Policy
    from visavis.gui.screen import Screen
    from visavis.gui.trace import Attempt, Step

__all__ = ["app"]

HELP = """Have a model use a browser or a desktop, and see what it did.

\b
    visavis gui run "Switch the language to Spanish" https://shop.example.org --endpoint http://127.0.0.1:8000/v1
    visavis gui show runs/0001
    visavis gui replay runs/0001 https://shop.example.org

A run is written to a folder as it goes: what was seen, thought and done. `show` makes one page of it to play, `export`
makes training data, `serve` gives the screen to another agent.
"""
SHOWN = 100  # letters of a thought in a live line

app = typer.Typer(no_args_is_help=True, help=HELP, pretty_exceptions_show_locals=False)
app.add_typer(bench.app, name="bench")

Address = Annotated[str | None, typer.Argument(help="Where a browser starts; or give --display.", show_default=False)]
Display = Annotated[
    str | None, typer.Option("--display", help="An X display to act on instead, such as :0.", show_default=False)
]
Size = Annotated[str, typer.Option("--size", help="Width and height of the browser's page.")]
Window = Annotated[bool, typer.Option("--window", help="Show the browser in a window.")]
Allow = Annotated[
    list[str] | None,
    typer.Option(
        "--allow",
        help="The only origins a browser may go to, as https://example.org or https://*.example.org; may be given "
        "again. When not given: any.",
        show_default=False,
    ),
]
SecretTexts = Annotated[
    list[str] | None,
    typer.Option(
        "--secret",
        help="NAME=env:VARIABLE or NAME=file:PATH, a text that the model may type but not see, on the origins of "
        "--allow, or else of the address; may be given again.",
        show_default=False,
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before buying, paying, deleting or sending.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Perform nothing, and record all.")]
Folder = Annotated[Path, typer.Argument(help="A run's folder.")]


@app.command("run")
def _run(
    instruction: Annotated[str, typer.Argument(help="What to do, in words.")],
    url: Address = None,
    display: Display = None,
    endpoint: Endpoint = ENDPOINT,
    model: ModelName = MODEL,
    dialect: Spoken = DIALECT,
    api_key: ApiKey = None,
    max_steps: Annotated[int, typer.Option(help="A step is a look and a decision.", min=1)] = 30,
    max_seconds: Annotated[
        float | None, typer.Option(help="Of the whole run; when not given, any.", show_default=False)
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(help="Read and written by the model; when not given, any.", show_default=False)
    ] = None,
    trace: Annotated[Path, typer.Option("--trace", help="Gets a folder with the run.")] = Path("runs"),
    allow: Allow = None,
    secret: SecretTexts = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    size: Size = "1280x800",
    window: Window = False,
    json: Json = False,
) -> None:
    """Carry out an instruction in a browser or on a display.

    Each step is told on standard error as it is done. Before what cannot be taken back you are asked, if there is a
    terminal; else it is refused. A file STOP in the run's folder ends it at once. Exits with 1 when not finished.
    """
    from visavis.gui.agent import Agent

    policy = _policy(url, display, allow, secret, dry_run=dry_run, yes=yes)
    there = sys.stdin.isatty() and not json
    with _screen(url, display, size, window=window, allow=allow) as screen:
        agent = Agent(
            remote_model(endpoint, model, dialect, api_key),
            screen,
            policy=policy,
            trace=trace,
            on_question=_answer if there else None,
            on_confirm=_confirm if there else None,
            on_step=_tell_step,
        )
        try:
            run = agent.run(instruction, max_steps=max_steps, max_seconds=max_seconds, max_tokens=max_tokens)
        except KeyboardInterrupt:
            typer.echo(f"stopped; trace: {printable(agent.folder or '')}", err=True)
            raise
    emit(_run_to_json(run), as_json=json, text=_run_text(run))
    raise typer.Exit(0 if run.outcome == "finished" else 1)


@app.command("show")
def _show(
    trace: Folder,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The HTML file; when not given, page.html there.", show_default=False),
    ] = None,
    json: Json = False,
) -> None:
    """Make one HTML page that plays a run, and needs no network and no other file."""
    from visavis.app.trace_page import write_page
    from visavis.gui.trace import read

    page = trace / "page.html" if output is None else output
    write_page(read(trace), page)
    emit({"file": page}, as_json=json, text=printable(page))


@app.command("replay")
def _replay(
    trace: Folder,
    url: Address = None,
    display: Display = None,
    allow: Allow = None,
    secret: SecretTexts = None,
    yes: Yes = False,
    size: Size = "1280x800",
    window: Window = False,
    json: Json = False,
) -> None:
    """Do again what was done in a run, and tell step by step where the screen differs.

    No model is asked. Exits with 1 when the screen differs anywhere or an action could not be performed.
    """
    from visavis.gui.replay import replay
    from visavis.gui.trace import read

    recorded = read(trace)
    policy = _policy(url, display, allow, secret, dry_run=False, yes=yes)
    there = sys.stdin.isatty() and not json
    with _screen(url, display, size, window=window, allow=allow) as screen:
        steps = replay(recorded, screen, policy=policy, on_confirm=_confirm if there else None, on_step=_tell_repeated)
    differing = [step.number for step in steps if step.change is not None]
    failed = [attempt for step in steps for attempt in step.attempts if attempt.verdict != "performed"]
    value = {"same": not differing and not failed, "steps": [_repeated_to_json(step) for step in steps]}
    if differing:
        text = f"The screen differs in {len(differing)} of {len(steps)} looks, first in step {differing[0]}."
    else:
        text = f"The screen is the same in all {len(steps)} looks."
    if failed:
        text += f" It ended early: {_told(failed[0])}."
    emit(value, as_json=json, text=text)
    raise typer.Exit(0 if value["same"] else 1)


@app.command("export")
def _export(
    traces: Annotated[list[Path], typer.Argument(help="Runs' folders.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file of JSON lines to write.")],
    kind: Annotated[
        Literal["sft", "preference"],
        typer.Option("--format", help="Chats to imitate, or pairs of a better and a worse reply."),
    ] = "sft",
    dialect: Annotated[Dialects, typer.Option("--dialect", help="Of the model to train.")] = DIALECT,
    json: Json = False,
) -> None:
    """Make training data of runs: a JSON object a line, with the paths of the screenshots.

    Exits with 1 when there is nothing to learn from them.
    """
    from json import dumps

    from visavis.app.files import draft_of
    from visavis.gui.export import preferences, to_imitate
    from visavis.gui.trace import read

    records = to_imitate if kind == "sft" else preferences
    count = 0
    with draft_of(output) as draft, draft.open("w", encoding="utf-8", newline="\n") as file:
        for record in records([read(folder) for folder in traces], dialect=dialect_of(dialect)):
            file.write(dumps(record, ensure_ascii=False) + "\n")
            count += 1
    value = {"file": output, "records": count, "traces": len(traces)}
    emit(value, as_json=json, text=f"{printable(output)}: {count} records of {len(traces)} runs")
    raise typer.Exit(0 if count else 1)


@app.command("serve")
def _serve(
    url: Address = None,
    display: Display = None,
    port: Annotated[
        int | None,
        typer.Option(
            help="Serve streamable HTTP at this port of 127.0.0.1, 0: any that is free; when not given, standard "
            "input and output.",
            min=0,
            max=65535,
            show_default=False,
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            help="env:VARIABLE or file:PATH, what HTTP clients have to send; when not given, one is made up and told.",
            show_default=False,
        ),
    ] = None,
    allow: Allow = None,
    secret: SecretTexts = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    size: Size = "1280x800",
    window: Window = False,
    json: Json = False,
) -> None:
    """Give a browser or a display to another agent, as a server of the Model Context Protocol.

    Without --yes, what its client says buys, pays, deletes or sends is refused.
    """
    from visavis.gui.server import make_server, serve_http, serve_stdio

    policy = _policy(url, display, allow, secret, dry_run=dry_run, yes=yes)
    with _screen(url, display, size, window=window, allow=allow) as screen:
        server = make_server(screen, policy=policy)
        if port is None:
            serve_stdio(server)
            return
        made_up = randomness.token_urlsafe(32)
        given = made_up if token is None else kept("--token", token)

        def tell(address: str) -> None:
            told: dict[str, Any] = {"address": address} | ({"token": made_up} if token is None else {})
            text = f"{address}\nAuthorization: Bearer {made_up}" if token is None else address
            emit(told, as_json=json, text=text)
            sys.stdout.flush()

        serve_http(server, token=given, port=port, on_ready=tell)


def _screen(url: str | None, display: str | None, size: str, *, window: bool, allow: list[str] | None) -> "Screen":
    from visavis.gui.screen import ChromiumScreen, X11Screen

    if display is not None:
        return X11Screen(display)
    width, _, height = size.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise typer.BadParameter(f"expected a width and a height, as 1280x800, got {size!r}", param_hint="--size")
    assert url is not None  # `_policy` saw to it
    return ChromiumScreen(url, size=(int(width), int(height)), headless=not window, origins=allow)


def _policy(
    url: str | None, display: str | None, allow: list[str] | None, texts: list[str] | None, *, dry_run: bool, yes: bool
) -> "Policy":
    from visavis.gui.safety import Policy, Secret, origin

    if (url is None) == (display is None):
        raise typer.BadParameter(
            f"expected either an address or --display, got {'neither' if url is None else 'both'}", param_hint="URL"
        )
    if display is not None and allow:
        raise typer.BadParameter("expected a browser: a display knows no addresses", param_hint="--allow")
    own = "*" if url is None else origin(url)
    places = tuple(allow or ([own] if own else ()))
    secrets = {}
    for text in texts or ():
        name, _, source = text.partition("=")
        secrets[name] = Secret(kept("--secret", source), places)
    return Policy(
        origins=tuple(allow) if allow else None,
        secrets=secrets,
        consequential="allow" if yes else "ask",
        dry_run=dry_run,
    )


def _answer(question: str) -> str | None:
    return typer.prompt(printable(question), default="", show_default=False, err=True) or None


def _confirm(action: "Action", reason: str) -> bool:
    from visavis.app.trace_marks import said

    return typer.confirm(f"{printable(said(action))}: {printable(reason)}. Do it?", err=True)


def _tell_step(step: "Step") -> None:
    thought = "" if step.decision is None else " ".join(step.decision.thought.split())
    shown = thought if len(thought) <= SHOWN else thought[: SHOWN - 1] + "…"
    deeds = "; ".join(map(_told, step.attempts)) or "nothing was done"
    typer.echo(f"{step.number:>3}  {printable(deeds)}" + (f"  ({printable(shown)})" if shown else ""), err=True)


def _tell_repeated(step: "Repeated") -> None:
    deeds = "; ".join(map(_told, step.attempts)) or "nothing to do"
    typer.echo(f"{step.number:>3}  {_change_text(step.change)}: {printable(deeds)}", err=True)


def _told(attempt: "Attempt") -> str:
    from visavis.app.trace_marks import said

    rest = "" if attempt.verdict == "performed" else f" [{attempt.verdict}{attempt.note and ': '}{attempt.note}]"
    return said(attempt.action) + rest


def _change_text(change: "Change | None") -> str:
    if change is None:
        return "same"
    left, top, right, bottom = change.box
    return f"differs in {change.pixels:,} pixels from ({left}, {top}) to ({right - 1}, {bottom - 1})"


def _repeated_to_json(step: "Repeated") -> dict[str, Any]:
    from visavis.gui.actions import to_json

    return {
        "step": step.number,
        "same": step.change is None,
        "pixels": 0 if step.change is None else step.change.pixels,
        "box": None if step.change is None else step.change.box,
        "attempts": [
            {"action": to_json(attempt.action), "verdict": attempt.verdict, "note": attempt.note}
            for attempt in step.attempts
        ],
    }


def _tokens(run: "Run", count: Callable[[Any], int]) -> int:
    return sum(count(step.decision) for step in run.steps if step.decision is not None)


def _run_to_json(run: "Run") -> dict[str, Any]:
    return {
        "outcome": run.outcome,
        "reason": run.reason,
        "answer": run.answer,
        "message": run.message,
        "steps": len(run.steps),
        "seconds": round(sum(sum(step.seconds.values()) for step in run.steps), 3),
        "prompt_tokens": _tokens(run, lambda decision: decision.prompt_tokens),
        "completion_tokens": _tokens(run, lambda decision: decision.completion_tokens),
        "trace": run.trace,
    }


def _run_text(run: "Run") -> str:
    reason = f" ({run.reason})" if run.reason else ""
    rest = "".join(f": {printable(text)}" for text in (run.answer, run.message) if text)
    return f"{run.outcome}{reason}{rest}\ntrace: {printable(run.trace or '')}"

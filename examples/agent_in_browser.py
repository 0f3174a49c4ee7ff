"""An agent orders tea in a real browser, by what it sees: a form, a list, a scroll, a drag, a dialog, Chinese text.

python examples/agent_in_browser.py [FOLDER]

The model says what is written below, so that no endpoint is needed; in earnest it is a `RemoteModel`. The run is left
in FOLDER with a page that plays it; without one both are in a temporary folder that goes away.
"""

import sys
import tempfile
from pathlib import Path

from visavis.app.trace_page import write_page
from visavis.gui import Agent, ChromiumScreen, Policy, ScriptedModel
from visavis.gui import trace as traces
from visavis.gui.actions import Click, Drag, Finished, Hotkey, Scroll, Type

PAGE = Path(__file__).with_name("order.html")

model = ScriptedModel(
    ("Plan: 1. fill in the form 2. put a cup into the basket 3. place the order. I click the name.", Click((200, 88))),
    ("I type the name.", Type("李雷")),
    ("I open the list of teas.", Click((200, 138))),
    (
        "I choose with the keys: the third below.",
        Hotkey(("down",)),
        Hotkey(("down",)),
        Hotkey(("down",)),
        Hotkey(("enter",)),
    ),
    ("The box to tick is at the end of the terms; I scroll there.", Scroll((200, 250), down=5)),
    ("I tick it.", Click((36, 296))),
    ("Done: 1. Now I drag the cup into the basket.", Drag(((520, 110), (520, 180), (520, 260)))),
    ("Done: 2. Everything is filled in; I press Place order.", Click((120, 358))),
    ("It asks whether this is right, and it is: I confirm the order.", Hotkey(("enter",))),
    ("Done: 3. It thanks Li Lei.", Finished("Oolong is ordered for 李雷")),
)


def confirm(_: object, reason: str) -> bool:
    """Stand in for the person who is asked before anything is bought."""
    print(f"     asked: {reason}")
    return True


def order(folder: Path) -> None:
    """Run, and write the page."""
    with ChromiumScreen(PAGE.as_uri(), size=(640, 480)) as screen:
        agent = Agent(
            model, screen, policy=Policy(), trace=folder, on_confirm=confirm, on_step=lambda step: print(step.number)
        )
        run = agent.run("Order an Oolong for 李雷")
    assert run.trace is not None
    write_page(traces.read(run.trace), run.trace / "page.html")
    print(f"{run.outcome}: {run.answer}\n{run.trace / 'page.html'}")


if len(sys.argv) > 1:
    order(Path(sys.argv[1]))
else:
    with tempfile.TemporaryDirectory() as temporary:
        order(Path(temporary))

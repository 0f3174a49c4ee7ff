"""An agent logs in to a drawn program: a plan, a secret, a click that misses, a question, a deletion that is refused.

python examples/agent.py

The screen is a picture that this script draws, and the model says what is written below, so that it runs anywhere;
in earnest they are a `ChromiumScreen` or an `X11Screen`, and a `RemoteModel`.
"""

import tempfile

import numpy as np
from PIL import Image, ImageDraw

from visavis.gui import trace as traces
from visavis.gui.actions import Action, CallUser, Click, Finished, Type
from visavis.gui.agent import Agent
from visavis.gui.memory import Memory
from visavis.gui.model import Context, Decision
from visavis.gui.safety import Policy, Secret
from visavis.gui.screen import Screenshot

NAME, PASSWORD, LOG_IN, DELETE, BLANK = (200, 60), (200, 110), (120, 170), (280, 170), (380, 20)


class Form:
    """Two fields and two buttons."""

    name = "a drawn form"

    def __init__(self) -> None:
        self.fields = {NAME: "", PASSWORD: ""}
        self.focus = NAME
        self.greeting = "Please log in"

    def size(self) -> tuple[int, int]:
        return 400, 220

    def screenshot(self) -> Screenshot:
        image = Image.new("RGB", self.size(), "white")
        draw = ImageDraw.Draw(image)
        draw.text((20, 15), self.greeting, "black")
        for (x, y), text in self.fields.items():
            draw.rectangle((x - 90, y - 15, x + 90, y + 15), outline="blue" if (x, y) == self.focus else "gray")
            draw.text((x - 80, y - 6), "*" * len(text) if (x, y) == PASSWORD else text, "black")
        for (x, y), text in ((LOG_IN, "Log in"), (DELETE, "Delete account")):
            draw.rectangle((x - 60, y - 15, x + 60, y + 15), fill="lightgray")
            draw.text((x - 50, y - 6), text, "black")
        return Screenshot(np.asarray(image))

    def perform(self, action: Action) -> None:
        match action:
            case Type(text):
                self.fields[self.focus] += text
            case Click(point) if point in self.fields:
                self.focus = point
            case Click(point) if point == LOG_IN:
                right = self.fields == {NAME: "ada", PASSWORD: "correct horse"}
                self.greeting = "Hello, Ada!" if right else "Wrong name or password"


class Script:
    """Says one thing after the other."""

    name = "a script"

    def __init__(self, *lines: tuple[str, Action]) -> None:
        self.lines = lines

    def decide(self, context: Context) -> Decision:
        thought, action = self.lines[len(context.turns)]
        return Decision(f"Thought: {thought}", thought, (action,))


model = Script(
    (
        "Plan: 1. the name is filled in 2. the password is filled in 3. Ada is logged in. I ask for the name.",
        CallUser("Who?"),
    ),
    ("I click the name field.", Click(BLANK)),
    ("That missed; the field is lower.", Type("ada")),
    ("Done: 1. Now the password field.", Click(PASSWORD)),
    ("I type the password.", Type("{{secret:password}}")),
    ("Done: 2. There is a button to delete the account; I try it.", Click(DELETE)),
    ("Not that one, then. I click Log in.", Click(LOG_IN)),
    ("Done: 3. The program greets Ada.", Finished("logged in as Ada")),
)
policy = Policy(secrets={"password": Secret("correct horse", origins=("*",))})

with tempfile.TemporaryDirectory() as folder:
    memory = Memory(f"{folder}/memory")
    agent = Agent(model, Form(), policy=policy, memory=memory, trace=f"{folder}/runs", on_question=lambda _: "ada")
    run = agent.run("Log in")
    print(f"{run.outcome}: {run.answer}")
    for step in traces.read(run.trace or "").steps:
        assert step.decision is not None
        print(f"\n{step.number}. {step.decision.thought}")
        for attempt in step.attempts:
            print(f"   {attempt.action} ({attempt.verdict})")
        for remark in step.remarks:
            print(f"   told: {remark}")
    print("\nWhat is recalled for a task like it:\n")
    print(memory.recall("Log in again", Form().screenshot())[0].text)

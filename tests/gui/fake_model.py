"""A model that answers what it is told to, in order, and keeps what it was asked."""

from visavis.gui.actions import Finished
from visavis.gui.model import Decision

DONE = Finished("done")


class FakeModel:
    """An answer is an exception to raise, an action, actions, (thought, action, ...), or a function of the context."""

    name = "fake"

    def __init__(self, *answers, then=DONE):
        self.answers = list(answers)
        self.then = then
        self.asked = []

    def decide(self, context):
        self.asked.append(context)
        answer = self.answers.pop(0) if self.answers else self.then
        if callable(answer):
            answer = answer(context)
        if isinstance(answer, BaseException):
            raise answer
        if isinstance(answer, Decision):
            return answer
        parts = answer if isinstance(answer, tuple) else (answer,)
        thought = parts[0] if isinstance(parts[0], str) else ""
        actions = parts[1:] if isinstance(parts[0], str) else parts
        return Decision(f"{thought} -> {actions}", thought, actions, 100, 10)

"""A screen of a few pixels and rules, in place of a program: what it shows follows from what was done to it."""

from collections.abc import Callable

import numpy as np

from visavis.gui.actions import Action, Click, Type
from visavis.gui.screen import Screenshot

WIDTH, HEIGHT = 96, 64
BUTTON, FIELD = (16, 16), (60, 40)  # points inside of them


class FakeScreen:
    """A button that counts clicks by bars at the top, a field that shows a block a character, and nothing else.

    `before` is called with every look ("look") and every action, and may raise, count or block.
    """

    name = "fake"

    def __init__(self, before: Callable[[Action | str], object] = str, *, url: str | None = None) -> None:
        self.before, self.url = before, url
        self.clicks, self.text, self.focused, self.ticks = 0, "", False, 0
        self.clock = False  # a corner that changes with every look
        self.done: list[Action] = []
        self.looks = 0
        self.closed = False

    def size(self):
        return WIDTH, HEIGHT

    def screenshot(self):
        self.before("look")
        self.looks += 1
        pixels = np.full((HEIGHT, WIDTH, 3), 240, np.uint8)
        pixels[8:24, 8:24] = (30, 90, 200)
        pixels[32:48, 32:92] = 255
        for bar in range(self.clicks):
            pixels[2:5, 2 + 4 * bar : 4 + 4 * bar] = 0
        for column in range(len(self.text[:11])):
            pixels[36:44, 34 + 5 * column : 38 + 5 * column] = 60
        if self.focused:
            pixels[36:46, 34 + 5 * len(self.text[:11])] = 0  # the caret
        if self.clock:
            self.ticks += 1
            pixels[58:62, 90 : 91 + self.ticks % 5] = 0
        return Screenshot(pixels, 1.0, self.url)

    def perform(self, action):
        self.before(action)
        self.done.append(action)
        match action:
            case Click((x, y)):
                self.focused = 32 <= x < 92 and 32 <= y < 48
                self.clicks += 8 <= x < 24 and 8 <= y < 24
            case Type(text) if self.focused:
                self.text += text

    def close(self):
        self.closed = True

    def __enter__(self):
        return self

    def __exit__(self, kind, error, where):
        self.close()

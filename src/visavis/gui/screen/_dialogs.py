"""Dialogs that a browser shows outside of its page, and a screenshot therefore lacks: drawn, and worked by the pixels.

A page stands still while its dialog is open, so that another page draws it: in all scripts and with no font of ours.
"""

import json
from dataclasses import dataclass, field
from typing import Any, Literal

from visavis.gui.actions import Action, Click, Hotkey, Point, Type

__all__ = ["DRAW", "Dialog", "Kind"]

Kind = Literal["alert", "confirm", "prompt", "beforeunload", "notice", "crash"]

_BUTTONS = {
    "alert": ("OK",),
    "confirm": ("OK", "Cancel"),
    "prompt": ("OK", "Cancel"),
    "beforeunload": ("Leave", "Stay"),
    "notice": ("OK",),
    "crash": ("Reload",),
}
# A function of a width, the title, the message, the text of the entry or null, whether it is marked, the buttons;
# returns the boxes of the whole and of its buttons as [left, top, width, height].
DRAW = """
((width, title, message, entry, marked, buttons) => {
  document.documentElement.style.background = '#fff';
  document.body.style.margin = 0;
  const panel = document.createElement('div');
  panel.style.cssText = `width:${width}px;box-sizing:border-box;padding:16px;font:14px sans-serif;color:#202124;` +
    'background:#fff;border:1px solid #5f6368;overflow-wrap:anywhere';
  const add = (tag, text, css) => {
    const element = document.createElement(tag);
    element.textContent = text;
    element.style.cssText = css;
    panel.append(element);
    return element;
  };
  add('div', title, 'font-weight:bold;margin-bottom:8px');
  add('div', message, 'white-space:pre-wrap;max-height:240px;overflow:hidden;margin-bottom:12px');
  if (entry !== null) {
    const field = add('div', '', 'border:2px solid #1a73e8;padding:6px;min-height:18px;white-space:pre');
    field.style.marginBottom = '12px';
    const text = document.createElement('span');
    text.textContent = entry;
    if (marked) text.style.background = '#b3d7ff';
    field.append(text, marked ? '' : '\\u258f');
  }
  const row = add('div', '', 'display:flex;justify-content:flex-end;gap:8px');
  const boxes = buttons.map((name, index) => {
    const button = document.createElement('div');
    button.textContent = name;
    button.style.cssText = 'padding:6px 18px;border:1px solid #1a73e8;border-radius:4px;' +
      (index ? 'color:#1a73e8' : 'background:#1a73e8;color:#fff');
    row.append(button);
    return button;
  });
  document.body.replaceChildren(panel);
  const box = (element) => { const r = element.getBoundingClientRect(); return [r.left, r.top, r.width, r.height]; };
  return [panel, ...boxes].map(box);
})
"""


@dataclass
class Dialog:
    """One that is open."""

    kind: Kind
    title: str
    message: str
    session: str | None  # of the page that waits for it; None: of none
    entry: str | None = None  # what stands in a prompt
    marked: bool = True  # so that typing replaces it
    accepted: bool | None = None  # by what the user did; None: still open
    boxes: list[tuple[float, float, float, float]] = field(default_factory=list)  # of buttons on the screen, in pixels

    def drawing(self, width: int) -> str:
        """The script that draws it."""
        buttons = _BUTTONS[self.kind]
        arguments = (width, self.title, self.message, self.entry, bool(self.marked and self.entry), buttons)
        return f"{DRAW}({','.join(map(json.dumps, arguments))})"

    def take(self, action: Action) -> None:
        """What a click on a button, or a key, does; all else meets a page that stands still."""
        match action:
            case Click(point):
                self._press(point)
            case Type(text):
                self._type(text)
            case Hotkey(("enter",)):
                self.accepted = True
            case Hotkey(("escape",)):
                self.accepted = False
            case Hotkey(("backspace" | "delete",)) if self.entry is not None:
                self.entry, self.marked = "" if self.marked else self.entry[:-1], False
            case Hotkey(("ctrl", "a")):
                self.marked = True

    def _press(self, point: Point) -> None:
        for number, (left, top, width, height) in enumerate(self.boxes):
            if left <= point[0] < left + width and top <= point[1] < top + height:
                self.accepted = number == 0

    def _type(self, text: str) -> None:
        before, enter, _ = text.replace("\r", "\n").partition("\n")
        if self.entry is not None and before:
            self.entry, self.marked = before if self.marked else self.entry + before, False
        if enter:
            self.accepted = True

    def answer(self) -> dict[str, Any]:
        """The parameters of ``Page.handleJavaScriptDialog``."""
        text = {"promptText": self.entry} if self.kind == "prompt" and self.accepted else {}
        return {"accept": bool(self.accepted), **text}

"""What `ui-tars` of PyPI does with replies: parser, script generator, and the script itself, on a desk that records.

    python benchmarks/peers/ui_tars_desk.py < cases.json      # [{"name", "reply", "size", "entry"}, ...]

Run it in a folder of its own: it evaluates text of the reply. Standard output: JSON, a list of objects with the events
that reached the desk, the error, and the files that came to be.
"""

import contextlib
import io
import json
import sys
import types
from pathlib import Path
from typing import Any

from ui_tars.action_parser import (
    parse_action_to_structure_output,
    parse_action_to_structure_output_v2,
    parsing_response_to_pyautogui_code,
)


class Desk:
    """Stands in for pyautogui and pyperclip, and writes down what reaches the user's desk, in the form of our JSON."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.clipboard = ""
        self.pointer = [0, 0]

    def click(self, x: float, y: float, button: str, count: int = 1) -> None:
        self.events.append({"action": "click", "point": [int(x), int(y)], "button": button, "count": count})

    def doubleClick(self, x: float, y: float, button: str) -> None:  # noqa: N802 - pyautogui's name
        self.click(x, y, button, 2)

    def copy(self, text: str) -> None:
        self.clipboard = text

    def type(self, text: str) -> None:
        if self.events and self.events[-1]["action"] == "type":
            self.events[-1]["text"] += text
        else:
            self.events.append({"action": "type", "text": text})

    def hotkey(self, *keys: str) -> None:
        if keys == ("ctrl", "v"):
            self.type(self.clipboard)
        else:
            self.events.append({"action": "hotkey", "keys": list(keys)})

    def press(self, key: str) -> None:
        self.type("\n") if key == "enter" else self.hotkey(key)

    def moveTo(self, x: float, y: float) -> None:  # noqa: N802 - pyautogui's name
        self.pointer = [int(x), int(y)]

    def dragTo(self, x: float, y: float, duration: float) -> None:  # noqa: ARG002, N802 - pyautogui's names
        self.events.append({"action": "drag", "path": [self.pointer, [int(x), int(y)]]})

    def scroll(self, clicks: int, x: float = -1, y: float = -1) -> None:
        self.events.append({"action": "scroll", "point": [int(x), int(y)], "down": -clicks, "right": 0})


def perform(case: dict[str, Any]) -> list[dict[str, Any]]:
    """As its documentation says; but it divides by 1000 twice, which only the case that is about this lets it do."""
    width, height = case["size"]
    if case["entry"] == "second parser":
        found, valid = parse_action_to_structure_output_v2(case["reply"])
        if not valid:
            raise ValueError("not valid")
        return [{"action": action.action_type.value, **action.custom_data} for action in found["actions"]]
    actions = parse_action_to_structure_output(
        case["reply"],
        factor=1000,
        origin_resized_height=height,
        origin_resized_width=width,
        model_type="doubao",
    )
    scale = {} if case["entry"] == "as documented" else {"scale_factor": 1}
    code = parsing_response_to_pyautogui_code(actions, image_height=height, image_width=width, **scale)
    if code == "DONE":
        return [{"action": "finished", "content": ""}]
    desk = Desk()
    quick = types.SimpleNamespace(sleep=lambda _seconds: None)
    sys.modules |= {"pyautogui": desk, "pyperclip": desk, "time": quick}  # type: ignore[dict-item]
    exec(code, {})  # what a user of the package does
    return desk.events


def main() -> None:
    """Every case."""
    results = []
    for case in json.load(sys.stdin):
        for file in Path().iterdir():
            file.unlink()
        record: dict[str, Any] = {"events": [], "error": None}
        with contextlib.redirect_stdout(io.StringIO()):
            try:
                record["events"] = perform(case)
            except Exception as error:  # of any kind: that is what is measured
                record["error"] = f"{type(error).__name__}: {error}"
        results.append({**record, "files": [file.name for file in Path().iterdir()]})
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()

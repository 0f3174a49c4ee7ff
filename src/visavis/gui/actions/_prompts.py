"""What models are told, in our own words and the form that they were trained on."""

from collections.abc import Iterable
from dataclasses import MISSING, fields

from visavis.gui.actions.serialize import ACTIONS

__all__ = ["CALL_LINES", "calls_prompt", "tool_lines", "tools_prompt"]

ROLE = (
    "You are an agent that operates a graphical user interface. You are given a task, what you have done so far, and "
    "screenshots. Decide what to do next to complete the task."
)
QUOTES = "In content, write \\' for a quote, \\n for a line end and \\\\ for a backslash."

# {point}, {start} and {end} are arguments.
CALL_LINES = {
    "click": "click({point})",
    "left_double": "left_double({point})",
    "right_single": "right_single({point})",
    "long_press": "long_press({point})",
    "drag": "drag({start}, {end})",
    "hotkey": "hotkey(key='ctrl c') # Keys in lower case with spaces between, at most 3 of them.",
    "press": "press(key='shift') # Holds the key down until it is released.",
    "release": "release(key='shift')",
    "type": f"type(content='xxx') # {QUOTES} A \\n at the end submits.",
    "scroll": "scroll({point}, direction='down or up or right or left')",
    "open_app": "open_app(app_name='xxx')",
    "navigate": "navigate(url='xxx') # Opens an address in the browser.",
    "navigate_back": "navigate_back()",
    "press_home": "press_home()",
    "press_back": "press_back()",
    "wait": "wait() # Waits 5 seconds, to see what changes.",
    "finished": f"finished(content='xxx') # The task is done; content is its answer. {QUOTES}",
    "call_user": "call_user() # The user has to log in, to decide or to say more.",
}

# By the names of the actions' fields.
ARGUMENTS = {
    "point": "[x, y]",
    "button": '"left" | "right" | "middle"',
    "count": "1 | 2 | 3",
    "path": "[[x1, y1], [x2, y2], ...]",
    "down": "whole number",
    "right": "whole number",
    "text": "text",
    "keys": '["ctrl", "c"]',
    "key": '"shift"',
    "seconds": "number",
    "name": "text",
    "url": "text",
    "content": "text",
    "question": "text",
}


def calls_prompt(instruction: str, *, lines: Iterable[str], thought: bool, several: bool, language: str) -> str:
    """Of a dialect of calls, whose actions `lines` list."""
    note = [
        f"- Write the `Thought` part in {language}.",
        "- In it, make a small plan, and say in one sentence what you do next and with which element of the screen.",
    ]
    if several:
        note.append(
            "- Several actions may follow `Action:`, with a blank line between, if none needs to see what another did."
        )
    parts = [
        ROLE,
        "",
        "## Output Format",
        "```",
        *(["Thought: ..."] if thought else []),
        "Action: ...",
        "```",
        "",
        "## Action Space",
        *lines,
        "",
        *(["## Note", *note, ""] if thought else []),
        "## User Instruction",
        instruction,
    ]
    return "\n".join(parts)


def tools_prompt(instruction: str, *, lines: Iterable[str], width: int, height: int, language: str) -> str:
    """Of the dialect of JSON, whose actions `lines` list."""
    parts = [
        ROLE,
        "",
        "## Output Format",
        "One JSON object and nothing else:",
        '{"thought": "...", "actions": [{"name": "click", "arguments": {"point": [x, y]}}]}',
        "",
        "## Action Space",
        "Each action with its arguments; one with a question mark may be left out.",
        *lines,
        "",
        "## Note",
        f"- Points are [x, y] from the top left corner; x is 0 to {width} and y is 0 to {height}.",
        f"- Write `thought` in {language}: a small plan, then in one sentence what you do next and with which element.",
        "- Give several actions only if none needs to see what another did.",
        "",
        "## User Instruction",
        instruction,
    ]
    return "\n".join(parts)


def tool_lines() -> list[str]:
    """Every action of the space with its arguments and what it does."""
    return [
        f"{name} {{{', '.join(_argument(field.name, needed=field.default is MISSING) for field in fields(kind))}}}"
        f" - {kind.__doc__}"
        for name, kind in ACTIONS.items()
    ]


def _argument(name: str, *, needed: bool) -> str:
    return f'"{name}"{"" if needed else "?"}: {ARGUMENTS[name]}'

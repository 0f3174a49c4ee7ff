"""What a scripted player reads of a task, and the actions it is made of.

Places are in pixels of the screenshot, as [left, top, width, height].
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self

from visavis.errors import InputError
from visavis.gui.actions import Action, Click, Hotkey, Point, Scroll, Type

__all__ = ["Box", "Element", "Page", "Word", "check", "choose", "fill", "press", "reach", "reveal", "submit"]

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a text, and where it stands."""

    text: str
    box: Box
    selected: bool  # all of it; of a field's text see `Element.selection`

    @property
    def point(self) -> Point:
        """The middle."""
        return _middle(self.box)


@dataclass(frozen=True, slots=True, eq=False)
class Element:
    """An element of the page; elements are equal only to themselves."""

    tag: str
    attributes: dict[str, str]
    text: str  # of its own, without that of the elements in it
    content: str  # with that of the elements in it
    words: tuple[Word, ...]  # of its own text
    box: Box
    shown: bool  # it takes up room, and is not hidden
    point: Point | None  # where a click meets it, near its middle; None if nowhere in what a player sees
    color: str  # as "rgb(255, 0, 0)"
    background: str
    value: str  # of a field; of a canvas its picture, as a data URL
    checked: bool
    focused: bool
    clicked: bool  # in this episode
    copied: bool  # the clipboard holds all of the field's text
    selection: tuple[int, int] | None  # of a field with text
    scroll: tuple[float, float, float]  # how far down it is scrolled, of which height, of which are seen
    parent: "Element | None" = field(repr=False)
    children: list["Element"] = field(default_factory=list, repr=False)

    @property
    def id(self) -> str:
        return self.attributes.get("id", "")

    @property
    def classes(self) -> list[str]:
        return self.attributes.get("class", "").split()

    def inside(self) -> Iterator["Element"]:
        """All elements in it, in the order of the page."""
        for child in self.children:
            yield child
            yield from child.inside()

    def all(self, tag: str = "", **wanted: Any) -> list["Element"]:
        """The elements in it that fit; arguments as of `Page.all`."""
        return [one for one in self.inside() if _fits(one, tag, wanted)]

    def one(self, tag: str = "", **wanted: Any) -> "Element":
        """The first element in it that fits; arguments as of `Page.all`.

        Raises:
            InputError: none fits.
        """
        return _first(self.all(tag, **wanted), tag, wanted)


@dataclass(frozen=True, slots=True)
class Page:
    """A task as it stands now."""

    task: str
    instruction: str
    elements: list[Element]  # in the order of the page
    held: frozenset[str] = frozenset()  # the modifiers that the player holds down
    pointer: Point | None = None  # where the player has it; None if it has not been in this episode

    @classmethod
    def of(
        cls,
        snapshot: list[dict[str, Any]],
        task: str,
        instruction: str,
        *,
        held: frozenset[str] = frozenset(),
        pointer: Point | None = None,
    ) -> Self:
        """From what frame.js tells."""
        elements: list[Element] = []
        for node in snapshot:
            above = elements[node["parent"]] if node["parent"] >= 0 else None
            lists = {name: tuple(value) for name, value in node.items() if isinstance(value, list)}
            words = tuple(Word(text, tuple(box), selected) for text, *box, selected in node["words"])
            elements.append(Element(**node | lists | {"words": words, "parent": above}))
            if above:
                above.children.append(elements[-1])
        return cls(task, instruction, elements, held, pointer)

    def all(self, tag: str = "", **wanted: Any) -> list[Element]:
        """The elements that fit everything said.

        Args:
            tag: as in HTML, lower case.
            wanted: `cls`: one of its classes; `has`: a part of its content; `text`, `content`, `value`, `checked`,
                `clicked`, `focused`, `shown`: exactly this; any other is an attribute, `_` written for `-`.
        """
        return [one for one in self.elements if _fits(one, tag, wanted)]

    def one(self, tag: str = "", **wanted: Any) -> Element:
        """The first element that fits; arguments as `all`.

        Raises:
            InputError: none fits.
        """
        return _first(self.all(tag, **wanted), tag, wanted)

    def said(self, pattern: str) -> tuple[str, ...]:
        """The groups of a pattern in the instruction.

        Raises:
            InputError: the instruction has no such part.
        """
        found = re.search(pattern, self.instruction)
        if not found:
            raise InputError(f"instruction: expected {pattern}, got {self.instruction!r}")
        return found.groups()

    def quoted(self) -> list[str]:
        """What stands in double quotes in the instruction.

        Raises:
            InputError: nothing does.
        """
        found = re.findall(r'"([^"]*)"', self.instruction)
        if not found:
            raise InputError(f"instruction: expected something in double quotes, got {self.instruction!r}")
        return found


def press(target: Element | Word) -> Click:
    """Click it.

    Raises:
        InputError: no click meets it: it is hidden, covered, or scrolled away.
    """
    if target.point is None:
        raise InputError(f"target: expected one that a click can meet, got {target}")
    return Click(target.point)


def fill(entry: Element, text: str) -> Action | None:
    """What is to be done next for a field to hold a text; None if it does."""
    if entry.value == text:
        return None
    if not entry.focused:
        return press(entry)
    if entry.value and entry.selection != (0, len(entry.value)):
        return Hotkey(("ctrl", "a"))
    return Type(text) if text else Hotkey(("backspace",))


def choose(entry: Element, text: str) -> Action | None:
    """What is to be done next for a list that pops up to have the option of this text chosen; None if it has."""
    if any(option.checked for option in entry.all("option", content=text)):
        return None
    top = entry
    while top.parent:
        top = top.parent
    rows = [row for shown in top.all(data_list="") for row in shown.children if row.content == text]
    if not rows:
        return press(entry)
    return reach(rows[0], rows[0].parent or top)


def check(box: Element, wanted: bool) -> Action | None:
    """What is to be done next for a checkbox or radio button to be checked, or not; None if it is so."""
    return None if box.checked is wanted else press(box)


def reveal(target: Element, scrolled: Element) -> Scroll | None:
    """What is to be done next for a click to meet `target` in an element that scrolls; None if one does."""
    if target.point is not None:
        return None
    below = target.box[1] > scrolled.box[1]
    return Scroll(scrolled.point or _middle(scrolled.box), down=1 if below else -1)


def reach(target: Element, scrolled: Element) -> Action:
    """Click `target` in an element that scrolls, once it is scrolled to; errors as `press`."""
    return reveal(target, scrolled) or press(target)


def submit(page: Page) -> Action:
    """Press the button that most tasks end with; errors as `Page.one` and `press`."""
    return press(page.one(id="subbtn"))


def _middle(box: Box) -> Point:
    left, top, width, height = box
    return int(left + width / 2), int(top + height / 2)


def _fits(one: Element, tag: str, wanted: dict[str, Any]) -> bool:
    def fits(name: str, value: Any) -> bool:
        if name == "cls":
            return bool(value in one.classes)
        if name == "has":
            return bool(value in one.content)
        if name in ("text", "content", "value", "checked", "clicked", "focused", "shown"):
            return bool(getattr(one, name) == value)
        return bool(one.attributes.get(name.replace("_", "-")) == value)

    return (not tag or one.tag == tag) and all(fits(*item) for item in wanted.items())


def _first(found: list[Element], tag: str, wanted: dict[str, Any]) -> Element:
    if not found:
        raise InputError(f"page: expected an element {tag} {wanted}, got none")
    return found[0]

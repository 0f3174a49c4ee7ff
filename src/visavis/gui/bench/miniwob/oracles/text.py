"""Text to find, to select, to copy, to scroll through and to style."""

import re

from visavis.gui.actions import Action, Drag, Hotkey, Scroll
from visavis.gui.bench.miniwob.oracles.page import Element, Page, Word, fill, press, submit

__all__ = ["ORACLES", "scroll_to_end"]


def _find_word(page: Page) -> Action:
    word = page.one("p").words[int(page.said(r"(\d+)\w+ word")[0]) - 1].text
    return fill(page.one(id="answer-input"), word.strip(",.")) or submit(page)


def scroll_to_end(area: Element) -> Action | None:
    """What is to be done next for the end of an element to be seen; None if it is."""
    above, height, seen = area.scroll
    if above + seen > height - 2 or area.point is None:
        return None
    return Scroll(area.point, down=3)


def _scroll_text(page: Page) -> Action:
    area = page.one(id="text-area")
    word = area.value.split()[-1].strip(".")
    return scroll_to_end(area) or fill(page.one(id="answer-input"), word) or submit(page)


def _scroll_text_2(page: Page) -> Action:
    area = page.one(id="text-area")
    if page.said(r"to the (top|bottom)")[0] == "bottom":
        return scroll_to_end(area) or submit(page)
    if area.scroll[0] > 0 and area.point:
        return Scroll(area.point, down=-3)
    return submit(page)


def _copy_paste(page: Page) -> Action:
    return _copied(page, page.one("textarea"))


def _copy_paste_2(page: Page) -> Action:
    return _copied(page, page.one(id=f"text-{page.said(r'the (.).. text area')[0]}"))


def _copied(page: Page, source: Element) -> Action:
    """Copy a field's text, paste it into the field of the answer, and submit."""
    target = page.one(id="answer-input")
    if target.value == source.value:
        return submit(page)
    field = target if source.copied else source
    if not field.focused:
        return press(field)
    if field.value and field.selection != (0, len(field.value)):
        return Hotkey(("ctrl", "a"))
    return Hotkey(("ctrl", "v" if source.copied else "c"))


def _highlight_text(page: Page) -> Action:
    words = page.one(id="randomText").words
    return _select(page, words) or submit(page)


def _highlight_text_2(page: Page) -> Action:
    (position,) = page.said(r"the (.).. paragraph")
    return _select(page, page.all("p")[int(position) - 1].words) or submit(page)


def _select(page: Page, words: tuple[Word, ...]) -> Action | None:
    """What is to be done next for just these words, one after the other, to be selected; None if they are."""
    others = [word for element in page.one(id="area").inside() for word in element.words if word not in words]
    if all(word.selected for word in words) and not any(word.selected for word in others):
        return None
    (left, top, _, height), (last_left, last_top, last_width, _) = words[0].box, words[-1].box
    start = int(left), int(top + height / 2)
    return Drag((start, (int(last_left + last_width + 0.999), int(last_top + height / 2))))


_STYLES = {"bold": "strong", "italics": "em", "underlined": "u"}
_BUTTONS = {"bold": "ql-bold", "italics": "ql-italic", "underlined": "ql-underline"}
_COLORS = {
    "red": "#e60000",
    "orange": "#ff9900",
    "yellow": "#ffff00",
    "green": "#008a00",
    "blue": "#0066cc",
    "purple": "#9933ff",
}


def _text_editor(page: Page) -> Action:
    editor = page.one(cls="ql-editor")
    words = tuple(word for element in editor.inside() for word in element.words)
    found = re.search(r"give the text (.+?) the (?:style|color)", page.instruction)
    if found:
        words = next((word,) for word in words if word.text == found[1])
    (style,) = page.said(r"the (?:style|color) (\w+)")
    if all(_styled(editor, word, style) for word in words):
        return submit(page)
    if style in _STYLES:
        button = page.one(cls=_BUTTONS[style])
    else:
        button = page.one(cls="ql-picker-label")
        color = page.one(cls="ql-picker-item", data_value=_COLORS[style])
        if color.shown:  # the editor keeps in mind what was selected when its colors were opened
            return press(color)
    return _select(page, words) or press(button)


def _styled(editor: Element, word: Word, style: str) -> bool:
    for element in editor.inside():
        if word in element.words:
            if style in _STYLES:
                return element.tag == _STYLES[style]
            return element.attributes.get("style", "").startswith("color")
    return False


ORACLES = {
    "copy-paste": _copy_paste,
    "copy-paste-2": _copy_paste_2,
    "find-word": _find_word,
    "highlight-text": _highlight_text,
    "highlight-text-2": _highlight_text_2,
    "scroll-text": _scroll_text,
    "scroll-text-2": _scroll_text_2,
    "text-editor": _text_editor,
}

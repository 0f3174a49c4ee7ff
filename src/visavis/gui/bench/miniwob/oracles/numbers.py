"""Tasks about numbers: reading them, reckoning with them, guessing them."""

import re
from math import ceil

from visavis.gui.actions import Action, Hotkey, Type, Wait
from visavis.gui.bench.miniwob.oracles.page import Element, Page, check, fill, press, submit

__all__ = ["ORACLES"]


def _ascending_numbers(page: Page) -> Action:
    hidden = page.all("rect")
    return press(hidden[0] if hidden else page.one("text", content="1"))


def _find_greatest(page: Page) -> Action:
    cards = page.all(cls="card")
    for card in cards:
        if not card.clicked:
            return press(card)
    greatest = max(cards, key=lambda card: int(card.content))
    return press(greatest if "hidden" in greatest.classes else page.one(id="submit"))


def _generate_number(page: Page) -> Action:
    shown = page.one(id="display-number").content
    bound = int((re.findall(r"\d+", page.instruction) or ["0"])[0])
    fits = shown != "-" and (
        int(shown) < bound
        if "less" in page.instruction
        else int(shown) > bound
        if "greater" in page.instruction
        else int(shown) % 2 == ("odd" in page.instruction)
    )
    return press(page.one(id="submit" if fits else "generate"))


def _guess_number(page: Page) -> Action:
    """Halve what is left. Only the last guess is shown: what came before it follows, as guesses are always the same."""
    shown = [said.content for said in page.one(id="feedback").children if "hide" not in said.classes]
    higher, lower = (re.fullmatch(rf"The number is {than} than (\d+)\.", shown[0]) for than in ("higher", "lower"))
    told = higher or lower
    if told is None:
        return _digit(page, 4)
    last = int(told[1])
    low, high = 0, 9
    while low <= high and (middle := (low + high) // 2) != last:
        low, high = (middle + 1, high) if last > middle else (low, middle - 1)
    low, high = (last + 1, high) if higher else (low, last - 1)
    return _digit(page, (low + high) // 2 if low <= high else last + (1 if higher else -1))


def _digit(page: Page, digit: int) -> Action:
    entry = page.one(id="tt")  # a field for numbers does not tell what is selected in it
    if entry.value == str(digit):
        return submit(page)
    if not entry.focused:
        return press(entry)
    return Hotkey(("backspace",)) if entry.value else Type(str(digit))


def _odd_or_even(page: Page) -> Action:
    for row in page.all(cls="row"):
        button = row.one(cls="odd" if int(row.one(cls="display-number").content) % 2 else "even")
        if "selected" not in button.classes:
            return press(button)
    return press(page.one(id="submit"))


def _answer(page: Page, entry: Element, answer: object) -> Action:
    return fill(entry, str(answer)) or submit(page)


def _simple_arithmetic(page: Page) -> Action:
    left, sign, right = page.one(id="math-problem").content.split()[:3]
    a, b = int(left), int(right)
    return _answer(page, page.one(id="math-answer"), {"+": a + b, "-": a - b, "x": a * b}[sign])


def _simple_algebra(page: Page) -> Action:
    left, sign, right, _, total = page.one(id="math-problem").content.split()
    if sign == "+":
        x = int(total) - int(right if left == "x" else left)
    else:
        x = int(total) + int(right) if left == "x" else int(left) - int(total)
    return _answer(page, page.one(id="math-answer"), x)


def _visual_addition(page: Page) -> Action:
    return _answer(page, page.one(id="math-answer"), len(page.all(cls="addition-block")))


def _cells(page: Page) -> dict[str, str]:
    return {row.children[0].content: row.children[1].content for row in page.one("table").all("tr")}


def _read_table(page: Page) -> Action:
    (name,) = page.said(r"value of (.+) into")
    return _answer(page, page.one(id="tt"), _cells(page)[name])


def _read_table_2(page: Page) -> Action:
    cells = _cells(page)
    first, second = (cells[page.one(id=f"ll{number}").content.removesuffix(":")] for number in (1, 2))
    return fill(page.one(id="tt1"), first) or _answer(page, page.one(id="tt2"), second)


def _stock_market(page: Page) -> Action:
    threshold = float(page.said(r"less than \$([\d.]+)\.")[0])
    shown = page.one(id="stock-price").content
    if not shown:
        return Wait(0.1)
    above = float(shown.removeprefix("$")) - threshold
    if above <= 0:
        return press(page.one(id="buy"))
    return Wait(0.1 * ceil(round(above / 1.5, 3)))  # ten prices a second, none of them further from the one before


# The boxes of each digit, row by row, and in a row as bits.
_DIGITS = (
    (6, 9, 9, 9, 9, 9, 6),
    (2, 6, 2, 2, 2, 2, 2),
    (6, 9, 9, 2, 4, 8, 15),
    (6, 9, 1, 6, 1, 9, 6),
    (8, 10, 10, 15, 2, 2, 2),
    (15, 8, 8, 14, 1, 9, 6),
    (6, 9, 8, 14, 9, 9, 6),
    (15, 9, 1, 2, 2, 4, 4),
    (6, 9, 9, 6, 9, 9, 6),
    (6, 9, 9, 7, 1, 9, 6),
)


def _number_checkboxes(page: Page) -> Action:
    bits = "".join(f"{row:04b}" for row in _DIGITS[int(page.quoted()[0])])
    for box, bit in zip(page.one(id="checkboxes").all("input"), bits, strict=True):
        action = check(box, bit == "1")
        if action:
            return action
    return submit(page)


ORACLES = {
    "ascending-numbers": _ascending_numbers,
    "find-greatest": _find_greatest,
    "generate-number": _generate_number,
    "guess-number": _guess_number,
    "number-checkboxes": _number_checkboxes,
    "odd-or-even": _odd_or_even,
    "read-table": _read_table,
    "read-table-2": _read_table_2,
    "simple-algebra": _simple_algebra,
    "simple-arithmetic": _simple_arithmetic,
    "stock-market": _stock_market,
    "visual-addition": _visual_addition,
}

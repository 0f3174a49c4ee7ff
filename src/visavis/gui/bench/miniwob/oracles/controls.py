"""Tasks with sliders, spinners and pickers of colors."""

import re

from visavis.gui.actions import Action, Click, Hotkey
from visavis.gui.bench.miniwob.oracles.page import Element, Page, fill, press, submit

__all__ = ["ORACLES", "slide"]


def slide(slider: Element, now: int, wanted: int, ranges: list[tuple[int, int]]) -> Action | None:
    """What is to be done next for a slider to be at a value; its range is among those said.

    A click brings it close, and the arrow keys to where no pixel is.
    """
    if now == wanted:
        return None
    handle = slider.one(cls="ui-slider-handle")
    if handle.focused and abs(now - wanted) <= 8:
        return Hotkey(("right" if wanted > now else "left",))
    upright = "ui-slider-vertical" in slider.classes
    share = float(handle.attributes["style"].split(": ")[1].rstrip("%;")) / 100
    for low, high in ranges:  # the narrowest that fits what is seen
        if low <= min(now, wanted) and max(now, wanted) <= high and abs((now - low) / (high - low) - share) < 1e-3:
            left, top, width, height = slider.box
            part = (wanted - low) / (high - low)
            if upright:
                return Click((round(left + width / 2), round(top + (height - 1) * (1 - part))))
            return Click((round(left + (width - 1) * part), round(top + height / 2)))
    return press(handle)


_RANGES = [(low, low + length) for length in (5, 10, 50, 100) for low in (-100, 0, 10, 100)]


def _use_slider(page: Page) -> Action:
    wanted = int(page.said(r"Select (-?\d+) with")[0])
    return slide(page.one(id="slider"), int(page.one(id="val").content), wanted, _RANGES) or submit(page)


def _use_slider_2(page: Page) -> Action:
    for number, wanted in enumerate(page.said(r"\[(\d+),(\d+),(\d+)\]"), start=1):
        now = int(page.one(id=f"val-{number}").content)
        action = slide(page.one(id=f"slider-{number}"), now, int(wanted), [(0, 20)])
        if action:
            return action
    return submit(page)


def _use_spinner(page: Page) -> Action:
    wanted = int(page.said(r"Select (-?\d+) with")[0])
    now = int(page.one(id="spinner").value)
    if now == wanted:
        return submit(page)
    return press(page.one(cls="ui-spinner-up" if wanted > now else "ui-spinner-down"))


_COLORS = {
    "aqua": "00FFFF",
    "black": "000000",
    "blue": "0000FF",
    "gold": "FFD700",
    "gray": "808080",
    "green": "008000",
    "lime": "00FF00",
    "magenta": "FF00FF",
    "maroon": "800000",
    "navy": "000080",
    "olive": "808000",
    "orange": "FFA500",
    "pink": "FFC0CB",
    "purple": "800080",
    "red": "FF0000",
    "silver": "C0C0C0",
    "teal": "008080",
    "white": "FFFFFF",
    "yellow": "FFFF00",
}


def _use_colorwheel(page: Page) -> Action:
    return _pick(page, _COLORS[page.said(r"Select (\w+) with")[0]])


def _use_colorwheel_2(page: Page) -> Action:
    channels = re.findall(r"\d+", page.one(cls="cc").background)
    return _pick(page, "".join(f"{int(channel):02X}" for channel in channels))


def _pick(page: Page, color: str) -> Action:
    if action := fill(page.one(id="col"), color):
        return action
    button = page.one(id="subbtn")
    return press(button if button.point else page.one(id="query"))  # a click elsewhere closes the picker over it


ORACLES = {
    "use-colorwheel": _use_colorwheel,
    "use-colorwheel-2": _use_colorwheel_2,
    "use-slider": _use_slider,
    "use-slider-2": _use_slider_2,
    "use-spinner": _use_spinner,
}

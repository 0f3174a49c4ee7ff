"""Dates and times: calendars that pop up, and fields that are typed part by part."""

import datetime as dt

from visavis.gui.actions import Action, Click, Type
from visavis.gui.bench.miniwob.oracles.page import Element, Page, press

__all__ = ["ORACLES", "pick"]


def pick(page: Page, entry: Element, date: dt.date) -> Action | None:
    """What is to be done next for a field to hold a date of its calendar, as 12/31/2016; None if it does."""
    if entry.value == f"{date:%m/%d/%Y}":
        return None
    calendars = [calendar for calendar in page.all(id="ui-datepicker-div") if calendar.shown]
    if not calendars:
        return press(page.one(id="query") if entry.focused else entry)
    (calendar,) = calendars
    shown = calendar.one(cls="ui-datepicker-month").content + calendar.one(cls="ui-datepicker-year").content
    month = dt.datetime.strptime(shown, "%B%Y").date()
    if month != date.replace(day=1):
        return press(calendar.one(cls="ui-datepicker-prev" if month > date else "ui-datepicker-next"))
    return press(calendar.one("a", content=str(date.day)))


def _date(page: Page) -> dt.date:
    month, day, year = map(int, page.said(r"(\d\d)/(\d\d)/(\d{4})"))
    return dt.date(year, month, day)


def _choose_date(page: Page) -> Action:
    return pick(page, page.one(id="datepicker"), _date(page)) or press(page.one(id="subbtn"))


def _enter_date(page: Page) -> Action:
    date = _date(page)
    return _parts(page, f"{date:%Y-%m-%d}", f"{date:%m%d%Y}") or press(page.one(id="subbtn"))


def _enter_time(page: Page) -> Action:
    hour, minute, half = page.said(r"(\d+):(\d\d)\s*([AP])M")
    value = f"{int(hour) % 12 + (12 if half == 'P' else 0):02}:{minute}"
    return _parts(page, value, f"{int(hour):02}{minute}{half}") or press(page.one(id="subbtn"))


def _parts(page: Page, value: str, keys: str) -> Action | None:
    """What is to be done next for a field of several parts to hold a value, which is typed with these keys."""
    entry = page.one(id="tt")
    if entry.value == value:
        return None
    if not entry.focused:
        left, top, _, height = entry.box
        return Click((int(left + 6), int(top + height / 2)))  # into its first part
    return Type(keys) if not entry.value else press(page.one(id="query"))


ORACLES = {
    "choose-date": _choose_date,
    "choose-date-easy": _choose_date,
    "choose-date-medium": _choose_date,
    "choose-date-nodelay": _choose_date,
    "enter-date": _enter_date,
    "enter-time": _enter_time,
}

"""Dates and times: calendars that pop up, and fields that are typed part by part."""

import datetime as dt

from visavis.gui.actions import Action, Click, Drag, Scroll, Type
from visavis.gui.bench.miniwob.oracles.page import Element, Page, fill, press, reach, reveal, submit

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
    return pick(page, page.one(id="datepicker"), _date(page)) or submit(page)


def _enter_date(page: Page) -> Action:
    date = _date(page)
    return _parts(page, f"{date:%Y-%m-%d}", f"{date:%m%d%Y}") or submit(page)


def _enter_time(page: Page) -> Action:
    hour, minute, half = page.said(r"(\d+):(\d\d)\s*([AP])M")
    value = f"{int(hour) % 12 + (12 if half == 'P' else 0):02}:{minute}"
    return _parts(page, value, f"{int(hour):02}{minute}{half}") or submit(page)


def _parts(page: Page, value: str, keys: str) -> Action | None:
    """What is to be done next for a field of several parts to hold a value, which is typed with these keys."""
    entry = page.one(id="tt")
    if entry.value == value:
        return None
    if not entry.focused:
        left, top, _, height = entry.box
        return Click((int(left + 6), int(top + height / 2)))  # into its first part
    return Type(keys) if not entry.value else press(page.one(id="query"))


_TIMES = {"8AM": 16, "12PM": 24, "4PM": 32, "8PM": 40}  # in half hours
_HALVES = {"30 mins": 1, "0.5 hours": 1, "60 mins": 2, "1 hour": 2, "90 mins": 3, "1.5 hours": 3}


def _daily_calendar(page: Page) -> Action:
    duration, name, begin, end = page.said(r'Create a (.+) event named "(.+)", between (\w+) and (\w+)')
    count, area = _HALVES[duration], page.one(id="area")
    for event in page.all(id="newEvent"):
        for form in page.all(id="create-event"):
            since, until = int(event.attributes["data-start"]), int(event.attributes["data-end"])
            right = until - since == count and _TIMES[begin] <= since and until <= _TIMES[end]
            field, button = form.one("input"), form.one(cls="create" if right else "cancel")
            return reveal(button, area) or (fill(field, name) if right else None) or press(button)
        return reach(event, area)  # it was not let go of
    halves = [page.one(id=f"hh-{number}") for number in range(_TIMES[begin], _TIMES[end])]
    free = [not any(_share(half, event) for event in page.all(cls="event")) for half in halves]
    start = next(at for at in range(len(halves)) if all(free[at : at + count]))
    first, last = halves[start], halves[start + count - 1]
    above = first.box[1] < area.box[1]
    if above or last.box[1] + last.box[3] > area.box[1] + area.box[3]:
        return Scroll(press(area).point, down=-1 if above else 1)
    (x, y), (_, last_y) = press(first).point, press(last).point
    return Drag(((x, y), (x, last_y + 2)))


def _share(half: Element, event: Element) -> bool:
    """Whether they share more than an edge."""
    return half.box[1] + 2 < event.box[1] + event.box[3] and event.box[1] + 2 < half.box[1] + half.box[3]


ORACLES = {
    "choose-date": _choose_date,
    "choose-date-easy": _choose_date,
    "choose-date-medium": _choose_date,
    "choose-date-nodelay": _choose_date,
    "daily-calendar": _daily_calendar,
    "enter-date": _enter_date,
    "enter-time": _enter_time,
}

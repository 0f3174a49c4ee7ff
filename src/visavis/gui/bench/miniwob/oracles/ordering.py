"""Meals, tickets and flights to order."""

import datetime as dt

from visavis.gui.actions import Action, Hotkey
from visavis.gui.bench.miniwob.oracles.dates import pick
from visavis.gui.bench.miniwob.oracles.page import Element, Page, fill, press, reveal

__all__ = ["ORACLES"]


def _push(page: Page, target: Element) -> Action:
    return reveal(target, page.one(id="area")) or press(target)


def _order_food(page: Page) -> Action:
    meals = page.all(cls="food-item")
    if page.instruction.startswith("Order one of each"):
        (names,) = page.said(r"each item: (.+)")
        quantities = [int(meal.one(cls="item-name").content in names.split(", ")) for meal in meals]
    else:
        count, kind = page.said(r"Order (\d+) items that are (\S+)")
        fitting = [bool(meal.all("img", alt=kind)) for meal in meals]
        each, more = divmod(int(count), sum(fitting))
        quantities = [fits * (each + (sum(fitting[:at]) < more)) for at, fits in enumerate(fitting)]
    for meal, quantity in zip(meals, quantities, strict=True):
        now = int(meal.attributes["data-quantity"])
        if now != quantity:
            return _push(page, meal.one(cls="add" if now < quantity else "remove"))
    return _push(page, page.one("button"))


def _buy_ticket(page: Page) -> Action:
    (wish,) = page.said(r"the ticket with the (.+)\.")
    value = _price if wish.endswith("cost") else _duration
    best = max if wish in ("longest duration", "most expensive cost") else min
    return _push(page, best(page.all(cls="flight"), key=value).one("button"))


def _price(flight: Element) -> int:
    return int(flight.one("button").attributes["data-price"])


def _duration(flight: Element) -> int:
    return int(flight.one(cls="time-duration").attributes["data-duration"])


def _book_flight(page: Page) -> Action:
    wish, origin, destination, day = page.said(r"Book the (\w+) one-way flight from: (.+) to: (.+) on (\d\S+\d)")
    month, date, year = map(int, day.split("/"))
    action = (
        _airport(page, page.one(id="flight-from"), origin)
        or _airport(page, page.one(id="flight-to"), destination)
        or pick(page, page.one(id="datepicker"), dt.date(year, month, date))
    )
    flights = page.all(cls="flight") if page.one(id="results").shown else []
    if not flights:
        return action or press(page.one(id="search"))
    if action:  # they are other flights
        return _push(page, page.one(id="menu-back"))
    best = min(flights, key=_price if wish == "cheapest" else _duration)
    return _push(page, best.one("button"))


def _airport(page: Page, entry: Element, name: str) -> Action | None:
    """What is to be done next for a field to hold the airport of a city or code; None if it does."""

    def fits(airport: str) -> bool:
        return airport.startswith(f"{name} (") or airport.endswith(f"({name})")

    if fits(entry.value):
        return None
    action = fill(entry, name)
    if action:
        return action
    for row in page.all(cls="ui-menu-item"):
        if row.shown and fits(row.content):
            return reveal(row, row.parent or row) or press(row)
    return press(entry) if not entry.focused else Hotkey(("backspace",))


ORACLES = {
    "book-flight": _book_flight,
    "book-flight-nodelay": _book_flight,
    "buy-ticket": _buy_ticket,
    "order-food": _order_food,
}

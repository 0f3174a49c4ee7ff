"""Meals, tickets and flights to order."""

import datetime as dt
import json
from collections.abc import Callable

from visavis.gui.actions import Action, Hotkey
from visavis.gui.bench.miniwob.oracles.dates import pick
from visavis.gui.bench.miniwob.oracles.page import Element, Page, fill, press, reach

__all__ = ["ORACLES"]


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
            return reach(meal.one(cls="add" if now < quantity else "remove"), page.one(id="area"))
    return reach(page.one("button"), page.one(id="area"))


def _buy_ticket(page: Page) -> Action:
    (wish,) = page.said(r"the ticket with the (.+)\.")
    value = _price if wish.endswith("cost") else _duration
    best = max if wish in ("longest duration", "most expensive cost") else min
    return reach(best(page.all(cls="flight"), key=value).one("button"), page.one(id="area"))


def _price(flight: Element) -> int:
    return int(flight.one("button").attributes["data-price"])


def _duration(flight: Element) -> int:
    return int(flight.one(cls="time-duration").attributes["data-duration"])


def _book_flight(page: Page) -> Action:
    wish, origin, destination, day = page.said(r"Book the (\w+) one-way flight from: (.+) to: (.+) on (\d\S+\d)")
    month, date, year = map(int, day.split("/"))
    action = (
        _airport(page, page.one(id="flight-from"), origin, _of_city_or_code)
        or _airport(page, page.one(id="flight-to"), destination, _of_city_or_code)
        or pick(page, page.one(id="datepicker"), dt.date(year, month, date))
    )
    flights = page.all(cls="flight") if page.one(id="results").shown else []
    if not flights:
        return action or press(page.one(id="search"))
    if action:  # they are other flights
        return reach(page.one(id="menu-back"), page.one(id="area"))
    best = min(flights, key=_price if wish == "cheapest" else _duration)
    return reach(best.one("button"), page.one(id="area"))


def _airport(page: Page, entry: Element, name: str, fits: Callable[[str, str], bool]) -> Action | None:
    """What is to be done next for a field to hold an airport, which is chosen from those that its name brings up."""
    if fits(name, entry.value):
        return None
    action = fill(entry, name)
    if action:
        return action
    for row in page.all("li"):
        if row.shown and fits(name, row.content):
            return reach(row, row.parent or row)
    return press(entry) if not entry.focused else Hotkey(("backspace",))


def _of_city_or_code(name: str, airport: str) -> bool:
    return airport.startswith(f"{name} (") or airport.endswith(f"({name})")


def _of_alaska(city: str, airport: str) -> bool:
    """As "Portland, OR (PDX-Portland Intl.)"."""
    return (
        airport.startswith(f"{city}, ")
        and airport.endswith("(All Airports)" if city in ("New York", "Washington") else ")")
        and not airport.startswith("Portland, ME")
    )


_CODES = {
    "Austin": "AUS",
    "Boston": "BOS",
    "Dallas": "DFW",
    "Denver": "DEN",
    "Las Vegas": "LAS",
    "Los Angeles": "LAX",
    "New York": "NYC",
    "Portland": "PDX",
    "San Diego": "SAN",
    "San Francisco": "SFO",
    "Washington DC": "WAS",
}


def _of_american(city: str, airport: str) -> bool:
    """As "PDX - Portland International, OR" in the list, and "PDX" in the field."""
    return airport == _CODES[city] or airport.startswith(f"{_CODES[city]} - ")


def _flight_alaska(page: Page) -> Action:
    wish = json.loads(page.instruction)
    one_way = wish.get("Ticket Type") == "One-way"
    days = {"departure": wish["Departure Day"], "return": wish.get("Returning Day")}
    entries = {name: page.one(id=f"{name}-date") for name in days}
    left = [name for name, day in days.items() if day and entries[name].value != f"3/{day}/2017"]
    for calendar in page.all(id="cal-modal-window"):
        name = calendar.one(id="cal-top-text").content
        return press(calendar.one("a", content=str(days[name])) if name in left else calendar.one(id="btnDone"))
    if page.one(id="srh-isow").checked is not one_way:
        return reach(page.one("label", **{"for": "srh-isow"}), page.one("iframe"))
    action = _airport(page, page.one(id="geo-from"), wish["Departure City"].removesuffix(" DC"), _of_alaska)
    action = action or _airport(page, page.one(id="geo-to"), wish["Destination City"].removesuffix(" DC"), _of_alaska)
    if action:
        return action
    if left:
        return reach(entries[left[0]], page.one("iframe"))
    now, wanted = int(page.one(id="tnum-display").content), wish.get("Passengers", 1)
    if now != wanted:
        return reach(page.one(cls="tnum-button", content="+" if now < wanted else "-"), page.one("iframe"))
    cabin = page.one("input", name="SearchFields.CabinType", value=wish.get("Seat type", "Coach"))
    if not cabin.checked:
        label = cabin.parent or cabin
        return reach(label if label.shown else page.one("h2", content="More search options"), page.one("iframe"))
    return reach(page.one("input", type="submit"), page.one("iframe"))


def _flight_american(page: Page) -> Action:
    wish = json.loads(page.instruction)
    days = {"Depart": wish["Departure Day"], "Return": wish["Returning Day"]}
    dialog = page.one(id="datePickerDialog")
    if dialog.shown:
        day = days[page.one(cls="ui-dialog-title").content]
        return press(dialog.one("a", content=str(day)))
    action = _airport(page, page.one(id="segments0.origin"), wish["Departure City"], _of_american)
    action = action or _airport(page, page.one(id="segments0.destination"), wish["Destination City"], _of_american)
    if action:
        return action
    for number, day in enumerate(days.values()):
        entry = page.one(id=f"segments{number}.travelDate")
        if entry.value != f"03/{day:02}/2017":
            return reach(entry, page.one("iframe"))
    return reach(page.one(cls="miniwob-main-form").one("button", type="submit"), page.one("iframe"))


ORACLES = {
    "book-flight": _book_flight,
    "book-flight-nodelay": _book_flight,
    "buy-ticket": _buy_ticket,
    "flight.AA": _flight_american,
    "flight.Alaska": _flight_alaska,
    "flight.Alaska-auto": _flight_alaska,
    "order-food": _order_food,
}

"""Forms: several fields to fill and to choose from, some of them in the way of others."""

from visavis.gui.actions import Action, Hotkey, Type
from visavis.gui.bench.miniwob.oracles.controls import slide
from visavis.gui.bench.miniwob.oracles.page import Page, check, fill, press, reach, submit
from visavis.gui.bench.miniwob.oracles.text import scroll_to_end

__all__ = ["ORACLES"]


def _form_sequence(page: Page) -> Action:
    number, position = page.said(r"Select (-?\d+) with the slider, click the (.).. checkbox")
    for at, box in enumerate(page.all("input")):
        action = check(box, at == int(position) - 1)
        if action:
            return action
    now = int(page.one(id="val").content)
    return slide(page.one(id="slider"), now, int(number), [(-10, 10)]) or submit(page)


def _form_sequence_2(page: Page) -> Action:
    radio, number, box = page.said(r'the (.).. radio button and enter the number "(.+)" into the (.).. textbox')
    fields = page.all("input", type="text")
    for field in fields:
        action = fill(field, number if field is fields[int(box) - 1] else "")
        if action:
            return action
    return check(page.all("input", type="radio")[int(radio) - 1], True) or submit(page)


def _form_sequence_3(page: Page) -> Action:
    height, button = page.said(r'Choose (.+) from the dropdown, then click the button labeled "(.+)"')
    chosen = page.one(cls="selectric")
    if chosen.one(cls="label").content == height:
        return press(page.one("button", content=button))
    row = page.one("li", content=height)
    if not row.shown:
        return press(chosen)
    return reach(row, page.one(cls="selectric-scroll"))


def _login_user_popup(page: Page) -> Action:
    cancel = page.all(id="popup-cancel")
    if cancel:
        return press(cancel[0])
    user, password = page.quoted()
    return fill(page.one(id="username"), user) or fill(page.one(id="password"), password) or submit(page)


def _search_movies(page: Page) -> Action:
    genre, director, year = page.said(r"Search for (.+) movies directed by (.+) from year (\d+)")
    texts = {"Genre": genre, "Director": director, "Year": year, "Released": year}
    for field in page.all("input"):
        row = field
        while not row.content and row.parent:
            row = row.parent
        text = next(text for name, text in texts.items() if name in row.content)
        action = fill(field, text)
        if action:
            return action
    return press(next(button for button in page.all() if button.text in ("Submit", "Search", "Go!")))


def _sign_agreement(page: Page) -> Action:
    if "Click the cancel button" in page.instruction:
        return press(page.one(id="cancel"))
    name, button = page.quoted()
    return (
        scroll_to_end(page.one(id="text-area")) or fill(page.one(id="name"), name) or press(page.one(id=button.lower()))
    )


def _text_transform(page: Page) -> Action:
    return fill(page.one(id="tt"), page.one(id="captcha").content) or submit(page)


def _unicode_test(page: Page) -> Action:
    return press(next(button for button in page.all("button", content=page.quoted()[0]) if button.point))


def _use_autocomplete(page: Page) -> Action:
    start, *end = page.quoted()
    field = page.one(id="tags")
    rows = [row for row in page.all(cls="ui-menu-item") if row.shown]
    if field.value.startswith(start) and field.value.endswith(end[0] if end else "") and not rows:
        return submit(page)
    for row in rows:
        if row.content.startswith(start) and row.content.endswith(end[0] if end else ""):
            if row.point:
                return press(row)
            if row.content.startswith(field.value):
                return Type(row.content[len(field.value)])
    return fill(field, start) or Hotkey(("backspace",))


ORACLES = {
    "form-sequence": _form_sequence,
    "form-sequence-2": _form_sequence_2,
    "form-sequence-3": _form_sequence_3,
    "login-user-popup": _login_user_popup,
    "multi-layouts": _search_movies,
    "multi-orderings": _search_movies,
    "sign-agreement": _sign_agreement,
    "text-transform": _text_transform,
    "unicode-test": _unicode_test,
    "use-autocomplete": _use_autocomplete,
    "use-autocomplete-nodelay": _use_autocomplete,
}

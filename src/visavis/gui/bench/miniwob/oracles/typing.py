"""Tasks that are won by what is typed into fields, or chosen from a list."""

from visavis.gui.actions import Action
from visavis.gui.bench.miniwob.oracles.page import Page, choose, fill, press, submit

__all__ = ["ORACLES"]


def _enter_text(page: Page) -> Action:
    return fill(page.one("input"), page.quoted()[0]) or press(page.one("button"))


def _enter_text_2(page: Page) -> Action:
    (text,) = page.quoted()
    wanted = text.upper() if "all upper case" in page.instruction else text.lower()
    return fill(page.one("input"), wanted) or press(page.one("button"))


def _enter_password(page: Page) -> Action:
    (password,) = page.quoted()
    return fill(page.one(id="password"), password) or fill(page.one(id="verify"), password) or submit(page)


def _login_user(page: Page) -> Action:
    user, password = page.quoted()
    return fill(page.one(id="username"), user) or fill(page.one(id="password"), password) or submit(page)


def _choose_list(page: Page) -> Action:
    (name,) = page.said(r"Select (.+) from the list")
    return choose(page.one("select"), name) or press(page.one("button"))


ORACLES = {
    "choose-list": _choose_list,
    "enter-password": _enter_password,
    "enter-text": _enter_text,
    "enter-text-2": _enter_text_2,
    "enter-text-dynamic": _enter_text,
    "login-user": _login_user,
}

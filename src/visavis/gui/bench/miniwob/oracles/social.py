"""Posts in a stream, and the buttons below each."""

from visavis.gui.actions import Action
from visavis.gui.bench.miniwob.oracles.page import Element, Page, reach

__all__ = ["ORACLES"]

_BUTTONS = {
    "Reply": "reply",
    "Retweet": "retweet",
    "Like": "like",
    "Share": "share",
    "Share via DM": "share",
    "Copy link to Tweet": "copy",
    "Embed Tweet": "embed",
    "Mute": "menu-user",
    "Block": "block-user",
    "Report": "report",
}


def _posts(page: Page, user: str) -> list[Element]:
    return [post for post in page.all(cls="media") if post.one(cls="username").content == user]


def _social_media(page: Page) -> Action:
    user, name = page.said(r'For the user (\S+), click on the "(.+)" button')
    post = _posts(page, user)[0]
    button = post.one(cls=_BUTTONS[name])
    return reach(button if button.shown else post.one(cls="more"), page.one(id="area"))


def _social_media_all(page: Page) -> Action:
    name, user = page.said(r'Click the "(.+)" button on all posts by (\S+) and')
    return _set(page, [post.one(cls=_BUTTONS[name]) for post in _posts(page, user)])


def _social_media_some(page: Page) -> Action:
    name, count, user = page.said(r'Click the "(.+)" button on (\d+) posts? by (\S+) and')
    buttons = [post.one(cls=_BUTTONS[name]) for post in _posts(page, user)]
    buttons.sort(key=lambda button: "active" not in button.classes)  # those that are on may stay so
    return _set(page, buttons[: int(count)])


def _set(page: Page, wanted: list[Element]) -> Action:
    """Have these buttons on and all others off, and submit."""
    for button in page.all("span"):
        if (button in wanted) is not ("active" in button.classes):
            return reach(button, page.one(id="area"))
    return reach(page.one("button"), page.one(id="area"))


ORACLES = {
    "social-media": _social_media,
    "social-media-all": _social_media_all,
    "social-media-some": _social_media_some,
}

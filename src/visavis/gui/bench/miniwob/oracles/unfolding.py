"""Tasks where what is to be clicked must be brought to light first: sections, tabs, menus, trees, lists that scroll."""

from itertools import pairwise

from visavis.gui.actions import Action, Move, Press, Release
from visavis.gui.bench.miniwob.oracles.page import Element, Page, press, reach, submit

__all__ = ["ORACLES"]


def _look_for(found: list[Element], covers: list[Element]) -> Action:
    """Press what is found once it is in sight; until then press one cover after the other."""
    for target in found:
        if target.point is not None:
            return press(target.words[0] if target.words else target)
    for cover in covers:
        if not cover.clicked:
            return press(cover)
    return press(covers[0])


def _click_collapsible(page: Page) -> Action:
    (section,) = page.all("h3")
    return submit(page) if section.attributes["aria-expanded"] == "true" else press(section)


def _click_collapsible_2(page: Page) -> Action:
    return _look_for(page.all(cls="alink", content=page.quoted()[0]), page.all("h3"))


def _click_tab_2(page: Page) -> Action:
    return _look_for(page.all(cls="alink", content=page.quoted()[0]), page.all(cls="ui-tabs-anchor"))


def _navigate_tree(page: Page) -> Action:
    (name,) = page.quoted()
    closed = [item.one("span") for item in page.all("li") if item.shown and "expandable" in item.classes]
    return _look_for(page.one(id="tree").all("span", text=name), closed)


def _click_menu(page: Page) -> Action:
    *path, name = page.said(r"Select (.+)")[0].split(">")
    return _follow([page.one(role="menuitem", text=each) for each in (*path, name)])


def _follow(items: list[Element]) -> Action:
    """Take the pointer to each item of a menu, as a click would choose it; click the last."""
    for above, below in pairwise(items):
        if below.point is None:
            return Move(press(above).point)
    return press(items[-1])


def _click_menu_2(page: Page) -> Action:
    menu = page.one(id="menu")
    if not menu.shown:
        return press(page.one(id="open-menu"))
    icons = page.one(id="query").all(cls="ui-icon")
    if icons:
        item = next(item for item in menu.all(role="menuitem") if item.all(cls=icons[0].classes[1]))
    else:
        item = menu.one(role="menuitem", text=page.quoted()[-1])
    return _follow([menu.one(role="menuitem", text="Playback"), item])


def _click_pie(page: Page) -> Action:
    spreader = page.one(id="wheelnav-divWheel-spreadertitle")
    return press(spreader if spreader.content == "+" else page.one("text", content=page.quoted()[0]))


def _click_scroll_list(page: Page) -> Action:
    names = page.said(r"Select (.+) from the scroll list")[0].split(", ")
    options = page.one(id="options")
    wrong = [option for option in options.children if option.checked != (option.content in names)]
    if not wrong:
        return Release("ctrl") if "ctrl" in page.held else press(page.one("button"))
    if wrong[0].point is None:
        return Release("ctrl") if "ctrl" in page.held else reach(wrong[0], options)
    return press(wrong[0]) if "ctrl" in page.held else Press("ctrl")


ORACLES = {
    "click-collapsible": _click_collapsible,
    "click-collapsible-2": _click_collapsible_2,
    "click-collapsible-2-nodelay": _click_collapsible_2,
    "click-collapsible-nodelay": _click_collapsible,
    "click-menu": _click_menu,
    "click-menu-2": _click_menu_2,
    "click-pie": _click_pie,
    "click-pie-nodelay": _click_pie,
    "click-scroll-list": _click_scroll_list,
    "click-tab-2": _click_tab_2,
    "click-tab-2-easy": _click_tab_2,
    "click-tab-2-hard": _click_tab_2,
    "click-tab-2-medium": _click_tab_2,
    "navigate-tree": _navigate_tree,
}

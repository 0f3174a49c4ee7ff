"""Something to be found: among results, in a contact book, in a folder."""

from itertools import pairwise

from visavis.gui.actions import Action, Hotkey, Type
from visavis.gui.bench.miniwob.oracles.page import Page, fill, press

__all__ = ["ORACLES"]


def _search_engine(page: Page) -> Action:
    text, position = page.said(r'enter "(.+)" and press "Search", then find and click the (\d+)')
    wanted = int(position) - 1
    action = fill(page.one(id="search-text"), text)
    if action:
        return action
    results = page.all(cls="search-title")
    if not results or results[0].attributes["data-result"] == "-1":  # those of another text
        return press(page.one(id="search"))
    for result in results:
        if result.attributes["data-result"] == str(wanted):
            return press(result)
    return press(page.one(id="pagination").one("a", content=str(wanted // 3 + 1)))


def _phone_book(page: Page) -> Action:
    name, kind = page.said(r"Find (.+) in the contact book and click on their (phone|email|address)")
    if page.one(cls="name").content == name:
        return press(page.one("a", cls=kind))
    following = page.one("li", cls="next")
    return press(page.one("li", cls="prev" if "disabled" in following.classes else "next"))


def _terminal(page: Page) -> Action:
    if not page.one(id="terminal-target").focused:
        return press(page.one(id="terminal"))
    if page.one(id="active-input").content:
        return Hotkey(("backspace",))
    lines = page.one(id="terminal-contents").children
    for line, output in pairwise(lines):
        if line.content == "user$ ls":
            return Type(f"rm {_file(page, output.content.split())}\n")
    return Type("ls\n")


def _file(page: Page, names: list[str]) -> str:
    if "no file extension" in page.instruction:
        return next(name for name in names if "." not in name)
    (extension,) = page.said(r"the extension \.(\S+)")
    fitting = [name for name in names if name.endswith("." + extension)]
    # The task looks for the first "py", and takes puppy.py for a file with another extension.
    return min(fitting, key=lambda name: name.index(extension) + len(extension) != len(name))


ORACLES = {
    "phone-book": _phone_book,
    "search-engine": _search_engine,
    "terminal": _terminal,
}

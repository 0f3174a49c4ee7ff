"""Pages of a folder opened in a Chromium that reaches nothing else: their picture, and what there is to click on it."""

import math
import queue
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from visavis.errors import ScreenError
from visavis.gui.bench._server import Server
from visavis.gui.bench._tab import Tab
from visavis.gui.bench.grounding.targets import Box

__all__ = ["CLICKED", "FIELDS", "Look", "Pages", "Thing", "Viewport"]

Viewport = tuple[int, int, float]  # width and height in a page's own pixels, and how many of the picture's each has

# Roles of what a click does something to. That of a field is told by a text beside it.
CLICKED = ("button", "link", "menuitem", "option", "tab")
FIELDS = ("checkbox", "combobox", "radio", "searchbox", "slider", "spinbutton", "switch", "textbox")
# The same as a page writes it.
_DOES = "a[href], button, input, select, textarea, summary, label, [onclick], [contenteditable=true], " + ", ".join(
    f'[role="{role}"]' for role in CLICKED + FIELDS
)
_MEASURE = Path(__file__).with_name("measure.js")
_LEAST_PX = 8
_ANSWER_S = 60.0
_LOAD_S = 20.0
_REST_S = 3.0  # until a page moves no more
_BLINK_S = 0.1
_NOWHERE = "127.0.0.1:1"  # nobody listens there
# Every visit is the same: chance and time have no part in it, and nothing moves that need not.
_STILL = """(() => {
  let state = 1;
  Math.random = () => (state = state * 48271 % 2147483647) / 2147483647;
  const Real = Date, now = Real.UTC(2025, 0, 15, 10);
  globalThis.Date = new Proxy(Real, {
    construct: (_, given) => given.length ? new Real(...given) : new Real(now),
    apply: () => new Real(now).toString(),
    get: (_, name) => name === 'now' ? () => now : Real[name],
  });
  addEventListener('DOMContentLoaded', () => {
    const style = document.createElement('style');
    style.textContent = '* { caret-color: transparent !important; scroll-behavior: auto !important }';
    document.head?.append(style);
  });
})()"""
_REST = """(async () => {
  await document.fonts.ready;
  for (const animation of document.getAnimations())
    try { animation.finish() } catch { animation.cancel() }  // one without an end cannot be finished
})()"""


@dataclass(frozen=True, slots=True)
class Thing:
    """Something to click."""

    role: str
    name: str
    box_xyxy_px: Box  # of the picture
    shown: str  # its text as it is seen

    @property
    def kind(self) -> str:
        return "text" if _letters(self.shown) else "icon"


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What is seen of a page."""

    png: bytes
    things: list[Thing]


class Pages(Tab):
    """The pages below a folder, until `close`; a context manager closes it.

    Raises:
        ScreenError: there is no Chromium, or it does not start.
    """

    def __init__(self, folder: Path) -> None:
        self._broken = False  # a page lacks what the folder should have
        self._events: queue.SimpleQueue[tuple[str, str, str]] = queue.SimpleQueue()
        server = Server(folder)
        own = server.address.removeprefix("http://")
        flags = (f"--proxy-server={_NOWHERE}", f"--proxy-bypass-list=<-loopback>;{own}", "--hide-scrollbars")
        super().__init__(server, flags=flags, answer_s=_ANSWER_S)

    def _prepare(self) -> None:
        self._connection.call("Browser.setDownloadBehavior", behavior="deny")
        self._connection.listen("Page.lifecycleEvent", self._event)
        self._connection.listen("Page.javascriptDialogOpening", self._dialog)
        self._connection.listen("Network.responseReceived", self._response)
        self._call("Network.enable")
        self._call("Page.enable")
        self._call("Page.setLifecycleEventsEnabled", enabled=True)
        self._call("Page.addScriptToEvaluateOnNewDocument", source=_STILL)
        self._call("Accessibility.enable")
        self._call("Emulation.setEmulatedMedia", features=[{"name": "prefers-reduced-motion", "value": "reduce"}])

    def look(self, page: str, viewport: Viewport, *, down: float = 0.0) -> Look | None:
        """Open a page and look at it.

        Args:
            page: its path in the folder, with slashes.
            viewport: the window to see it in.
            down: how far it is scrolled, as a share of how far it can be.

        Returns:
            None if it does not load, goes elsewhere or does not come to rest, or if a script or stylesheet that the
            folder should have is not in it.

        Raises:
            ScreenError: the browser is gone or does not answer in time.
        """
        width, height, scale = viewport
        shape = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": False}
        self._call("Emulation.setDeviceMetricsOverride", **shape)
        try:
            return self._look(f"{self._server.address}/{quote(page)}", scale, down)
        except ScreenError:
            if not self._connection.alive:
                raise
            return None  # it went elsewhere while it was looked at

    def _look(self, address: str, scale: float, down: float) -> Look | None:
        if not self._open(address):
            return None
        scroll = f"scrollTo(0, {down} * (document.documentElement.scrollHeight - innerHeight))"
        self._evaluate(scroll)
        png = self._rest()
        if png is None or self._broken or self._evaluate("location.href.split('#')[0].split('?')[0]") != address:
            return None
        things = self._things(scale)
        return Look(png, things) if self._picture() == png else None

    def _open(self, address: str) -> bool:
        self._broken = False
        visit = self._call("Page.navigate", url=address)
        own = visit["frameId"], visit.get("loaderId")
        until = time.monotonic() + _LOAD_S
        begun = False
        while "errorText" not in visit:
            try:
                name, frame, loader = self._events.get(timeout=max(until - time.monotonic(), 0))
            except queue.Empty:
                break
            if name == "load" and (frame, loader) == own:
                return True
            if name == "init" and frame == own[0]:
                if begun and loader != own[1]:
                    break  # it goes elsewhere by itself
                begun = begun or loader == own[1]
        return False

    def _rest(self) -> bytes | None:
        """The picture once it is the same twice."""
        until = time.monotonic() + _REST_S
        before = None
        while time.monotonic() < until:
            self._evaluate(_REST)
            time.sleep(_BLINK_S)
            now = self._picture()
            if now == before:
                return now
            before = now
        return None

    def _picture(self) -> bytes:
        return self._connection.screenshot(session=self._session, format="png")

    def _things(self, scale: float) -> list[Thing]:
        """What can be hit, and is the only one of its name."""
        nodes = self._nodes()
        wanted = [node for node in nodes if node.role in CLICKED + FIELDS and node.enabled and _alone(node, nodes)]
        resolved = self._connection.call_all(
            [("DOM.resolveNode", {"backendNodeId": node.element}) for node in wanted], session=self._session
        )
        asked = {
            "functionDeclaration": _MEASURE.read_text(encoding="utf-8"),
            "arguments": [{"value": _DOES}, {"value": _LEAST_PX}],
            "returnByValue": True,
        }
        measured = self._connection.call_all(
            [("Runtime.callFunctionOn", {"objectId": each["object"]["objectId"], **asked}) for each in resolved],
            session=self._session,
        )
        things = []
        for node, answer in zip(wanted, measured, strict=True):
            if "exceptionDetails" in answer:
                raise ScreenError(f"measure.js: expected a measure, got {answer['exceptionDetails']}")
            if (found := answer["result"].get("value")) is not None:
                left, top, right, bottom = (math.floor(scale * side + 0.5) for side in found["box"])  # as it is drawn
                thing = Thing(node.role, node.name, (left, top, right, bottom), found["shown"])
                if thing.kind == "icon" or thing.role in FIELDS or _letters(thing.shown) == _letters(thing.name):
                    things.append(thing)  # else it goes by another name for those who see
        return things

    def _nodes(self) -> "list[_Node]":
        """All that has a name, of the page and the frames in it."""
        frames, trees = [self._call("Page.getFrameTree")["frameTree"]], []
        for frame in frames:
            frames += frame.get("childFrames", ())
            if frame["frame"]["url"].startswith((self._server.address, "about:")):  # else there is none in it
                trees.append(self._call("Accessibility.getFullAXTree", frameId=frame["frame"]["id"])["nodes"])
        return [node for number, tree in enumerate(trees) for node in _named(tree, number)]

    def _evaluate(self, script: str) -> Any:
        return self._connection.evaluate(script, session=self._session)

    def _event(self, _session: str | None, event: dict[str, Any]) -> None:
        if event["name"] in ("init", "load"):
            self._events.put((event["name"], event["frameId"], event["loaderId"]))

    def _response(self, _session: str | None, event: dict[str, Any]) -> None:
        response = event["response"]
        if event["type"] in ("Script", "Stylesheet") and response["url"].startswith(self._server.address):
            self._broken = self._broken or response["status"] >= 400

    def _dialog(self, session: str | None, event: dict[str, Any]) -> None:
        leave = event["type"] == "beforeunload"
        self._connection.send("Page.handleJavaScriptDialog", session=session, accept=leave)


@dataclass(frozen=True, slots=True)
class _Node:
    role: str
    name: str
    element: int  # the browser's number of it
    enabled: bool
    place: tuple[int, str]  # frame and number in its tree
    above: frozenset[tuple[int, str]]


def _letters(text: str) -> str:
    """What is left of a text however it is set."""
    return "".join(filter(str.isalnum, text.casefold()))


def _named(tree: list[dict[str, Any]], frame: int) -> list[_Node]:
    parents = {node["nodeId"]: node.get("parentId") for node in tree}
    found = []
    for node in tree:
        name = " ".join(node.get("name", {}).get("value", "").split())
        if node["ignored"] or not name or "backendDOMNodeId" not in node:
            continue
        above, parent = set(), parents[node["nodeId"]]
        while parent is not None:
            above.add((frame, parent))
            parent = parents.get(parent)
        off = any(each["name"] == "disabled" and each["value"].get("value") for each in node.get("properties", ()))
        role, element = node["role"]["value"], node["backendDOMNodeId"]
        found.append(_Node(role, name, element, not off, (frame, node["nodeId"]), frozenset(above)))
    return found


def _alone(node: _Node, nodes: list[_Node]) -> bool:
    """Whether nothing else on the page goes by its name; a label beside a field does."""
    rivals = CLICKED + FIELDS if node.role in FIELDS else None
    return not any(
        other.name.casefold() == node.name.casefold()
        and (rivals is None or other.role in rivals)
        and other.place != node.place
        and other.place not in node.above
        and node.place not in other.above
        for other in nodes
    )

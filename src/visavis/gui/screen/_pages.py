"""The tabs of a browser: the newest is looked at; every one is prepared and confined before its first request.

Events come in the connection's reading thread, which never waits; the screen's own thread reads what they left here.
"""

import base64
import html
import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from visavis.errors import InputError, ScreenError
from visavis.gui.origins import check_pattern, matches
from visavis.gui.screen._cdp import Connection
from visavis.gui.screen._dialogs import Dialog

__all__ = ["Pages"]

_NOWHERE = "127.0.0.1:1"  # nobody listens there
_DRAWING = "about:blank#visavis-dialogs"
_LOCAL = ("data:", "blob:", "about:")  # nothing is asked of anybody for these
_CRASH_S = 15.0  # until a page must have lost its process; what it is sent before, goes with it
_SLOW_S = 2.0  # a request that takes longer is no reason to wait: it may be one that never ends
_NO_UDP = "--webrtc-ip-handling-policy=disable_non_proxied_udp"  # which passes by any proxy
_EVENTS = (
    "Browser.downloadWillBegin",
    "Fetch.authRequired",
    "Fetch.requestPaused",
    "Input.dragIntercepted",
    "Inspector.targetCrashed",
    "Network.loadingFailed",
    "Network.loadingFinished",
    "Network.requestWillBeSent",
    "Page.fileChooserOpened",
    "Page.javascriptDialogClosed",
    "Page.javascriptDialogOpening",
    "Target.attachedToTarget",
    "Target.detachedFromTarget",
)
_COUNTED = {"Document", "Stylesheet", "Script", "XHR", "Fetch", "Image", "Font"}
# Lists that drop down are drawn by the page itself, so that they are part of its picture.
_LISTS = """(() => {
  const sheet = new CSSStyleSheet(), list = 'select:not([multiple]):not([size])';
  sheet.replaceSync(`${list}, ${list}::picker(select) { appearance: base-select; align-items: center }`);
  document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
})()"""
_REFUSED = """<!doctype html><meta charset="utf-8"><title>Not allowed</title>
<body style="font:16px sans-serif;margin:2em;color:#202124"><h1 style="font-size:20px">This address is not allowed</h1>
<p style="overflow-wrap:anywhere">{url}</p><p>This browser may only open: {origins}</p></body>"""


class Pages:
    """Prepares, confines and follows; `start` before anything else.

    Args:
        size: width and height of every page in its own pixels.
        scale: pixels of a screenshot for one of the page.
        origins: the only ones that may be asked; None: any.

    Raises:
        InputError: an origin that is none.
    """

    def __init__(self, size: tuple[int, int], scale: float, origins: tuple[str, ...] | None) -> None:
        for pattern in origins or ():
            check_pattern("origins", pattern)
        self._size, self._scale, self._origins = size, scale, origins
        self._targets: dict[str, str] = {}  # of pages by their session, the one looked at last
        self._requests: dict[str, float] = {}  # since when each is under way
        self._crashed: dict[str, Dialog] = {}  # what to show of a page, by its session
        self._drawing = ""  # session of the page that draws dialogs
        self._ready: Future[None] = Future()  # that page and a first one are there
        self._dialogs: list[Dialog] = []
        self.opened: Future[None] = Future()  # done while a dialog is open
        self._telling = threading.Lock()
        self.dragged: dict[str, Any] | None = None  # what the browser would carry by its own drag and drop

    def flags(self) -> list[str]:
        """Of the command line: what is not allowed goes to a proxy that is not there, and its name is not asked for."""
        if self._origins is None or "*" in self._origins:
            return []
        ports = {"http": ":80", "https": ":443"}
        direct, names = (
            [],
            ["MAP * ~NOTFOUND"],
        )  # the servers of a call, as of WebRTC, would be looked up past the proxy
        for origin in self._origins:
            place = urlsplit(origin.removesuffix(":*"))
            if place.netloc:
                port = "" if place.port or origin.endswith(":*") else ports[place.scheme]
                direct.append(place.netloc + port)
                names.append(f"EXCLUDE {place.hostname}")
        return [
            _NO_UDP,
            f"--proxy-server={_NOWHERE}",
            "--proxy-bypass-list=" + ";".join(["<-loopback>", *direct]),
            "--host-resolver-rules=" + ",".join(names),
        ]

    def address(self, url: str) -> str:
        """An address to open, with its scheme.

        Raises:
            InputError: it is none that a person could type, or not allowed.
        """
        scheme = (
            urlsplit(url).scheme.lower() if "://" in url or url.startswith(("about:", "data:", "javascript:")) else ""
        )
        address = url if scheme else f"https://{url}"
        if url != "about:blank":
            if scheme not in ("", "http", "https", "file") or not url.strip() or any(ord(char) <= 32 for char in url):
                raise InputError(f'url: expected an address such as "https://example.org", got {url!r}')
            if self._origins is not None and not matches(address, self._origins):
                raise InputError(f"url: expected one of {', '.join(self._origins)}, got {address}")
        return address

    def start(self, connection: Connection, *, within_s: float) -> None:
        """Attach to the first page, and open the one that draws dialogs.

        Raises:
            ScreenError: the browser does not do it in time.
        """
        self._connection = connection
        for name in _EVENTS:
            connection.listen(name, partial(self._event, name))
        connection.call("Browser.setDownloadBehavior", behavior="deny", eventsEnabled=True)
        connection.call("Target.setAutoAttach", autoAttach=True, waitForDebuggerOnStart=True, flatten=True)
        connection.call("Target.createTarget", url=_DRAWING, newWindow=True, background=True)
        with suppress(TimeoutError):
            self._ready.result(within_s)
            connection.call("Runtime.evaluate", session=self.session, expression="0")  # sent away before, it may crash
            return
        raise ScreenError(f"browser: expected a page within {within_s:g} s, got none", acted=False)

    @property
    def session(self) -> str:
        """Of the page that is looked at.

        Raises:
            ScreenError: the last one was closed.
        """
        try:
            return next(reversed(list(self._targets)))
        except StopIteration:
            raise ScreenError("page: expected one to be open, the last was closed", acted=False) from None

    @property
    def target(self) -> str:
        """The browser's name of that page; errors as `session`."""
        return self._targets[self.session]

    @property
    def crashed(self) -> bool:
        return self.session in self._crashed

    @property
    def dialog(self) -> Dialog | None:
        """What is open over the page that is looked at, the oldest first, or the word that it has crashed."""
        newest = next(reversed(list(self._targets)), "")
        return next(iter(list(self._dialogs)), None) or self._crashed.get(newest)

    def dismiss(self) -> None:
        """Close what is open over the page that is looked at, as Escape does; it stays crashed if it is."""
        for dialog in list(self._dialogs):
            if dialog.session in (None, self.session):
                self.answer(dialog)

    def leave(self, *, stuck: bool) -> None:
        """Another page is about to come; one that is `stuck` loses its process, as does one that has crashed."""
        self.dismiss()
        if stuck:
            self._connection.send("Page.stopLoading", session=self.session)  # one that awaits another is not ended
            self._connection.send("Page.crash", session=self.session)
            until = time.monotonic() + _CRASH_S
            while not self.crashed and time.monotonic() < until:
                time.sleep(0.01)
        self._crashed.pop(self.session, None)
        self._tell()

    def loading(self) -> bool:
        """Whether requests of a moment ago have no answer yet."""
        now = time.monotonic()
        return any(now - since < _SLOW_S for since in list(self._requests.values()))

    def turn(self, *, close: bool) -> None:
        """Look at the next tab; `close`: close this one."""
        if close:
            self._crashed.pop(self.session, None)
            self._tell()
            self._connection.send("Target.closeTarget", targetId=self.target)
        elif len(self._targets) > 1:
            first = next(iter(self._targets))
            self._targets[first] = self._targets.pop(first)
            self._connection.send("Target.activateTarget", targetId=self.target)
            self._tell()

    def answer(self, dialog: Dialog) -> None:
        """Close a dialog as the user wants it."""
        self._forget(dialog)
        if dialog.kind == "crash":
            self.leave(stuck=False)
            self._connection.send("Page.reload", session=dialog.session)
        elif dialog.kind != "notice":
            self._connection.send("Page.handleJavaScriptDialog", session=dialog.session, **dialog.answer())

    def draw(self, dialog: Dialog, width: int) -> tuple[list[list[float]], bytes]:
        """The boxes of its buttons in its own pixels, and its picture as PNG."""
        whole, *buttons = self._connection.evaluate(dialog.drawing(width), session=self._drawing)
        clip = {"x": whole[0], "y": whole[1], "width": whole[2], "height": whole[3], "scale": 1}
        return buttons, self._connection.screenshot(session=self._drawing, clip=clip)

    # From here on: in the reading thread.

    def _event(self, name: str, session: str | None, parameters: dict[str, Any]) -> None:
        match name:
            case "Target.attachedToTarget":
                self._attached(parameters["sessionId"], parameters["targetInfo"])
            case "Target.detachedFromTarget":
                self._detached(parameters["sessionId"])
            case "Fetch.authRequired":  # the browser would ask outside of the page; so the page of the refusal comes
                answer = {"requestId": parameters["requestId"], "authChallengeResponse": {"response": "CancelAuth"}}
                self._connection.send("Fetch.continueWithAuth", session=session, **answer)
            case "Fetch.requestPaused":
                self._judge(parameters, session)
            case "Network.requestWillBeSent" if parameters.get("type") in _COUNTED:
                self._requests[parameters["requestId"]] = time.monotonic()
            case "Network.loadingFinished" | "Network.loadingFailed":
                self._requests.pop(parameters["requestId"], None)
            case "Page.javascriptDialogOpening":
                self._dialog(parameters, session)
            case "Page.javascriptDialogClosed":  # by the page's own end
                for dialog in [each for each in self._dialogs if each.session == session and each.kind != "notice"]:
                    self._forget(dialog)
            case "Page.fileChooserOpened":
                self._notice("Choosing files from this computer is not allowed here.")
            case "Browser.downloadWillBegin":
                self._notice(f"The download of {parameters.get('suggestedFilename', 'a file')} was refused.")
            case "Inspector.targetCrashed" if session in self._targets:
                for dialog in [each for each in self._dialogs if each.session == session]:
                    self._forget(dialog)
                self._crashed[session] = Dialog("crash", "This page has crashed", "Load it once more?", session)
                self._tell()
            case "Input.dragIntercepted":
                self.dragged = parameters["data"]

    def _attached(self, session: str, info: dict[str, Any]) -> None:
        """Prepare a page, a frame of another process, or a worker; it waits for that."""
        send, kind = self._connection.send, info["type"]
        draws = kind == "page" and info["url"] == _DRAWING and not info.get("openerId") and not self._drawing
        if not draws and (self._origins is not None or kind in ("page", "iframe")):
            pattern = {"urlPattern": "*"} if self._origins is not None else {"resourceType": "Document"}
            send("Fetch.enable", session=session, patterns=[pattern], handleAuthRequests=True)
        if kind in ("page", "iframe"):
            send("Page.enable", session=session)
            send("Page.addScriptToEvaluateOnNewDocument", session=session, source=_LISTS)
            send("Network.enable", session=session)
        if kind == "page":
            width, height = self._size
            metrics = {"width": width, "height": height, "deviceScaleFactor": self._scale, "mobile": False}
            send("Emulation.setDeviceMetricsOverride", session=session, **metrics)
            send("Emulation.setFocusEmulationEnabled", session=session, enabled=True)
            send("Page.setInterceptFileChooserDialog", session=session, enabled=True)
            send("Inspector.enable", session=session)
        send("Target.setAutoAttach", session=session, autoAttach=True, waitForDebuggerOnStart=True, flatten=True)
        send("Runtime.runIfWaitingForDebugger", session=session)
        if draws:
            self._drawing = session
        elif kind == "page":
            self._targets[session] = info["targetId"]
            self._tell()
        if self._drawing and self._targets and not self._ready.done():
            self._ready.set_result(None)

    def _detached(self, session: str) -> None:
        for dialog in [each for each in self._dialogs if each.session == session]:
            self._forget(dialog)
        self._crashed.pop(session, None)
        if self._targets.pop(session, None) and self._targets:
            self._connection.send("Target.activateTarget", targetId=self.target)
        self._tell()

    def _judge(self, paused: dict[str, Any], session: str | None) -> None:
        url, request = paused["request"]["url"], {"requestId": paused["requestId"]}
        if self._origins is None or url.startswith(_LOCAL) or matches(url, self._origins):
            self._connection.send("Fetch.continueRequest", session=session, **request)
        elif paused.get("resourceType") == "Document":
            page = _REFUSED.format(url=html.escape(url[:500]), origins=html.escape(", ".join(self._origins)))
            body = base64.b64encode(page.encode()).decode()
            headers = [
                {"name": "Content-Type", "value": "text/html; charset=utf-8"},
                {"name": "Content-Security-Policy", "value": "default-src 'none'; style-src 'unsafe-inline'"},
            ]
            answer = {"responseCode": 403, "responseHeaders": headers, "body": body}
            self._connection.send("Fetch.fulfillRequest", session=session, **request, **answer)
        else:
            self._connection.send("Fetch.failRequest", session=session, **request, errorReason="BlockedByClient")

    def _dialog(self, opening: dict[str, Any], session: str | None) -> None:
        kind, place = opening["type"], urlsplit(opening["url"])
        title = "Leave this page?" if kind == "beforeunload" else f"{place.netloc or 'This page'} says"
        message = "What you have entered may not be saved." if kind == "beforeunload" else opening["message"]
        entry = opening.get("defaultPrompt", "") if kind == "prompt" else None
        self._open(Dialog(kind, title, message, session, entry))

    def _notice(self, message: str) -> None:
        self._open(Dialog("notice", "Refused", message, None))

    def _open(self, dialog: Dialog) -> None:
        self._dialogs.append(dialog)
        self._tell()

    def _forget(self, dialog: Dialog) -> None:
        with suppress(ValueError):  # two threads may close the same
            self._dialogs.remove(dialog)
        self._tell()

    def _tell(self) -> None:
        """Have `opened` say what `dialog` does."""
        with self._telling:
            if self.dialog and not self.opened.done():
                self.opened.set_result(None)
            elif not self.dialog and self.opened.done():
                self.opened = Future()

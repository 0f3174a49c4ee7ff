"""A page of a Chromium of one's own, beside the server of what it opens."""

from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

from visavis.gui.bench._server import Server
from visavis.gui.screen._browser import Browser

__all__ = ["Tab"]


class Tab:
    """Both, until `close`; a context manager closes it.

    Args:
        server: of the pages; closed with the tab, and when there is none.
        flags: words for the browser's command line.
        answer_s: how long an answer may take, in seconds.

    Raises:
        ScreenError: there is no Chromium, or it does not start.
    """

    def __init__(self, server: Server, *, flags: Iterable[str], answer_s: float) -> None:
        self._server = server
        self._browser: Browser | None = None
        try:
            self._browser = Browser(flags=flags, answer_s=answer_s)
            self._connection = self._browser.connection
            self._session = self._browser.attach()
            self._prepare()
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        """What is to be done first."""

    def close(self) -> None:
        """End the browser; more than once is the same as once."""
        if self._browser is not None:
            self._browser.close()
        self._server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._connection.call(method, session=self._session, **parameters)

"""What every screen is: something that shows pixels and takes actions."""

from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

from visavis.gui.actions import Action

__all__ = ["Screen", "Screenshot"]


@dataclass(frozen=True, slots=True, eq=False)
class Screenshot:
    """One look at a screen."""

    pixels: Any  # numpy uint8 [H, W, 3], RGB
    scale: float = 1.0  # pixels of the screenshot per unit of the screen's own coordinates
    url: str | None = None  # where a browser is; for the policy and the trace, never for the model

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]


class Screen(Protocol):
    """A screen that is open until `close`; a context manager closes it."""

    @property
    def name(self) -> str:
        """For the trace: what kind of screen, and where."""
        ...

    def size(self) -> tuple[int, int]:
        """Width and height of the next screenshot in pixels."""
        ...

    def screenshot(self) -> Screenshot:
        """Look.

        Raises:
            ScreenError: the screen is gone or does not answer in time.
        """
        ...

    def perform(self, action: Action) -> None:
        """Act, and wait until the screen has come to rest, or for as long as the screen is set to wait at most.

        `Wait`, `Finished` and `CallUser` are the agent's own.

        Raises:
            InputError: an action this screen does not have, or a point outside of it; nothing was done.
            ScreenError: the screen is gone or does not answer in time; `acted` is False if certainly nothing was done.
        """
        ...

    def close(self) -> None:
        """Let go of everything; more than once is the same as once."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None: ...

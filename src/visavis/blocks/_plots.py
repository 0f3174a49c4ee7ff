"""The one door to matplotlib, which only the functions that draw need."""

from typing import TYPE_CHECKING

from visavis.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["figure_class"]


def figure_class() -> "type[Figure]":
    """`matplotlib.figure.Figure`, which touches no global state, as pyplot would.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("drawing needs matplotlib: pip install 'visavis[plots]'") from error
    return Figure

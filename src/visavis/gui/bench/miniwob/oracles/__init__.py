"""Scripted players, one a task, that read the page: they prove that a perfect player wins, and teach by example.

An oracle is a function from the `Page` as it stands to the next action. It remembers nothing, so that it can go on from
wherever another player has come to.
"""

from collections.abc import Callable, Mapping

from visavis.gui.actions import Action
from visavis.gui.bench.miniwob.oracles import (
    clicking,
    controls,
    dates,
    dragging,
    drawing,
    email,
    forms,
    games,
    numbers,
    ordering,
    searching,
    shapes,
    social,
    text,
    typing,
    unfolding,
)
from visavis.gui.bench.miniwob.oracles.page import Element, Page, Word

__all__ = ["ORACLES", "Element", "Oracle", "Page", "Word"]

Oracle = Callable[[Page], Action]

ORACLES: Mapping[str, Oracle] = {
    **clicking.ORACLES,
    **controls.ORACLES,
    **dates.ORACLES,
    **dragging.ORACLES,
    **drawing.ORACLES,
    **email.ORACLES,
    **forms.ORACLES,
    **games.ORACLES,
    **numbers.ORACLES,
    **ordering.ORACLES,
    **searching.ORACLES,
    **shapes.ORACLES,
    **social.ORACLES,
    **text.ORACLES,
    **typing.ORACLES,
    **unfolding.ORACLES,
}

"""Screens: pixels out, actions in."""

from visavis.gui.screen.protocol import Screen, Screenshot

__all__ = ["Screen", "Screenshot"]

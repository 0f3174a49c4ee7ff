"""Screens: pixels out, actions in."""

from visavis.gui.screen.chromium import ChromiumScreen
from visavis.gui.screen.protocol import Screen, Screenshot
from visavis.gui.screen.x11 import X11Screen

__all__ = ["ChromiumScreen", "Screen", "Screenshot", "X11Screen"]

"""Grounding: an instruction and a screenshot in, a point out, right where it lies in the wanted box."""

from visavis.gui.bench.grounding.playing import Hit, Share, play, shares
from visavis.gui.bench.grounding.targets import Target, load, save

__all__ = ["Hit", "Share", "Target", "load", "play", "save", "shares"]

"""Grounding: an instruction and a screenshot in, a point out, right where it lies in the wanted box."""

from visavis.gui.bench.grounding.generating import VIEWPORTS, generate
from visavis.gui.bench.grounding.playing import Hit, Middle, Share, play, shares
from visavis.gui.bench.grounding.targets import Target, load, save

__all__ = ["VIEWPORTS", "Hit", "Middle", "Share", "Target", "generate", "load", "play", "save", "shares"]

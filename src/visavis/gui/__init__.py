"""The GUI agent: screenshots in, human-like actions out."""

from visavis.gui.agent import Agent, Retries, Run
from visavis.gui.memory import Memory
from visavis.gui.model import RemoteModel, ScriptedModel
from visavis.gui.safety import Policy, Secret
from visavis.gui.screen import ChromiumScreen, Screenshot, X11Screen

__all__ = [
    "Agent",
    "ChromiumScreen",
    "Memory",
    "Policy",
    "RemoteModel",
    "Retries",
    "Run",
    "Screenshot",
    "ScriptedModel",
    "Secret",
    "X11Screen",
]

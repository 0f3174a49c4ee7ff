"""The agent: looks at a screen, lets a model think, acts, and knows when to stop."""

from visavis.gui.agent.agent import Agent, Run
from visavis.gui.agent.session import Retries

__all__ = ["Agent", "Retries", "Run"]

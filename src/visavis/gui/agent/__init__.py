"""The agent: looks at a screen, lets a model think, acts, and knows when to stop."""

from visavis.gui.agent._session import Retries
from visavis.gui.agent.agent import Agent, Run

__all__ = ["Agent", "Retries", "Run"]

"""Models: a screenshot and an instruction in, a thought and actions out."""

from visavis.gui.model.protocol import Context, Decision, Model, Turn

__all__ = ["Context", "Decision", "Model", "Turn"]

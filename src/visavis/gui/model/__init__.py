"""Models: a screenshot and an instruction in, a thought and actions out."""

from visavis.gui.model.protocol import Context, Decision, Model, Turn
from visavis.gui.model.remote import RemoteModel
from visavis.gui.model.scripted import ScriptedModel

__all__ = ["Context", "Decision", "Model", "RemoteModel", "ScriptedModel", "Turn"]

"""What an agent may do: the policy that judges each action, and keeps secrets and private pixels."""

from visavis.gui.origins import matches, origin
from visavis.gui.safety.consequences import consequence
from visavis.gui.safety.policy import Answer, Judgement, Policy, Secret

__all__ = ["Answer", "Judgement", "Policy", "Secret", "consequence", "matches", "origin"]

"""`examine`: what a network costs and sees, layer by layer, and what of it does nothing or is better done otherwise.

The network runs on fake tensors, which compute nothing: once without gradients for the graph, once with them for what
autograd keeps. Only which biases and norms it can do without is proved by running it on numbers. Everything is of one
image; a multiplication and an addition are two FLOPs.
"""

from visavis.app.inspecting.examination import examine
from visavis.app.inspecting.records import LINEAR_PAYS_FROM, Attention, Finding, Inspection, Own, Row
from visavis.app.inspecting.texts import amount, field_text, marks_text, memory, shape_text

__all__ = [
    "LINEAR_PAYS_FROM",
    "Attention",
    "Finding",
    "Inspection",
    "Own",
    "Row",
    "amount",
    "examine",
    "field_text",
    "marks_text",
    "memory",
    "shape_text",
]

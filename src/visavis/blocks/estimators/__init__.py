"""Gradients of an expectation: differentiable draws, the score function, and what lies between; measured by `check`."""

from visavis.blocks.estimators.checking import Report, Row, check
from visavis.blocks.estimators.estimator import Estimator, Integrand, Reparameterized, Sampler
from visavis.blocks.estimators.exact import Exact, enumerate_states
from visavis.blocks.estimators.expectation import ESTIMATORS, Name, estimator, expect, sample
from visavis.blocks.estimators.relaxed import StraightThrough
from visavis.blocks.estimators.score import RLOO, ScoreFunction

__all__ = [
    "ESTIMATORS",
    "RLOO",
    "Estimator",
    "Exact",
    "Integrand",
    "Name",
    "Reparameterized",
    "Report",
    "Row",
    "Sampler",
    "ScoreFunction",
    "StraightThrough",
    "check",
    "enumerate_states",
    "estimator",
    "expect",
    "sample",
]

"""Gradients of an expectation: differentiable draws, the score function, and what lies between; measured by `check`."""

from visavis.blocks.estimators.checking import Report, Row, check
from visavis.blocks.estimators.control import REBAR, RELAX
from visavis.blocks.estimators.coupled import ARM, DisARM
from visavis.blocks.estimators.estimator import Estimator, Integrand, Reparameterized, Sampler
from visavis.blocks.estimators.exact import Exact, enumerate_states
from visavis.blocks.estimators.expectation import ESTIMATORS, Name, estimator, expect, sample
from visavis.blocks.estimators.relaxed import GumbelRao, GumbelSoftmax, ReinMax, Relaxed, StraightThrough
from visavis.blocks.estimators.score import RLOO, VIMCO, Baseline, NetworkBaseline, RunningBaseline, ScoreFunction

__all__ = [
    "ARM",
    "ESTIMATORS",
    "REBAR",
    "RELAX",
    "RLOO",
    "VIMCO",
    "Baseline",
    "DisARM",
    "Estimator",
    "Exact",
    "GumbelRao",
    "GumbelSoftmax",
    "Integrand",
    "Name",
    "NetworkBaseline",
    "ReinMax",
    "Relaxed",
    "Reparameterized",
    "Report",
    "Row",
    "RunningBaseline",
    "Sampler",
    "ScoreFunction",
    "StraightThrough",
    "check",
    "enumerate_states",
    "estimator",
    "expect",
    "sample",
]

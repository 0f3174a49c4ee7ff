"""Gradients of an expectation: differentiable draws, the score function, and what lies between; measured by `check`."""

from visavis.blocks.estimators.checking import Report, Row, check
from visavis.blocks.estimators.control import REBAR, RELAX
from visavis.blocks.estimators.counts import PolynomialPathwise, polynomial_weight
from visavis.blocks.estimators.coupled import ARM, DisARM
from visavis.blocks.estimators.estimator import Estimator, Integrand, Reparameterized, Sampler
from visavis.blocks.estimators.exact import Exact, enumerate_states
from visavis.blocks.estimators.expectation import ESTIMATORS, Name, estimator, expect, sample
from visavis.blocks.estimators.gumbel import TopK, gumbel_max, gumbel_top_k
from visavis.blocks.estimators.implicit import Implicit
from visavis.blocks.estimators.measure import MeasureValued
from visavis.blocks.estimators.normal import BonnetPrice
from visavis.blocks.estimators.pathwise import Pathwise
from visavis.blocks.estimators.quadratic import Quadratic
from visavis.blocks.estimators.relaxed import GumbelRao, GumbelSoftmax, ReinMax, Relaxed, StraightThrough
from visavis.blocks.estimators.schedules import exponential_annealing, linear_annealing
from visavis.blocks.estimators.score import RLOO, VIMCO, Baseline, NetworkBaseline, RunningBaseline, ScoreFunction

__all__ = [
    "ARM",
    "ESTIMATORS",
    "REBAR",
    "RELAX",
    "RLOO",
    "VIMCO",
    "Baseline",
    "BonnetPrice",
    "DisARM",
    "Estimator",
    "Exact",
    "GumbelRao",
    "GumbelSoftmax",
    "Implicit",
    "Integrand",
    "MeasureValued",
    "Name",
    "NetworkBaseline",
    "Pathwise",
    "PolynomialPathwise",
    "Quadratic",
    "ReinMax",
    "Relaxed",
    "Reparameterized",
    "Report",
    "Row",
    "RunningBaseline",
    "Sampler",
    "ScoreFunction",
    "StraightThrough",
    "TopK",
    "check",
    "enumerate_states",
    "estimator",
    "expect",
    "exponential_annealing",
    "gumbel_max",
    "gumbel_top_k",
    "linear_annealing",
    "polynomial_weight",
    "sample",
]

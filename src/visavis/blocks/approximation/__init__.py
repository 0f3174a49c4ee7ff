"""Stochastic approximation: estimates that move a step towards every new observation."""

from visavis.blocks.approximation.averaging import Averaged
from visavis.blocks.approximation.diagnosis import Diagnosis, diagnose
from visavis.blocks.approximation.intervals import random_scaling_quantile, wilson
from visavis.blocks.approximation.means import update_mean
from visavis.blocks.approximation.optima import Optimum, kiefer_wolfowitz, spsa
from visavis.blocks.approximation.projections import Ball, Box, Within, projection
from visavis.blocks.approximation.quantiles import RunningQuantile
from visavis.blocks.approximation.roots import Root, RootSearch, Trace, robbins_monro
from visavis.blocks.approximation.running import Running
from visavis.blocks.approximation.steps import Conditions, Constant, Geometric, Power, Steps, conditions
from visavis.blocks.approximation.tails import Tail, Threshold

__all__ = [
    "Averaged",
    "Ball",
    "Box",
    "Conditions",
    "Constant",
    "Diagnosis",
    "Geometric",
    "Optimum",
    "Power",
    "Root",
    "RootSearch",
    "Running",
    "RunningQuantile",
    "Steps",
    "Tail",
    "Threshold",
    "Trace",
    "Within",
    "conditions",
    "diagnose",
    "kiefer_wolfowitz",
    "projection",
    "random_scaling_quantile",
    "robbins_monro",
    "spsa",
    "update_mean",
    "wilson",
]

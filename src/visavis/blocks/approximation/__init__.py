"""Stochastic approximation: estimates that move a step towards every new observation."""

from visavis.blocks.approximation.intervals import random_scaling_quantile
from visavis.blocks.approximation.means import update_mean
from visavis.blocks.approximation.projections import Ball, Box, Within, projection
from visavis.blocks.approximation.roots import Root, RootSearch, Trace, robbins_monro
from visavis.blocks.approximation.running import Running
from visavis.blocks.approximation.steps import Conditions, Constant, Geometric, Power, Steps, conditions

__all__ = [
    "Ball",
    "Box",
    "Conditions",
    "Constant",
    "Geometric",
    "Power",
    "Root",
    "RootSearch",
    "Running",
    "Steps",
    "Trace",
    "Within",
    "conditions",
    "projection",
    "random_scaling_quantile",
    "robbins_monro",
    "update_mean",
]

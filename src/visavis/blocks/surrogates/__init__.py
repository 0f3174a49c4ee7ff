"""Smooth stand-ins for functions that have no gradient, or one that is zero nearly everywhere."""

from visavis.blocks.surrogates.elementary import step
from visavis.blocks.surrogates.sorting import exact_rank, rank, sort
from visavis.blocks.surrogates.verification import exact_tar_at_far, tar_at_far

__all__ = ["exact_rank", "exact_tar_at_far", "rank", "sort", "step", "tar_at_far"]

"""Smooth stand-ins for functions that have no gradient, or one that is zero nearly everywhere."""

from visavis.blocks.surrogates.agreement import cohen_kappa, exact_cohen_kappa, exact_matthews, matthews
from visavis.blocks.surrogates.classification import (
    accuracy,
    exact_accuracy,
    exact_f1,
    exact_f_beta,
    exact_precision,
    exact_recall,
    exact_top_k_accuracy,
    f1,
    f_beta,
    precision,
    recall,
    top_k_accuracy,
)
from visavis.blocks.surrogates.elementary import step
from visavis.blocks.surrogates.overlap import dice, exact_dice, exact_jaccard, jaccard
from visavis.blocks.surrogates.perturbation import perturb
from visavis.blocks.surrogates.ranking import (
    average_precision,
    exact_average_precision,
    exact_ndcg,
    exact_reciprocal_rank,
    exact_roc_auc,
    exact_spearman,
    ndcg,
    reciprocal_rank,
    roc_auc,
    spearman,
)
from visavis.blocks.surrogates.sequences import bleu, edit_distance, exact_bleu, exact_edit_distance
from visavis.blocks.surrogates.sorting import exact_rank, rank, sort
from visavis.blocks.surrogates.verification import exact_tar_at_far, tar_at_far

__all__ = [
    "accuracy",
    "average_precision",
    "bleu",
    "cohen_kappa",
    "dice",
    "edit_distance",
    "exact_accuracy",
    "exact_average_precision",
    "exact_bleu",
    "exact_cohen_kappa",
    "exact_dice",
    "exact_edit_distance",
    "exact_f1",
    "exact_f_beta",
    "exact_jaccard",
    "exact_matthews",
    "exact_ndcg",
    "exact_precision",
    "exact_rank",
    "exact_recall",
    "exact_reciprocal_rank",
    "exact_roc_auc",
    "exact_spearman",
    "exact_tar_at_far",
    "exact_top_k_accuracy",
    "f1",
    "f_beta",
    "jaccard",
    "matthews",
    "ndcg",
    "perturb",
    "precision",
    "rank",
    "recall",
    "reciprocal_rank",
    "roc_auc",
    "sort",
    "spearman",
    "step",
    "tar_at_far",
    "top_k_accuracy",
]

"""SEG and DET of the Cell Tracking Challenge, and the counts of split and merged cells.

Sources: M. Maška et al., A benchmark for comparison of cell tracking algorithms, 2014 (SEG); P. Matula et al., Cell
tracking accuracy measurement based on comparison of acyclic oriented graphs, 2015 (the detection part of AOGM is DET).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cellscale.metrics.overlaps import Overlaps
from cellscale.metrics.ratios import ratio

NS_WEIGHT, FN_WEIGHT, FP_WEIGHT = 5, 10, 1
"""Costs of the operations of AOGM on vertices, as the challenge sets them: NS, split an object that covers several
markers; FN, add an object for a marker without one; FP, delete an object without a marker."""


@dataclass(frozen=True, kw_only=True)
class ChallengeCounts:
    """Counts that add up over frames; a marker is a true cell, and belongs to the prediction that covers over half of
    it.
    """

    markers: int = 0
    """True cells."""
    objects: int = 0
    """Predicted cells."""
    matched_markers: int = 0
    """Markers that belong to a prediction."""
    matched_objects: int = 0
    """Predictions with at least one marker."""
    jaccard: float = 0.0
    """Sum of the Jaccard indices of matched markers and their predictions."""
    splits: int = 0
    """True cells with at least two predictions that lie mostly inside."""
    merges: int = 0
    """Predictions with at least two markers."""


def challenge_counts(pairs: Overlaps) -> ChallengeCounts:
    """Count one frame's markers, objects, splits and merges."""
    covers, inside = pairs.covers_truth, pairs.inside_truth
    markers_in = np.bincount(pairs.predicted[covers])
    return ChallengeCounts(
        markers=pairs.truth_areas.size,
        objects=pairs.predicted_areas.size,
        matched_markers=int(covers.sum()),
        matched_objects=int((markers_in > 0).sum()),
        jaccard=float(pairs.jaccard[covers].sum()),
        splits=int((np.bincount(pairs.truth[inside]) > 1).sum()),
        merges=int((markers_in > 1).sum()),
    )


def detection(counts: ChallengeCounts) -> float:
    """DET = 1 − min(AOGM-D, AOGM-D₀) / AOGM-D₀, nan without truth (Matula et al. 2015).

    AOGM-D = 5 NS + 10 FN + FP; a prediction with k markers needs k − 1 splits. AOGM-D₀ = 10 for each marker.
    """
    ns = counts.matched_markers - counts.matched_objects
    fn, fp = counts.markers - counts.matched_markers, counts.objects - counts.matched_objects
    cost = NS_WEIGHT * ns + FN_WEIGHT * fn + FP_WEIGHT * fp
    worst = FN_WEIGHT * counts.markers
    return 1.0 - ratio(min(cost, worst), worst, empty=float("nan"))


def challenge_scores(counts: ChallengeCounts) -> dict[str, float]:
    """SEG, DET, splits and merges; SEG is nan without ground truth as well.

    SEG is the mean over the true cells of the Jaccard index with the prediction that covers more than half of the cell,
    0 where there is none (Maška et al. 2014).
    """
    return {
        "seg": ratio(counts.jaccard, counts.markers, empty=float("nan")),
        "det": detection(counts),
        "splits": counts.splits,
        "merges": counts.merges,
    }

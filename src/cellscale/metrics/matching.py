"""Precision, recall, F1, mean Jaccard, AP and PQ: cells that match one to one.

A true and a predicted cell match at 0.5 if their Jaccard index is above 0.5, and at a threshold t > 0.5 if it is at
least t. Above one half a cell has at most one match, so no assignment is needed. (Tools that accept exactly 0.5 need
one, and count such pairs as matched.)

Sources: J. C. Caicedo et al., Nucleus segmentation across imaging experiments, 2019 (F1 and AP over thresholds, where
AP is TP / (TP + FP + FN)); A. Kirillov et al., Panoptic segmentation, 2019, eq. 1 (PQ).
"""

from __future__ import annotations

from dataclasses import dataclass

from cellscale.metrics.overlaps import Overlaps
from cellscale.metrics.ratios import ratio

PERCENTS = tuple(range(50, 100, 5))
"""Jaccard thresholds of AP, in hundredths."""


@dataclass(frozen=True, kw_only=True)
class MatchCounts:
    """Counts that add up over frames."""

    truth_cells: int = 0
    """True cells."""
    predicted_cells: int = 0
    """Predicted cells."""
    matches: tuple[int, ...] = (0,) * len(PERCENTS)
    """Matched pairs at each threshold."""
    jaccard: float = 0.0
    """Sum of the Jaccard indices of the pairs that match at 0.5."""


def match_counts(pairs: Overlaps) -> MatchCounts:
    """Count the cells of one frame and their matches at each threshold."""
    shared, united = 100 * pairs.shared, pairs.united
    above_half = 2 * pairs.shared > united
    higher = [int((shared >= percent * united).sum()) for percent in PERCENTS[1:]]
    return MatchCounts(
        truth_cells=pairs.truth_areas.size,
        predicted_cells=pairs.predicted_areas.size,
        matches=(int(above_half.sum()), *higher),
        jaccard=float(pairs.jaccard[above_half].sum()),
    )


def average_precisions(counts: MatchCounts) -> dict[str, float]:
    """AP = TP / (TP + FP + FN) at each threshold as `ap_50` … `ap_95`, and their mean as `ap`; 1 without any cell."""
    cells = counts.truth_cells + counts.predicted_cells
    found = {f"ap_{p}": ratio(tp, cells - tp) for p, tp in zip(PERCENTS, counts.matches, strict=True)}
    return found | {"ap": sum(found.values()) / len(found)}


def match_scores(counts: MatchCounts) -> dict[str, float]:
    """Precision, recall, F1, mean Jaccard J (of matches, of all true cells), AP and PQ.

    F1 = 2 TP / (2 TP + FP + FN) and PQ = ΣJ / (TP + FP/2 + FN/2), both at 0.5. Without any cell all are 1; a share of
    nothing is else 0.
    """
    truth, predicted, tp = counts.truth_cells, counts.predicted_cells, counts.matches[0]
    empty = float(truth + predicted == 0)
    return {
        "precision": ratio(tp, predicted, empty=empty),
        "recall": ratio(tp, truth, empty=empty),
        "f1": ratio(2 * tp, truth + predicted),
        "mean_matched_iou": ratio(counts.jaccard, tp, empty=empty),
        "mean_iou": ratio(counts.jaccard, truth, empty=empty),
        **average_precisions(counts),
        "pq": ratio(2 * counts.jaccard, truth + predicted),
        "truth_cells": truth,
        "predicted_cells": predicted,
    }

"""Scores of pooled pixels: Dice of the foreground and the aggregated Jaccard index.

Sources: L. R. Dice, Measures of the amount of ecologic association between species, 1945; N. Kumar et al., A dataset
and a technique for generalized nuclear segmentation for computational pathology, 2017, algorithm 1 (AJI).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cellscale.metrics.overlaps import Overlaps
from cellscale.metrics.ratios import ratio


@dataclass(frozen=True, kw_only=True)
class PixelCounts:
    """Pixels that add up over frames."""

    truth: int = 0
    """In true cells."""
    predicted: int = 0
    """In predicted cells."""
    shared: int = 0
    """In both."""
    aggregated_shared: int = 0
    """Shared by each true cell and its best prediction, summed."""
    aggregated_united: int = 0
    """In either of them, summed, and in predictions that are not the best of any cell."""


def best_pairs(pairs: Overlaps) -> NDArray[np.int64]:
    """Return the pair of highest Jaccard index of each true cell that has one, (n,); ties to the lower label."""
    order = np.lexsort((pairs.predicted, -pairs.jaccard, pairs.truth))
    first = np.unique(pairs.truth[order], return_index=True)[1]
    return order[first]


def pixel_counts(pairs: Overlaps) -> PixelCounts:
    """Count one frame's pixels.

    AJI as printed lets several true cells have the same best prediction. A true cell without any overlap adds its own
    area to the union, as the authors' program does.
    """
    best = best_pairs(pairs)
    alone = pairs.truth_areas.sum() - pairs.truth_areas[pairs.truth[best]].sum()
    unused = pairs.predicted_areas.sum() - pairs.predicted_areas[np.unique(pairs.predicted[best])].sum()
    return PixelCounts(
        truth=int(pairs.truth_areas.sum()),
        predicted=int(pairs.predicted_areas.sum()),
        shared=int(pairs.shared.sum()),
        aggregated_shared=int(pairs.shared[best].sum()),
        aggregated_united=int(pairs.united[best].sum() + alone + unused),
    )


def pixel_scores(counts: PixelCounts) -> dict[str, float]:
    """AJI (Kumar et al. 2017), Dice of the foreground of the whole image, alias DSC; all are 1 without any cell."""
    dice = ratio(2 * counts.shared, counts.truth + counts.predicted)
    return {"aji": ratio(counts.aggregated_shared, counts.aggregated_united), "dice": dice, "dsc": dice}

"""Dice and mean squared error of cells, each against the predicted cell with the nearest centroid; and of whole images.

The scores of the Multi-CellNet paper; the matching of cells and the region of a cell's error are ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from cellscale.kernels.tables import centroids
from cellscale.metrics.overlaps import Overlaps
from cellscale.metrics.ratios import ratio
from cellscale.types import Table


@dataclass(frozen=True, kw_only=True)
class CentroidCounts:
    """Counts that add up over frames."""

    cells: int = 0
    """True cells."""
    dice: float = 0.0
    """Sum of their Dice coefficients; 0 where a frame has no predicted cell."""
    error: float = 0.0
    """Sum of their mean squared errors."""
    pixels: int = 0
    """Pixels of the images."""
    wrong: int = 0
    """Pixels that are a cell's in one image only."""


def _boxes(cells: Table) -> NDArray[np.int64]:
    """Bounding boxes y0, x0, y1, x1 (half-open), (n, 4)."""
    return np.stack([cells[side] for side in ("y0", "x0", "y1", "x1")], axis=1)


def nearest_centroids(truth: Table, predicted: Table) -> NDArray[np.int64]:
    """Number of the predicted cell nearest to each true cell by centroid, ties to the lower label, (n,); −1: none."""
    places, others = centroids(truth), centroids(predicted)
    if not len(places) or not len(others):
        return np.full(len(places), -1, np.int64)
    tree = cKDTree(others)
    near = tree.query_ball_point(places, 1.001 * tree.query(places)[0])
    best = [
        min(found, key=lambda j: (float(((others[j] - at) ** 2).sum()), j))
        for at, found in zip(places, near, strict=True)
    ]
    return np.array(best, np.int64)


def _shared(pairs: Overlaps, nearest: NDArray[np.int64]) -> NDArray[np.int64]:
    """Pixels that each true cell shares with its nearest prediction, (n,)."""
    shared = np.zeros(pairs.truth_areas.size, np.int64)
    own = pairs.predicted == nearest[pairs.truth]
    shared[pairs.truth[own]] = pairs.shared[own]
    return shared


def centroid_counts(truth: Table, predicted: Table, pairs: Overlaps, pixels: int, wrong: int) -> CentroidCounts:
    """Count one frame's cells: Dice 2|A ∩ B| / (|A| + |B|), and |A ∆ B| over the pixels of the box around both.

    Parameters
    ----------
    truth, predicted : Table
        Cells in ascending label order, as `fragment_table` has them.
    pairs : Overlaps
        Pairs of the same cells.
    pixels, wrong : int
        Pixels of the frame, and those that are a cell's in one image only.
    """
    nearest = nearest_centroids(truth, predicted)
    found = nearest >= 0
    shared = _shared(pairs, nearest)
    boxes = _boxes(truth)
    areas = pairs.truth_areas.copy()
    if found.any():
        others = _boxes(predicted)[nearest]
        boxes = np.hstack([np.minimum(boxes[:, :2], others[:, :2]), np.maximum(boxes[:, 2:], others[:, 2:])])
        areas += pairs.predicted_areas[nearest]
    sizes = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return CentroidCounts(
        cells=areas.size,
        dice=float((2 * shared / areas)[found].sum()),
        error=float(((areas - 2 * shared) / sizes).sum()),
        pixels=pixels,
        wrong=wrong,
    )


def centroid_scores(counts: CentroidCounts) -> dict[str, float]:
    """`pixel_error` of the whole masks; `cell_dice` and `cell_pixel_error`, means over true cells (nan without any)."""
    return {
        "pixel_error": ratio(counts.wrong, counts.pixels, empty=0.0),
        "cell_dice": ratio(counts.dice, counts.cells, empty=float("nan")),
        "cell_pixel_error": ratio(counts.error, counts.cells, empty=float("nan")),
    }

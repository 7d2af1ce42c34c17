"""Dice and mean squared error of cells, each against the predicted cell with the nearest centroid; and of whole images.

The scores of the Multi-CellNet paper; how cells are matched and over what the error of a cell is averaged are ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from cellscale.arrays import Labels
from cellscale.kernels.compiling import kernel
from cellscale.kernels.overlaps import label_areas
from cellscale.metrics.overlaps import Overlaps
from cellscale.metrics.ratios import ratio


@dataclass(frozen=True, kw_only=True)
class CentroidCounts:
    """What adds up over frames."""

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


@kernel
def _measure(labels: Labels, ids: NDArray[np.int64], out: NDArray[np.int64]) -> None:
    """Sums of coordinates and bounding box (half-open) of each cell; `ids` are its labels, ascending."""
    number = 0
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            if labels[y, x] > 0:
                if ids[number] != labels[y, x]:
                    number = np.searchsorted(ids, labels[y, x])
                row = out[number]
                row[0], row[1] = row[0] + y, row[1] + x
                row[2], row[3] = min(row[2], y), min(row[3], x)
                row[4], row[5] = max(row[4], y + 1), max(row[5], x + 1)


def _measured(labels: Labels) -> NDArray[np.int64]:
    """sum_y, sum_x, y0, x0, y1, x1 of the cells in ascending label order, (cells, 6)."""
    ids, _ = label_areas(labels)
    out = np.zeros((len(ids), 6), np.int64)
    out[:, 2:4] = np.iinfo(np.int64).max
    _measure(labels, ids, out)
    return out


def nearest_centroids(truth: Labels, prediction: Labels, pairs: Overlaps) -> NDArray[np.int64]:
    """Number of the predicted cell nearest to each true cell by centroid, (n,); −1 where there is none."""
    if pairs.predicted_areas.size == 0:
        return np.full(pairs.truth_areas.size, -1)
    centres = [
        _measured(labels)[:, :2] / areas[:, None]
        for labels, areas in ((truth, pairs.truth_areas), (prediction, pairs.predicted_areas))
    ]
    return cKDTree(centres[1]).query(centres[0])[1].astype(np.int64)


def _shared(pairs: Overlaps, nearest: NDArray[np.int64]) -> NDArray[np.int64]:
    """Pixels that each true cell shares with its nearest prediction, (n,)."""
    shared = np.zeros(pairs.truth_areas.size, np.int64)
    own = pairs.predicted == nearest[pairs.truth]
    shared[pairs.truth[own]] = pairs.shared[own]
    return shared


def centroid_counts(truth: Labels, prediction: Labels, pairs: Overlaps) -> CentroidCounts:
    """Count one frame's cells: Dice 2|A ∩ B| / (|A| + |B|), and |A ∆ B| over the pixels of the box around both."""
    nearest = nearest_centroids(truth, prediction, pairs)
    found = nearest >= 0
    shared = _shared(pairs, nearest)
    boxes = _measured(truth)[:, 2:]
    areas = pairs.truth_areas.copy()
    if found.any():
        others = _measured(prediction)[nearest, 2:]
        boxes = np.hstack([np.minimum(boxes[:, :2], others[:, :2]), np.maximum(boxes[:, 2:], others[:, 2:])])
        areas += pairs.predicted_areas[nearest]
    sizes = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return CentroidCounts(
        cells=areas.size,
        dice=float((2 * shared / areas)[found].sum()),
        error=float(((areas - 2 * shared) / sizes).sum()),
        pixels=truth.size,
        wrong=int(((truth > 0) != (prediction > 0)).sum()),
    )


def centroid_scores(counts: CentroidCounts) -> dict[str, float]:
    """`mse` of the whole images' masks; `cell_dice` and `cell_mse`, means over the true cells (nan without any)."""
    return {
        "mse": ratio(counts.wrong, counts.pixels, empty=0.0),
        "cell_dice": ratio(counts.dice, counts.cells, empty=float("nan")),
        "cell_mse": ratio(counts.error, counts.cells, empty=float("nan")),
    }

"""CDS, the cell detection score: cells matched one to one by place and area.

A true and a predicted cell may match if their centroids are at most half the true cell's equivalent radius apart and
their areas differ by a factor of at most 2; the nearest pairs match first. (The paper names position and area without
the limits.)

Source: A. Torr et al., DeepSplit, 2020, eq. 2.
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

FARTHEST = 0.5
"""Distance of centroids, in equivalent radii √(area / π) of the true cell."""
LARGEST_RATIO = 2
"""Largest ratio of the larger area to the smaller."""


@dataclass(frozen=True, kw_only=True)
class DetectionCounts:
    """Counts that add up over frames."""

    truth_cells: int = 0
    """True cells: TP + FN."""
    predicted_cells: int = 0
    """Predicted cells: TP + FP."""
    detected: int = 0
    """Pairs: TP."""


def _pairs_within(
    places: NDArray[np.float64], others: NDArray[np.float64], radii: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers of the pairs of points at most `radii` px apart, and perhaps a little more."""
    if not (len(places) and len(others)):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    near = [np.array(found, np.int64) for found in cKDTree(others).query_ball_point(places, 1.001 * radii)]
    return np.repeat(np.arange(len(near)), [len(found) for found in near]), np.concatenate(near)


def detection_counts(truth: Table, predicted: Table, pairs: Overlaps) -> DetectionCounts:
    """Count the cells of one frame and those that match; tables of cells as `fragment_table` has them."""
    area, other_area = pairs.truth_areas, pairs.predicted_areas
    place, other_place = centroids(truth), centroids(predicted)
    a, b = _pairs_within(place, other_place, FARTHEST * np.sqrt(area / np.pi))
    squared = ((place[a] - other_place[b]) ** 2).sum(axis=1)
    alike = np.maximum(area[a], other_area[b]) <= LARGEST_RATIO * np.minimum(area[a], other_area[b])
    near = squared <= FARTHEST**2 * area[a] / np.pi
    order = np.lexsort((b, a, squared))
    free, other_free = np.ones(len(area), bool), np.ones(len(other_area), bool)
    for pair in order[(alike & near)[order]]:
        if free[a[pair]] and other_free[b[pair]]:
            free[a[pair]] = other_free[b[pair]] = False
    return DetectionCounts(truth_cells=len(area), predicted_cells=len(other_area), detected=int((~free).sum()))


def detection_scores(counts: DetectionCounts) -> dict[str, float]:
    """CDS = 2 TP / (2 TP + FP + FN); 1 without any cell."""
    return {"cds": ratio(2 * counts.detected, counts.truth_cells + counts.predicted_cells)}

"""Overlaps of true and predicted cells, from which every score of whole cells is computed.

A pair is a true and a predicted cell with at least one common pixel; both are numbered from 0 in ascending label order.
All numbers are integers, so no score depends on rounding at a threshold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cellscale.kernels.overlaps import overlap_table
from cellscale.types import Labels


@dataclass(frozen=True, kw_only=True)
class Overlaps:
    """The pairs of one frame and the areas of its cells, all int64."""

    truth: NDArray[np.int64]
    """Number of the true cell of each pair, (n,)."""
    predicted: NDArray[np.int64]
    """Number of the predicted cell of each pair, (n,)."""
    shared: NDArray[np.int64]
    """Common pixels of each pair, (n,)."""
    truth_areas: NDArray[np.int64]
    """Pixels of each true cell."""
    predicted_areas: NDArray[np.int64]
    """Pixels of each predicted cell."""

    @property
    def united(self) -> NDArray[np.int64]:
        """Pixels in either cell of each pair, (n,)."""
        return self.truth_areas[self.truth] + self.predicted_areas[self.predicted] - self.shared

    @property
    def jaccard(self) -> NDArray[np.float64]:
        """Jaccard index (IoU) of each pair, (n,)."""
        return self.shared / self.united

    @property
    def covers_truth(self) -> NDArray[np.bool_]:
        """Pairs whose prediction covers more than half of the true cell, (n,): at most one for each true cell."""
        return 2 * self.shared > self.truth_areas[self.truth]

    @property
    def inside_truth(self) -> NDArray[np.bool_]:
        """Pairs whose prediction has more than half of its area in the true cell, (n,): at most one a prediction."""
        return 2 * self.shared > self.predicted_areas[self.predicted]


def _areas(ids: NDArray[np.int64], pixels: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the pixels of each cell and the number of each row's label (-1: background)."""
    cells, numbers = np.unique(ids, return_inverse=True)
    areas = np.zeros(cells.size, np.int64)
    np.add.at(areas, numbers, pixels)
    first = int(cells.size > 0 and cells[0] == 0)
    return areas[first:], numbers.astype(np.int64) - first


def overlaps(truth: Labels, prediction: Labels) -> Overlaps:
    """Find the pairs of true and predicted cells that share pixels.

    Parameters
    ----------
    truth, prediction : uint32 array, (y, x)
        Label images of equal shape.
    """
    return overlaps_of(*overlap_table(truth, prediction))


def overlaps_of(ids: NDArray[np.int64], predicted_ids: NDArray[np.int64], pixels: NDArray[np.int64]) -> Overlaps:
    """Find the pairs of cells in the pairs of labels that `overlap_table` returns, background included."""
    truth_areas, numbers = _areas(ids, pixels)
    predicted_areas, predicted_numbers = _areas(predicted_ids, pixels)
    cells = (numbers >= 0) & (predicted_numbers >= 0)
    return Overlaps(
        truth=numbers[cells],
        predicted=predicted_numbers[cells],
        shared=pixels[cells],
        truth_areas=truth_areas,
        predicted_areas=predicted_areas,
    )

"""Labels at points between pixels, without the notches that the nearest pixel leaves in a turned outline.

Each label is warped as a smooth membership: the cubic B-spline of its indicator function, without prefilter. The
greatest membership wins, so an outline follows the level line of the smoothed mask instead of the stairs of its pixels.

M. Unser, Splines: a perfect fit for signal and image processing, IEEE Signal Processing Magazine 16, 1999.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cellscale.errors import InputError
from cellscale.kernels.compiling import kernel

L = TypeVar("L", bound=np.integer)
SUPPORT = 4
"""Pixels of each axis on which a cubic B-spline is not 0."""


@kernel
def _mirrored(index: int, size: int) -> int:
    """Fold an index into the image: … 2 1 0 1 2 …, the border pixel once."""
    if size == 1:
        return 0
    folded = index % (2 * size - 2)
    return min(folded, 2 * size - 2 - folded)


@kernel
def _spline(rest: float, weights: NDArray[np.float64]) -> None:
    """Write the weights of the pixels at −1, 0, 1 and 2 for a point `rest` px behind pixel 0; their sum is 1."""
    left = 1 - rest
    weights[0] = left**3 / 6
    weights[1] = (4 - 6 * rest**2 + 3 * rest**3) / 6
    weights[2] = (4 - 6 * left**2 + 3 * left**3) / 6
    weights[3] = rest**3 / 6


@kernel
def _warp(labels: NDArray[L], points: NDArray[np.float64], out: NDArray[L]) -> None:
    """Write the label with the greatest membership at each point; shapes as in `warped_labels`."""
    height, width = labels.shape
    by_row, by_column = np.empty(SUPPORT), np.empty(SUPPORT)
    rows, columns = np.empty(SUPPORT, np.int64), np.empty(SUPPORT, np.int64)
    # The labels of the 4 × 4 pixels around a point, each once, and the sums of their weights.
    seen, shares = np.empty(SUPPORT**2, labels.dtype), np.empty(SUPPORT**2)
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            y, x = int(np.floor(points[0, i, j])), int(np.floor(points[1, i, j]))
            for k in range(SUPPORT):
                rows[k], columns[k] = _mirrored(y - 1 + k, height), _mirrored(x - 1 + k, width)
            # Away from outlines all 16 pixels have one label: no weights are needed.
            first, alike = labels[rows[0], columns[0]], True
            for k in range(SUPPORT):
                for m in range(SUPPORT):
                    alike &= labels[rows[k], columns[m]] == first
            if alike:
                out[i, j] = first
                continue
            _spline(points[0, i, j] - y, by_row)
            _spline(points[1, i, j] - x, by_column)
            count = 0
            for k in range(SUPPORT):
                for m in range(SUPPORT):
                    label, n = labels[rows[k], columns[m]], 0
                    while n < count and seen[n] != label:
                        n += 1
                    if n == count:
                        seen[n], shares[n] = label, 0
                        count += 1
                    shares[n] += by_row[k] * by_column[m]
            best = 0
            for n in range(1, count):
                if shares[n] > shares[best]:
                    best = n
            out[i, j] = seen[best]


def warped_labels(labels: NDArray[L], points: NDArray[np.floating[Any]]) -> NDArray[L]:
    """Sample a label image at points between its pixels.

    Parameters
    ----------
    labels : integer array, (y, x)
        Cells; mirrored beyond the image.
    points : float array, (2, rows, columns)
        y and x of each sample, px.

    Returns
    -------
    integer array, (rows, columns)
        The label of the greatest share of the cubic B-spline around the point; of equal shares the one seen first in
        raster order. At a pixel's centre a label that covers its 3 × 3 neighbours' greater part wins: objects of a
        single pixel vanish.

    Raises
    ------
    InputError
        If the labels are no plane of at least one pixel.
    """
    if labels.ndim != 2 or labels.size == 0:
        raise InputError(f"labels has the shape {labels.shape}; expected (y, x) with at least one pixel.")
    out = np.empty(points.shape[1:], labels.dtype)
    _warp(np.ascontiguousarray(labels), np.ascontiguousarray(points, np.float64), out)
    return out

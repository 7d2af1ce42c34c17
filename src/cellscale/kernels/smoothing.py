"""Gaussian smoothing of planes in one pass: each row along the columns, then along itself, sums in a fixed order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cellscale.kernels.compiling import kernel

CUT = 4
"""Widths at which a Gaussian is cut."""


@kernel
def _add(weight: float, before: NDArray[np.float64], after: NDArray[np.float64], total: NDArray[np.float64]) -> None:
    for x in range(total.size):
        total[x] += (before[x] + after[x]) * weight


@kernel
def _smooth(image: NDArray[np.float32], weights: NDArray[np.float64], out: NDArray[np.float32]) -> None:
    """Apply weights of the offsets 0, 1, …, farthest first, along y and then along x; the border is repeated."""
    height, width = image.shape
    reach = weights.size - 1
    rows = np.empty((2 * reach + 1, width))
    for j in range(2 * reach + 1):
        rows[j] = image[min(max(j - reach, 0), height - 1)]
    line, total = np.empty(width + 2 * reach), np.empty(width)
    middle = line[reach : reach + width]
    for y in range(height):
        rows[(y + 2 * reach) % (2 * reach + 1)] = image[min(y + reach, height - 1)]
        for x in range(width):
            total[x] = rows[(y + reach) % (2 * reach + 1), x] * weights[0]
        for j in range(reach, 0, -1):
            _add(weights[j], rows[(y + reach - j) % (2 * reach + 1)], rows[(y + reach + j) % (2 * reach + 1)], total)
        for x in range(width):
            middle[x] = np.float32(total[x])
        line[:reach], line[reach + width :] = middle[0], middle[width - 1]
        for x in range(width):
            total[x] = middle[x] * weights[0]
        for j in range(reach, 0, -1):
            _add(weights[j], line[reach - j : reach - j + width], line[reach + j :], total)
        for x in range(width):
            out[y, x] = total[x]


def gaussian(image: NDArray[np.float32], *, sigma: float) -> NDArray[np.float32]:
    """Smooth a plane with a Gaussian of width `sigma` px, cut at 4 widths; its border is repeated outwards.

    Parameters
    ----------
    image : float32 array, (y, x)
        What is smoothed.
    sigma : float
        Width, px; 0: nothing changes.

    Returns
    -------
    float32 array, (y, x)
        Sums in float64, farthest first, rounded to float32 after each axis.
    """
    out = np.ascontiguousarray(image).copy()
    if sigma > 0 and image.size:
        offsets = np.arange(-int(CUT * sigma + 0.5), int(CUT * sigma + 0.5) + 1)
        weights = np.exp(-0.5 / sigma**2 * offsets**2)
        _smooth(np.ascontiguousarray(image), (weights / weights.sum())[offsets >= 0], out)
    return out

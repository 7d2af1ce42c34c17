"""Gaussian smoothing of planes: a separable filter, along the columns and then along the rows.

Each sum is formed in the same order at every pixel, farthest pair of neighbours first, whatever surrounds it: results
do not depend on how a frame is divided, which running sums and FFT convolution cannot promise. Regions whose whole
surroundings are 0 are skipped: their sum is exactly 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cellscale.kernels.compiling import kernel

CUT = 4
"""Distance at which the Gaussian is cut, in widths sigma."""
BLOCK = 64
"""Side of the blocks that are skipped together where all is 0, px."""
LONG = 1024
"""Pixels that are summed together: their float64 sums, 8 KiB, stay in the first-level cache."""
TAPS = 4
"""Pairs of neighbours that one pass over the sums adds; the weights are padded with 0 to a multiple of it."""


@kernel
def _any(bits: NDArray[np.int32], top: int, bottom: int, left: int, right: int) -> bool:
    """Return whether a box, clipped to the image, has a value other than 0.

    float32 values are tested by their bits; −0.0 counts as a value. An OR over all pixels is vectorised, an early exit
    is not.
    """
    found = np.int32(0)
    for y in range(max(top, 0), min(bottom, bits.shape[0])):
        row = bits[y, left:right]
        for x in range(row.size):
            found = np.int32(found | row[x])
    return bool(found != 0)


@kernel
def _sum(line: NDArray[np.float64], step: int, weights: NDArray[np.float64], total: NDArray[np.float64]) -> None:
    """Write weighted sums over the neighbours 0 … reach steps away on both sides, the farthest first.

    Parameters
    ----------
    line : float64 array, (n,)
        Values; sum x is centred at reach · step + x.
    step : int
        Distance of neighbours in the line: 1 along a row, the width of a row to sum along columns.
    weights : float64 array, (reach + 1,)
        Weight of each distance; `reach` is a multiple of TAPS.
    total : float64 array, (m,)
        Gets the sums.
    """
    reach = weights.size - 1
    here = line[reach * step :]
    for x in range(total.size):
        total[x] = here[x] * weights[0]
    # a: neighbours j, j − 1, j − 2, j − 3 steps before, b: after.
    for j in range(reach, 0, -TAPS):
        w0, w1, w2, w3 = weights[j], weights[j - 1], weights[j - 2], weights[j - 3]
        a0, b3 = line[(reach - j) * step :], line[(reach + j - 3) * step :]
        a1, a2, a3 = a0[step:], a0[2 * step :], a0[3 * step :]
        b2, b1, b0 = b3[step:], b3[2 * step :], b3[3 * step :]
        for x in range(total.size):
            some = total[x] + (a0[x] + b0[x]) * w0
            some += (a1[x] + b1[x]) * w1
            some += (a2[x] + b2[x]) * w2
            total[x] = some + (a3[x] + b3[x]) * w3


@kernel
def _along_y(image: NDArray[np.float32], weights: NDArray[np.float64], out: NDArray[np.float32]) -> None:
    """Write sums along the columns block by block; `out` is 0 before, and stays so where a block's surroundings are 0.

    A block and the `reach` rows above and below are copied into a slab (BLOCK + 2 · reach, BLOCK), border rows
    repeated. Flattened, the neighbour in the next row is BLOCK entries on, so one loop sums several rows.
    """
    height, width = image.shape
    reach = weights.size - 1
    slab, total = np.zeros((BLOCK + 2 * reach, BLOCK)), np.empty(LONG)
    sums = total.reshape(-1, BLOCK)
    for left in range(0, width, BLOCK):
        for top in range(0, height, BLOCK):
            right, bottom = min(left + BLOCK, width), min(top + BLOCK, height)
            if not _any(image.view(np.int32), top - reach, bottom + reach, left, right):
                continue
            for y in range(top - reach, bottom + reach):
                source, target = image[min(max(y, 0), height - 1), left:right], slab[y - top + reach]
                for x in range(source.size):
                    target[x] = source[x]
            for y in range(top, bottom, sums.shape[0]):
                rows = min(sums.shape[0], bottom - y)
                _sum(slab[y - top :].reshape(-1), BLOCK, weights, total[: rows * BLOCK])
                for k in range(rows):
                    found, some = out[y + k, left:right], sums[k]
                    for x in range(found.size):
                        found[x] = some[x]


@kernel
def _along_x(image: NDArray[np.float32], weights: NDArray[np.float64]) -> None:
    """Replace each row by its sums along the row, border pixels repeated; stretches of BLOCK zeros are skipped."""
    height, width = image.shape
    reach = weights.size - 1
    # BLOCK entries beyond the last neighbour stay 0, so that the test below may look at a whole block there.
    line, total = np.zeros(width + 2 * reach + BLOCK), np.empty(LONG)
    bits = line.view(np.int64)
    for y in range(height):
        if not _any(image.view(np.int32), y, y + 1, 0, width):
            continue
        row, middle = image[y], line[reach : reach + width]
        for x in range(width):
            middle[x] = row[x]
        line[:reach], line[reach + width : 2 * reach + width] = row[0], row[width - 1]
        # Pixels a … b − 1, at most LONG of them, are summed together: blocks with anything but 0 within reach.
        a = 0
        while a < width:
            b, near = a, True
            while near and b < min(width, a + LONG):
                part, found = bits[b : b + BLOCK + 2 * reach], np.int64(0)
                for x in range(part.size):
                    found |= part[x]
                near = found != 0
                b += BLOCK * near
            if b > a:
                some = row[a:b]
                _sum(line[a:], 1, weights, total[: some.size])
                for x in range(some.size):
                    some[x] = total[x]
            a = max(b, a + BLOCK)


def gaussian(image: NDArray[np.float32], *, sigma: float) -> NDArray[np.float32]:
    """Smooth a plane with a Gaussian of width `sigma`, cut at 4 sigma; border pixels are repeated outwards.

    Parameters
    ----------
    image : float32 array, (y, x)
        Plane.
    sigma : float
        Width, px; with 0 the plane is returned unchanged.

    Returns
    -------
    float32 array, (y, x)
        Smoothed plane; sums are float64 and rounded to float32 after each axis.
    """
    if sigma == 0 or image.size == 0:
        return image.copy()
    out = np.zeros_like(image)
    reach = int(CUT * sigma + 0.5)
    weights = np.exp(-0.5 / sigma**2 * np.arange(-reach, reach + 1) ** 2)
    weights = np.pad((weights / weights.sum())[reach:], (0, -reach % TAPS))
    _along_y(np.ascontiguousarray(image), weights, out)
    _along_x(out, weights)
    return out

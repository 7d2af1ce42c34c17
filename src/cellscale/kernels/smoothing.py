"""Gaussian smoothing of planes in one pass: each row along the columns, then along itself, sums in a fixed order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cellscale.kernels.compiling import kernel

CUT = 4
"""Widths at which a Gaussian is cut."""
BLOCK = 64
"""So many columns are left out together where all is 0, px."""


@kernel
def _add(weight: float, before: NDArray[np.float64], after: NDArray[np.float64], total: NDArray[np.float64]) -> None:
    for x in range(total.size):
        total[x] += (before[x] + after[x]) * weight


@kernel
def _notice(row: NDArray[np.float64], blocks: NDArray[np.int64], rows: int) -> None:
    """Note in which blocks a new row has anything but 0, for how many rows to come."""
    bits = row.view(np.int64)
    for i in range(blocks.size):
        part = bits[i * BLOCK : (i + 1) * BLOCK]
        found = np.int64(0)
        for x in range(part.size):
            found |= part[x]
        blocks[i] = rows if found != 0 else max(blocks[i] - 1, 0)


@kernel
def _is_near(blocks: NDArray[np.int64], i: int, aside: int) -> bool:
    most = 0
    for k in range(max(i - aside, 0), min(i + aside + 1, blocks.size)):
        most = max(most, blocks[k])
    return most > 0


@kernel
def _next_span(blocks: NDArray[np.int64], begin: int, aside: int) -> tuple[int, int]:
    """Return the first blocks from `begin` on that have something in them or so many blocks aside; half-open."""
    a = begin
    while a < blocks.size and not _is_near(blocks, a, aside):
        a += 1
    b = a
    while b < blocks.size and _is_near(blocks, b, aside):
        b += 1
    return a, b


@kernel
def _smooth(image: NDArray[np.float32], weights: NDArray[np.float64], out: NDArray[np.float32]) -> None:
    """Apply weights of the offsets 0, 1, …, farthest first, along y and then along x; the border is repeated.

    What is 0 and farther than that from all else stays as it is: 0.
    """
    height, width = image.shape
    reach = weights.size - 1
    size = 2 * reach + 1
    rows, blocks = np.empty((size, width)), np.zeros(-(-width // BLOCK), np.int64)
    aside = -(-reach // BLOCK)
    for j in range(2 * reach):
        rows[j] = image[min(max(j - reach, 0), height - 1)]
        _notice(rows[j], blocks, size)
    line, total = np.zeros(width + 2 * reach), np.empty(width)
    middle = line[reach : reach + width]
    for y in range(height):
        rows[(y + 2 * reach) % size] = image[min(y + reach, height - 1)]
        _notice(rows[(y + 2 * reach) % size], blocks, size)
        line[:] = 0
        a, b = _next_span(blocks, 0, aside)
        while a < b:
            begin, end = a * BLOCK, min(b * BLOCK, width)
            here, some = rows[(y + reach) % size, begin:end], total[begin:end]
            for x in range(some.size):
                some[x] = here[x] * weights[0]
            for j in range(reach, 0, -1):
                before, after = rows[(y + reach - j) % size, begin:end], rows[(y + reach + j) % size, begin:end]
                _add(weights[j], before, after, some)
            for x in range(some.size):
                middle[begin + x] = np.float32(some[x])
            a, b = _next_span(blocks, b, aside)
        line[:reach], line[reach + width :] = middle[0], middle[width - 1]
        a, b = _next_span(blocks, 0, aside)
        while a < b:
            begin, end = a * BLOCK, min(b * BLOCK, width)
            some, found = total[begin:end], out[y, begin:end]
            for x in range(some.size):
                some[x] = middle[begin + x] * weights[0]
            for j in range(reach, 0, -1):
                _add(weights[j], line[begin + reach - j :], line[begin + reach + j :], some)
            for x in range(some.size):
                found[x] = some[x]
            a, b = _next_span(blocks, b, aside)


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
    if sigma == 0 or image.size == 0:
        return image.copy()
    out = np.zeros_like(image)
    offsets = np.arange(-int(CUT * sigma + 0.5), int(CUT * sigma + 0.5) + 1)
    weights = np.exp(-0.5 / sigma**2 * offsets**2)
    _smooth(np.ascontiguousarray(image), (weights / weights.sum())[offsets >= 0], out)
    return out

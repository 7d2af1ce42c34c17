"""The compiled parts of exact distance transforms: scans along the columns, then along the rows.

Along a line a pixel's distance is bounded by that to the end of its run of equal labels, so candidates beyond the run
never win and need no test. From one line to the next a distance grows by a step at most: that, and the least that is
offered around, bound how far a block of pixels looks to both sides, many pixels at once, in 16 bits where all squared
distances of the line are below NARROW.
Other lines take lower envelopes, so that the work is linear however far distances go.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellscale.kernels.compiling import kernel
from cellscale.kernels.distances.envelopes import NONE, SQUARED, envelope
from cellscale.types import Labels

BLOCK = 64
"""So many pixels look at once."""
NARROW = int(np.iinfo(np.int16).max)
"""Squared distances below this fit into 16 bits, and so does the sum of two."""
ASIDE = 182
"""The square of this, px, is above NARROW."""
UNBOUNDED = 1 << 62
"""A bound that allows all squared distances."""
UNSEEN = 1 << 15
"""Vertical distances from here on mean that there is no other label in the column, px."""


@kernel
def in_columns(labels: Labels, begin: int, end: int, out: NDArray[np.uint16]) -> None:
    """Write the vertical distance to the nearest other label for columns `begin` … `end` − 1; background: 0."""
    for x in range(begin, end):
        out[0, x] = UNSEEN if labels[0, x] > 0 else 0
    for y in range(1, labels.shape[0]):
        here, above = labels[y, begin:end], labels[y - 1, begin:end]
        found, before = out[y, begin:end], out[y - 1, begin:end]
        for x in range(here.size):
            distance = np.uint16(before[x] + np.uint16(1)) if here[x] == above[x] else np.uint16(1)
            found[x] = distance if here[x] > 0 else np.uint16(0)
    for y in range(labels.shape[0] - 2, -1, -1):
        here, below = labels[y, begin:end], labels[y + 1, begin:end]
        found, before = out[y, begin:end], out[y + 1, begin:end]
        for x in range(here.size):
            distance = np.uint16(before[x] + np.uint16(1)) if here[x] == below[x] else np.uint16(1)
            found[x] = min(found[x], distance) if here[x] > 0 else np.uint16(0)


@kernel
def greatest(values: NDArray[Any]) -> Any:
    """Return the maximum; compiled, NumPy's own looks at one pixel at a time."""
    found = values[0]
    for k in range(values.size):
        found = max(found, values[k])
    return found


@kernel
def least(values: NDArray[Any]) -> Any:
    """Return the minimum, as `greatest` does."""
    found = values[0]
    for k in range(values.size):
        found = min(found, values[k])
    return found


@kernel
def beside(found: int, step: int) -> int:
    """Return a bound on the squared distances of a line from the greatest on the line before it, if below NARROW."""
    if found >= NARROW:
        return UNBOUNDED
    distance = int(np.sqrt(np.float64(found))) + 1 + int(np.sqrt(np.float64(step)) + 0.5)
    return distance * distance


@kernel
def _bound_next(best: NDArray[Any], step: int, bounds: NDArray[np.int64]) -> None:
    """Write the bounds of the blocks of the next line."""
    for i in range(bounds.size):
        bounds[i] = beside(int(greatest(best[i * BLOCK : (i + 1) * BLOCK])), step)


@kernel
def square(distances: NDArray[np.uint16], step: int, out: NDArray[np.uint16]) -> None:
    """Write squares, NARROW where they are not below it."""
    unit, longest = np.uint32(min(step, NARROW)), np.uint16(ASIDE)
    for x in range(out.size):
        distance = np.uint32(min(distances[x], longest))
        out[x] = np.uint16(min(np.uint32(unit * distance * distance), np.uint32(NARROW)))


@kernel
def _touch(labels: Labels, step: int, best: NDArray[np.uint16]) -> None:
    """Bound the distances along a row by those to the ends of runs at which another label begins."""
    for begin in range(1, labels.size, BLOCK):
        here, before = labels[begin : begin + BLOCK], labels[begin - 1 :]
        touching = False
        for k in range(here.size):
            touching |= (here[k] != before[k]) & (here[k] > 0) & (before[k] > 0)
        for x in range(begin, begin + here.size if touching else begin):
            if labels[x] != labels[x - 1] and labels[x] > 0 and labels[x - 1] > 0:
                i = 1
                while step * i * i < NARROW and x + i <= labels.size and labels[x + i - 1] == labels[x]:
                    best[x + i - 1] = min(best[x + i - 1], np.uint16(step * i * i))
                    i += 1
                i = 1
                while step * i * i < NARROW and i <= x and labels[x - i] == labels[x - 1]:
                    best[x - i] = min(best[x - i], np.uint16(step * i * i))
                    i += 1


@kernel
def _narrow_row(
    labels: Labels,
    vertical: NDArray[np.uint16],
    steps: tuple[int, int],
    limit: int,
    bounds: NDArray[np.int64],
    squares: NDArray[np.uint16],
    best: NDArray[np.uint16],
) -> bool:
    """Write the squared distances of a row if all are below NARROW or cut at a limit below it; whether they are.

    `bounds` holds for each block what `beside` returns; `squares` has ASIDE entries of NARROW more at both ends.
    """
    width = labels.size
    middle, most = squares[ASIDE : ASIDE + width], np.uint16(min(limit, NARROW))
    square(vertical, steps[0], middle)
    for x in range(width):
        best[x] = min(middle[x], most)
    _touch(labels, steps[1], best)
    for i in range(bounds.size):
        bounds[i] = min(bounds[i], np.int64(greatest(best[i * BLOCK : (i + 1) * BLOCK])))
        if bounds[i] >= NARROW:
            return False
    lows = np.empty(bounds.size, np.int64)
    for i in range(bounds.size):
        lows[i] = least(middle[i * BLOCK : (i + 1) * BLOCK])
    for i in range(bounds.size):
        mine, aside = best[i * BLOCK : (i + 1) * BLOCK], int(np.sqrt(bounds[i] / steps[1])) // BLOCK + 1
        low = least(lows[max(i - aside, 0) : i + aside + 1])
        for k in range(1, ASIDE):
            if steps[1] * k * k + low >= bounds[i]:
                break
            offset = np.uint16(steps[1] * k * k)
            left, right = squares[i * BLOCK + ASIDE - k :], squares[i * BLOCK + ASIDE + k :]
            for x in range(mine.size):
                mine[x] = min(mine[x], np.uint16(min(left[x], right[x]) + offset))
    return True


@kernel
def settle(labels: Labels, sources: NDArray[np.int64], step: int, best: NDArray[Any], stack: NDArray[np.int64]) -> None:
    """Write the squared distances of a line by lower envelopes: of what each run's pixels and its two ends offer.

    `sources` and `stack` are those of `envelope`; where nothing is offered `best` stays.
    """
    width = labels.size
    offered = sources[SQUARED]
    a = 0
    while a < width:
        b = a + 1
        while b < width and labels[b] == labels[a]:
            b += 1
        if labels[a] == 0:
            best[a:b] = 0
        else:
            begin, end = max(a - 1, 0), min(b + 1, width)
            first, last = offered[begin], offered[end - 1]
            offered[begin] = 0 if a > 0 else first
            offered[end - 1] = 0 if b < width else last
            n = envelope(sources, (begin, end, a, b), step, stack)
            for k in range(n):
                column = stack[0, k]
                for x in range(stack[1, k], stack[1, k + 1] if k + 1 < n else b):
                    best[x] = step * (x - column) * (x - column) + offered[column]
            offered[begin], offered[end - 1] = first, last
        a = b


@kernel
def write(best: NDArray[Any], limits: tuple[int, int, int, int], out: NDArray[Any], roots: NDArray[np.float32]) -> None:
    """Write squares, or, where there is room for them, distances in the unit of the spacing."""
    far, limit, unit, most = limits
    none = np.iinfo(out.dtype).max
    if roots.size > 0:
        for x in range(best.size):
            squared = min(best[x], limit)
            roots[x] = (
                np.sqrt(min(np.float64(squared) * np.float64(unit), np.float64(most))) if squared < far else np.inf
            )
    else:
        for x in range(best.size):
            squared = min(best[x], limit)
            out[x] = squared if squared < far else none


@kernel
def in_rows(
    labels: Labels,
    vertical: NDArray[np.uint16],
    rows: tuple[int, int],
    steps: tuple[int, int],
    limits: tuple[int, int, int, int],
    out: NDArray[Any],
    roots: NDArray[np.float32],
) -> None:
    """Write the squared distances within a plane for some of its rows from those within its columns.

    Parameters
    ----------
    labels : uint8 or uint32 array, (y, x)
        Cells.
    vertical : uint16 array, (y, x)
        What `in_columns` writes.
    rows : tuple of int
        First row and last + 1.
    steps : tuple of int
        Squared spacing of rows and columns.
    limits : tuple of int
        The square of a distance that does not exist and of the greatest that is wanted; what distances that are not
        squares are multiplied by, squared, and the square of the greatest of them.
    out : int32 or int64 array, (y, x)
        Gets squared distances.
    roots : float32 array, (y, x) or (y, 0)
        Gets distances instead, if there is room.
    """
    far, limit = limits[:2]
    width = labels.shape[1]
    bounds = np.full(-(-width // BLOCK), UNBOUNDED)
    thin, short = np.full(width + 2 * ASIDE, NARROW, np.uint16), np.empty(width, np.uint16)
    sources, stack, best = np.zeros((3, width), np.int64), np.empty((2, width), np.int64), np.empty(width, out.dtype)
    for y in range(rows[0], rows[1]):
        if _narrow_row(labels[y], vertical[y], steps, limit, bounds, thin, short):
            write(short, limits, out[y], roots[y])
            _bound_next(short, steps[0], bounds)
        else:
            for x in range(width):
                distance = np.int64(vertical[y, x])
                sources[SQUARED, x] = steps[0] * distance * distance if distance < UNSEEN else NONE
            best[:] = far
            settle(labels[y], sources, steps[1], best, stack)
            write(best, limits, out[y], roots[y])
            _bound_next(best, steps[0], bounds)

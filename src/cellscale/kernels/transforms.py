"""The compiled parts of exact distance transforms: scans along the columns, then along the rows, then in depth.

Along a line a pixel's distance is bounded by that to the end of its run of equal labels, so candidates beyond the run
never win and need no test. Distances up to REACH px are found by looking so far to both sides, many pixels at once;
longer ones by lower envelopes, so that the work is linear however far they go.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellscale.arrays import Labels
from cellscale.kernels.compiling import kernel
from cellscale.kernels.envelopes import NONE, SQUARED, envelope

REACH = 64
"""Distances up to this are looked for, px."""
BLOCK = 64
"""So many pixels look at once."""
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
def _bound(squares: NDArray[Any], step: int, ends: tuple[bool, bool], limit: int, best: NDArray[Any]) -> None:
    """Begin with the distances that a run's own pixels offer, and those to the ends that it has."""
    n = best.size
    kind = best.dtype.type
    for k in range(n):
        best[k] = min(squares[k], kind(limit))
    if ends[0]:
        for k in range(n):
            best[k] = min(best[k], kind(step * (k + 1) * (k + 1)))
    if ends[1]:
        for k in range(n):
            best[k] = min(best[k], kind(step * (n - k) * (n - k)))


@kernel
def _far_run(
    squares: NDArray[Any], run: tuple[int, int], step: int, far: int, best: NDArray[Any], scratch: NDArray[np.int64]
) -> None:
    """Write minus the distances of a run by the lower envelope of what its pixels and its ends offer."""
    a, b = run
    sources, stack = scratch[:3], scratch[3:]
    begin, end = max(a - 1, 0), min(b + 1, best.size)
    sources[SQUARED, begin] = sources[SQUARED, end - 1] = 0
    for x in range(a, b):
        sources[SQUARED, x] = squares[REACH + x] if squares[REACH + x] < far else NONE
    n = envelope(sources, (begin, end, a, b), step, stack)
    best[a:b] = -far
    for k in range(n):
        column = stack[0, k]
        for x in range(stack[1, k], stack[1, k + 1] if k + 1 < n else b):
            best[x] = -(step * (x - column) * (x - column) + sources[SQUARED, column])


@kernel
def _look(squares: NDArray[Any], step: int, best: NDArray[Any]) -> None:
    """Look up to REACH px to both sides, no farther than the farthest of a block needs; negative values are final."""
    kind = best.dtype.type
    for begin in range(0, best.size, BLOCK):
        mine = best[begin : begin + BLOCK]
        farthest = greatest(mine)
        for i in range(1, REACH + 1):
            offset = kind(step * i * i)
            if offset >= farthest:
                break
            left, right = squares[begin + REACH - i :], squares[begin + REACH + i :]
            for k in range(mine.size):
                mine[k] = min(mine[k], kind(min(left[k], right[k]) + offset))


@kernel
def _settle(
    labels: Labels,
    squares: NDArray[Any],
    step: int,
    far: int,
    limit: int,
    best: NDArray[Any],
    scratch: NDArray[np.int64],
) -> None:
    """Write the least of squares[REACH + c] + step · (x − c)² over the columns c, and minus that where it is final.

    `squares` has REACH entries more at both ends; `far` means that a column offers nothing.
    """
    width = labels.size
    a = 0
    while a < width:
        b = a + 1
        while b < width and labels[b] == labels[a]:
            b += 1
        if labels[a] == 0:
            best[a:b] = 0
        else:
            _bound(squares[REACH + a : REACH + b], step, (a > 0, b < width), limit, best[a:b])
            if (b - a > 2 * REACH or a == 0 or b == width) and greatest(best[a:b]) > step * REACH * REACH:
                _far_run(squares, (a, b), step, far, best, scratch)
        a = b
    _look(squares, step, best)


@kernel
def _write(
    best: NDArray[Any], limits: tuple[int, int, int, int], out: NDArray[Any], roots: NDArray[np.float32]
) -> None:
    """Write squares, or, where there is room for them, distances in the unit of the spacing."""
    far, limit, unit, most = limits
    none = np.iinfo(out.dtype).max
    if roots.size > 0:
        for x in range(best.size):
            squared = min(abs(best[x]), limit)
            roots[x] = (
                np.sqrt(min(np.float64(squared) * np.float64(unit), np.float64(most))) if squared < far else np.inf
            )
    else:
        for x in range(best.size):
            squared = min(abs(best[x]), limit)
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
    squares, best = np.full(width + 2 * REACH, far, out.dtype), np.empty(width, out.dtype)
    middle, scratch = squares[REACH : REACH + width], np.zeros((5, width), np.int64)
    for y in range(rows[0], rows[1]):
        for x in range(width):
            distance = np.int64(vertical[y, x])
            middle[x] = steps[0] * distance * distance if distance < UNSEEN else far
        _settle(labels[y], squares, steps[1], far, limit, best, scratch)
        _write(best, limits, out[y], roots[y])


@kernel
def _look_through(
    squares: NDArray[Any], vertical: NDArray[np.uint16], step: int, limits: tuple[int, int], best: NDArray[Any]
) -> bool:
    """Look up to REACH planes to both sides for a slab (z, x); whether no pixel of it needs more."""
    far, limit = limits
    depth, width = squares.shape
    kind = best.dtype.type
    for z in range(depth):
        mine, own, ends = best[z], squares[z], vertical[z]
        for k in range(width):
            distance = np.int64(ends[k])
            end = step * distance * distance if distance < UNSEEN else far
            mine[k] = kind(min(own[k], end, limit))
        if greatest(mine) > step * REACH * REACH:
            return False
    for z in range(depth):
        mine = best[z]
        farthest = greatest(mine)
        for i in range(1, REACH + 1):
            offset = kind(step * i * i)
            if offset >= farthest:
                break
            one, other = squares[z - i if z >= i else z], squares[z + i if z + i < depth else z]
            for k in range(width):
                mine[k] = min(mine[k], kind(min(one[k], other[k]) + offset))
    return True


@kernel
def in_depth(
    labels: Labels,
    rows: tuple[int, int],
    step: int,
    limits: tuple[int, int, int, int],
    out: NDArray[Any],
    roots: NDArray[np.float32],
) -> None:
    """Replace the squared distances within planes (z, y, x) by those within the volume, for some of the rows y."""
    far, limit = limits[:2]
    depth, _, width = labels.shape
    none = np.iinfo(out.dtype).max
    ends, line = np.empty((depth, BLOCK), np.uint16), np.full(depth + 2 * REACH, far, out.dtype)
    scratch = np.zeros((5, depth), np.int64)
    for y in range(rows[0], rows[1]):
        for begin in range(0, width, BLOCK):
            n = min(BLOCK, width - begin)
            slab, squares, best = (
                np.empty((depth, n), labels.dtype),
                np.empty((depth, n), out.dtype),
                np.empty((depth, n), out.dtype),
            )
            for z in range(depth):
                found = out[z, y, begin : begin + n]
                slab[z] = labels[z, y, begin : begin + n]
                for k in range(n):
                    squares[z, k] = found[k] if found[k] != none else far
            in_columns(slab, 0, n, ends)
            if not _look_through(squares, ends, step, (far, limit), best):
                for k in range(n):
                    line[REACH : REACH + depth] = squares[:, k]
                    _settle(slab[:, k].copy(), line, step, far, limit, best[:, k], scratch)
            for z in range(depth):
                _write(best[z], limits, out[z, y, begin : begin + n], roots[z, y, begin : begin + n])

"""Compiled part of exact distance transforms of planes: a pass along the columns, then one along the rows.

The first pass writes v, each pixel's distance to the nearest other label in its column. In the second, the squared
distance of a pixel at position x of a row is the least of step · (x − c)² + v(c)² over the columns c. Three facts keep
that short:

1. Labels need no test. v(c) at a column c of another label is a distance to something else than c's label, which may be
   x's own. But the run of x's label ends before c, at a pixel of another label that is at least as near as c is: a
   candidate from beyond the run never beats the end of the run.
2. Distances of vertically adjacent pixels differ by at most the spacing of the rows (`next_bound`). So the greatest
   distance in a block of pixels bounds that of the block below, and no pixel of the block needs candidates at or above
   the bound.
3. Where all squared distances of a row are below NARROW, they and the sum of any two of them fit into 16 bits: the row
   is searched outwards, i columns to both sides for all pixels of a block at once, as far as the bound allows.

Other rows take lower envelopes (`write_by_envelopes`), so that the work stays linear however far distances go.

A. Meijster et al., A general algorithm for computing distance transforms in linear time, 2000, for the two passes;
T. Saito and J. Toriwaki, New algorithms for Euclidean distance transformation of an n-dimensional digitized picture,
1994, for the bounded search; P. Felzenszwalb and D. Huttenlocher, Distance transforms of sampled functions, 2012, for
the envelopes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cellscale.kernels.compiling import kernel
from cellscale.kernels.distances.envelopes import NONE, SQUARED, Span, envelope
from cellscale.types import Labels

BLOCK = 64
"""Pixels of a row that are searched together, in one loop that the compiler vectorises."""
NARROW = int(np.iinfo(np.int16).max)
"""Value of squared distances that are too long for a narrow row; 2 · 32,767 = 65,534 still fits into uint16."""
ASIDE = 182
"""Columns to either side beyond which every squared distance is above NARROW: 182² = 33,124; 181² = 32,761 is not."""
UNBOUNDED = 1 << 62
"""A bound that allows all squared distances."""
UNSEEN = 1 << 15
"""Vertical distances from here on mean that the column has no other label: real ones are below 32,766, and
UNSEEN + 32,766 still fits into uint16."""


class Steps(NamedTuple):
    """Squared spacing of the pixels of a plane, in whole multiples of a common measure."""

    y: int
    x: int


class Range(NamedTuple):
    """Rows, or planes, that one call works on."""

    begin: int
    end: int
    """The last + 1."""


class Limits(NamedTuple):
    """Limits and unit of the written distances."""

    far: int
    """Squared distance where there is no other label; all real ones are less."""
    cap: int
    """Greatest squared distance that is wanted, at most `far`."""
    unit: int
    """Square of the common measure: factor from squared distances to the squared unit of the spacing."""
    most: int
    """`cap` in the squared unit of the spacing."""


@kernel
def in_columns(labels: Labels, begin: int, end: int, out: NDArray[np.uint16]) -> None:
    """Write the distance (y, x) to the nearest other label of the column, px, for columns `begin` … `end` − 1.

    0 on background; UNSEEN or more where the column has one label only.
    """
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
    """Return the maximum. This loop is vectorised when compiled; np.max is not."""
    found = values[0]
    for k in range(values.size):
        found = max(found, values[k])
    return found


@kernel
def least(values: NDArray[Any]) -> Any:
    """Return the minimum by a vectorised loop, as `greatest` does."""
    found = values[0]
    for k in range(values.size):
        found = min(found, values[k])
    return found


@kernel
def next_bound(found: int, step: int) -> int:
    """Return a bound above the squared distances of a line, given the greatest on an adjacent line.

    A pixel either has the label of its neighbour, and is at most a step farther from the next label than that, or the
    neighbour itself is of another label, a step away.

    Parameters
    ----------
    found : int
        Greatest squared distance on the adjacent line; from NARROW on, which stands for more, nothing is bounded.
    step : int
        Squared distance of the two lines, the square of an integer.
    """
    if found >= NARROW:
        return UNBOUNDED
    # ⌊√found⌋ + 1 > √found, and the root of a perfect square is exact after rounding: the bound is never reached.
    distance = int(np.sqrt(np.float64(found))) + 1 + int(np.sqrt(np.float64(step)) + 0.5)
    return distance * distance


@kernel
def _bound_next(best: NDArray[Any], step: int, bounds: NDArray[np.int64]) -> None:
    """Write the bounds (blocks,) of the next row from the squared distances (x,) of this one."""
    for i in range(bounds.size):
        bounds[i] = next_bound(int(greatest(best[i * BLOCK : (i + 1) * BLOCK])), step)


@kernel
def square(distances: NDArray[np.uint16], step: int, out: NDArray[np.uint16]) -> None:
    """Write step · distance² for each distance, NARROW where that is not below it."""
    # Cut at ASIDE and NARROW first: 32,767 · 182² < 2³¹ fits into uint32.
    unit, longest = np.uint32(min(step, NARROW)), np.uint16(ASIDE)
    for x in range(out.size):
        distance = np.uint32(min(distances[x], longest))
        out[x] = np.uint16(min(np.uint32(unit * distance * distance), np.uint32(NARROW)))


@kernel
def _offer_contacts(labels: Labels, step: int, best: NDArray[np.uint16]) -> None:
    """Offer the ends of runs to the pixels of a row where two labels touch.

    Where a run ends at background, the background pixel's v is 0 and the search finds it. Where another label begins,
    the first pixel beyond holds a v of its own, so the distance to it is offered here.
    """
    # A first vectorised test skips blocks without such a contact, which are most.
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
    steps: Steps,
    limit: int,
    bounds: NDArray[np.int64],
    squares: NDArray[np.uint16],
    best: NDArray[np.uint16],
) -> bool:
    """Write the squared distances of a row in 16 bits; return False if one is or may be NARROW or more.

    Parameters
    ----------
    labels : uint8 or uint32 array, (x,)
        The row.
    vertical : uint16 array, (x,)
        Distances along the columns.
    steps : Steps
        Squared spacing.
    limit : int
        Greatest squared distance that is wanted; below NARROW, rows stay narrow whatever their distances.
    bounds : int64 array, (blocks,)
        Bounds of `next_bound` from the row before; changed.
    squares : uint16 array, (x + 2 · ASIDE,)
        Room for v²; the ASIDE entries at both ends hold NARROW, so that the search needs no test for the border.
    best : uint16 array, (x,)
        Gets the squared distances.
    """
    width = labels.size
    middle, most = squares[ASIDE : ASIDE + width], np.uint16(min(limit, NARROW))
    square(vertical, steps.y, middle)
    for x in range(width):
        best[x] = min(middle[x], most)
    _offer_contacts(labels, steps.x, best)
    # `best` holds candidates already (v², the ends of runs, the limit), so its maximum over a block is a bound, too.
    for i in range(bounds.size):
        bounds[i] = min(bounds[i], np.int64(greatest(best[i * BLOCK : (i + 1) * BLOCK])))
        if bounds[i] >= NARROW:
            return False
    # Least v² of each block, (blocks,).
    lows = np.empty(bounds.size, np.int64)
    for i in range(bounds.size):
        lows[i] = least(middle[i * BLOCK : (i + 1) * BLOCK])
    for i in range(bounds.size):
        # Candidates k columns away count while step · k² is below the bound: within `aside` blocks to either side. The
        # least v² there, `low`, ends the search earlier.
        mine, aside = best[i * BLOCK : (i + 1) * BLOCK], int(np.sqrt(bounds[i] / steps.x)) // BLOCK + 1
        low = least(lows[max(i - aside, 0) : i + aside + 1])
        for k in range(1, ASIDE):
            if steps.x * k * k + low >= bounds[i]:
                break
            # offset < bound < NARROW and v² ≤ NARROW: the sum stays below 2 · 32,767 and fits into uint16.
            offset = np.uint16(steps.x * k * k)
            left, right = squares[i * BLOCK + ASIDE - k :], squares[i * BLOCK + ASIDE + k :]
            for x in range(mine.size):
                mine[x] = min(mine[x], np.uint16(min(left[x], right[x]) + offset))
    return True


@kernel
def write_by_envelopes(
    labels: Labels, sources: NDArray[np.int64], step: int, best: NDArray[Any], stack: NDArray[np.int64]
) -> None:
    """Write the squared distances of a line of any length by lower envelopes, run by run.

    In a run of equal labels, the candidates are the pixels with their v², and the first pixels beyond both ends with 0,
    since they have another label (see the module, 1).

    Parameters
    ----------
    labels : uint8 or uint32 array, (x,)
        The line.
    sources : int64 array, (3, x)
        Table of `envelope`; its row SQUARED holds v², NONE where there is none.
    step : int
        Squared spacing along the line.
    best : array, (x,)
        Gets squared distances; stays as it is where a run has no end and no source.
    stack : int64 array, (2, x)
        Room for `envelope`.
    """
    width = labels.size
    offered = sources[SQUARED]
    # Runs a … b − 1 of equal labels. The pixels just outside are put to 0 while their run is transformed.
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
            n = envelope(sources, Span(begin, end, a, b), step, stack)
            for k in range(n):
                column = stack[0, k]
                for x in range(stack[1, k], stack[1, k + 1] if k + 1 < n else b):
                    best[x] = step * (x - column) * (x - column) + offered[column]
            offered[begin], offered[end - 1] = first, last
        a = b


@kernel
def write(best: NDArray[Any], limits: Limits, out: NDArray[Any], roots: NDArray[np.float32]) -> None:
    """Write squared distances (x,) to `out`, or distances to `roots` unless its size is 0."""
    none = np.iinfo(out.dtype).max
    if roots.size > 0:
        for x in range(best.size):
            squared = min(best[x], limits.cap)
            # `cap` is `most` rounded up to a multiple of the unit: the minimum with `most` takes the rounding back.
            in_unit = min(np.float64(squared) * np.float64(limits.unit), np.float64(limits.most))
            roots[x] = np.sqrt(in_unit) if squared < limits.far else np.inf
    else:
        for x in range(best.size):
            squared = min(best[x], limits.cap)
            out[x] = squared if squared < limits.far else none


@kernel
def in_rows(
    labels: Labels,
    vertical: NDArray[np.uint16],
    rows: Range,
    steps: Steps,
    limits: Limits,
    out: NDArray[Any],
    roots: NDArray[np.float32],
) -> None:
    """Write the distances within a plane for some of its rows from those within its columns.

    Parameters
    ----------
    labels : uint8 or uint32 array, (y, x)
        Cells.
    vertical : uint16 array, (y, x)
        Result of `in_columns`.
    rows : Range
        Rows that are written.
    steps : Steps
        Squared spacing.
    limits : Limits
        Limits of the written distances.
    out : int32 or int64 array, (y, x)
        Gets squared distances, the type's greatest number for none.
    roots : float32 array, (y, x) or (y, 0)
        Unless its width is 0, gets distances in the unit of the spacing instead. It may be a view of `out`.
    """
    width = labels.shape[1]
    bounds = np.full(-(-width // BLOCK), UNBOUNDED)  # (blocks,), rounded up; the first row has no row before it
    squares, short = np.full(width + 2 * ASIDE, NARROW, np.uint16), np.empty(width, np.uint16)
    sources, stack, best = np.zeros((3, width), np.int64), np.empty((2, width), np.int64), np.empty(width, out.dtype)
    for y in range(rows[0], rows[1]):
        if _narrow_row(labels[y], vertical[y], steps, limits.cap, bounds, squares, short):
            write(short, limits, out[y], roots[y])
            _bound_next(short, steps.y, bounds)
        else:
            for x in range(width):
                distance = np.int64(vertical[y, x])
                sources[SQUARED, x] = steps.y * distance * distance if distance < UNSEEN else NONE
            best[:] = limits.far
            write_by_envelopes(labels[y], sources, steps.x, best, stack)
            write(best, limits, out[y], roots[y])
            _bound_next(best, steps.y, bounds)

"""The compiled parts of nearest labels: looking around within a radius, envelopes at any distance, and two of them.

Equally near pixels come in raster order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellscale.kernels.compiling import kernel
from cellscale.kernels.distances.envelopes import FAR, LABEL, NONE, ROW, SQUARED, envelope, write_labels, write_squared
from cellscale.kernels.distances.planes import BLOCK
from cellscale.types import Labels

MIDDLE = 128
"""Offsets of less than this fit into a key, px."""
NARROW = 22
"""Up to this radius keys take 16 bits, px: 9 for the squared distance, 6 for the row, 1 for the side."""


@kernel
def offsets_in_columns(sources: NDArray[Any], radius: int, begin: int, end: int, out: NDArray[np.uint8]) -> None:
    """Write MIDDLE plus the offset to the nearest source in columns `begin` … `end` − 1, the upper one of two.

    0 where there is none within `radius`.
    """
    height = sources.shape[0]
    steps = np.full(end - begin, radius + 1, np.uint8)
    for y in range(height):
        here, found = sources[y, begin:end], out[y, begin:end]
        for x in range(steps.size):
            steps[x] = np.uint8(0) if here[x] > 0 else min(np.uint8(steps[x] + np.uint8(1)), np.uint8(radius + 1))
            found[x] = steps[x]
    steps[:] = radius + 1
    for y in range(height - 1, -1, -1):
        found = out[y, begin:end]
        for x in range(steps.size):
            steps[x] = np.uint8(0) if found[x] == 0 else min(np.uint8(steps[x] + np.uint8(1)), np.uint8(radius + 1))
            offset = np.uint8(MIDDLE - found[x]) if found[x] <= steps[x] else np.uint8(MIDDLE + steps[x])
            found[x] = offset if min(found[x], steps[x]) <= radius else np.uint8(0)


@kernel
def _load(
    offsets: NDArray[np.uint8],
    wanted: NDArray[np.bool_],
    shift: int,
    left: NDArray[Any],
    right: NDArray[Any],
    best: NDArray[Any],
) -> None:
    """Write the keys that the columns offer to those on their right and left and to themselves, where they want one."""
    kind = best.dtype.type
    middle, nothing = kind(1 << (shift - 2)), kind(np.iinfo(best.dtype).max)
    own = kind(middle << kind(1))
    for x in range(offsets.size):
        aside = kind(kind(offsets[x]) - kind(MIDDLE))
        key = kind(kind(kind(aside * aside) << kind(shift)) | kind(kind(aside + middle) << kind(1)))
        key = key if offsets[x] > 0 else nothing
        left[MIDDLE + x] = key
        right[MIDDLE + x] = key | kind(1)
        best[x] = key if wanted[x] else own


@kernel
def _look(
    left: NDArray[Any], right: NDArray[Any], radius: int, shift: int, best: NDArray[Any], near: NDArray[np.bool_]
) -> None:
    """Find the least key within `radius` columns, no farther than the farthest pixel of a block needs.

    Four columns to both sides are looked at together. `near` gets whether there may be a source for any of a block.
    """
    kind = best.dtype.type
    none = kind(np.iinfo(best.dtype).max)
    nothing, aside = np.int64(none), (radius + BLOCK - 1) // BLOCK * BLOCK
    for begin in range(0, best.size, BLOCK):
        around, least = left[begin + MIDDLE - aside : begin + MIDDLE + aside + BLOCK], none
        for k in range(around.size):
            least = min(least, around[k])
        near[begin // BLOCK] = least < none
        i, farthest = 1, nothing if least < none else 0
        while i <= radius and i * i <= farthest:
            before, after = left[begin + MIDDLE - i - 3 :], right[begin + MIDDLE + i :]
            mine = best[begin : begin + BLOCK]
            a, b = kind(min(i**2 << shift, nothing)), kind(min((i + 1) ** 2 << shift, nothing))
            c, d = kind(min((i + 2) ** 2 << shift, nothing)), kind(min((i + 3) ** 2 << shift, nothing))
            greatest = kind(0)
            for k in range(BLOCK):
                one = kind(min(before[k + 3], after[k], kind(none - a)) + a)
                two = kind(min(before[k + 2], after[k + 1], kind(none - b)) + b)
                three = kind(min(before[k + 1], after[k + 2], kind(none - c)) + c)
                four = kind(min(before[k], after[k + 3], kind(none - d)) + d)
                mine[k] = min(mine[k], one, two, three, four)
                greatest = max(greatest, mine[k])
            i, farthest = i + 4, np.int64(greatest) >> shift


@kernel
def _write_offsets(best: NDArray[Any], shift: int, limit: int, width: int, out: NDArray[np.int32]) -> None:
    """Write where the winners of some pixels of a row lie, in raster order from each; 0 where there is none."""
    one, middle = np.int32(1), np.int32(1 << (shift - 2))
    for x in range(out.size):
        key = np.int32(best[x])
        row = np.int32((key >> one & np.int32(2 * middle - 1)) - middle)
        aside = max(np.int32((key >> np.int32(shift)) - row * row), np.int32(0))
        column = np.int32(np.sqrt(np.float32(aside)))
        offset = np.int32(row * np.int32(width) + (column if key & one else -column))
        out[x] = offset if key <= np.int32(limit) else np.int32(0)


@kernel
def nearest_within(
    values: NDArray[Any],
    offsets: NDArray[np.uint8],
    scratch: NDArray[Any],
    radius: int,
    wanted: NDArray[np.bool_],
    rows: tuple[int, int],
    out: tuple[NDArray[Any], NDArray[np.int32]],
) -> None:
    """Write the value of the nearest source for the wanted pixels of some rows; the others keep theirs.

    Candidates are ordered by one number: squared distance, row from the pixel, and whether the column lies on the
    right, which is all that two candidates in a row equally near can differ by. So of equally near pixels the first in
    raster order wins.

    Parameters
    ----------
    values : array, (y, x) or (y, 0)
        What sources have; 0 elsewhere.
    offsets : uint8 array, (y, x)
        What `offsets_in_columns` writes.
    scratch : uint16 or int32 array, (3, x + 2 · MIDDLE), x up to whole blocks
        Room for keys; uint16 does up to a radius of NARROW.
    radius : int
        Less than MIDDLE, px.
    wanted : bool array, (y, x) or (1, x)
        What gets a value; or one row for all rows.
    rows : tuple of int
        First row and last + 1.
    out : tuple of an array like the values and an int32 array, each (y, x) or (y, 0)
        Where there is room, they get values and squared distances, FAR where there is no source.
    """
    nearest, squared = out
    width, flat = offsets.shape[1], values.reshape(-1)
    shift = 7 if scratch.itemsize == 2 else 9
    limit = ((radius * radius + 1) << shift) - 1
    scratch[:] = np.iinfo(scratch.dtype).max
    left, right, best, at = scratch[0], scratch[1], scratch[2, : -2 * MIDDLE], np.empty(width, np.int32)
    best[:] = 0
    near = np.empty(best.size // BLOCK, np.bool_)
    for y in range(rows[0], rows[1]):
        some = np.uint8(0)
        for x in range(width):
            some = np.uint8(some | offsets[y, x])
        if some == 0:
            nearest[y], squared[y] = 0, FAR
            continue
        _load(offsets[y], wanted[min(y, wanted.shape[0] - 1)], shift, left, right, best)
        _look(left, right, radius, shift, best, near)
        for x in range(squared.shape[1]):
            squared[y, x] = best[x] >> shift if best[x] <= limit else FAR
        nearest[y] = 0
        a = 0
        while a < near.size and nearest.shape[1] > 0:
            b = a
            while b < near.size and near[b]:
                b += 1
            if b > a:
                begin = a * BLOCK
                found = nearest[y, begin : b * BLOCK]
                _write_offsets(best[begin:], shift, limit, width, at[: found.size])
                for x in range(found.size):
                    found[x] = flat[np.uintp(y * width + begin + x + at[x])]
            a = b + 1


@kernel
def _nearest_in_columns(labels: Labels, rows: NDArray[np.int32]) -> None:
    """Write the row of the nearest labelled pixel of the column, the upper one of two; NONE where there is none."""
    height, width = labels.shape
    above, below = np.full(width, NONE, np.int32), np.full(width, NONE, np.int32)
    for y in range(height):
        for x in range(width):
            if labels[y, x] > 0:
                above[x] = y
            rows[y, x] = above[x]
    for y in range(height - 1, -1, -1):
        for x in range(width):
            if labels[y, x] > 0:
                below[x] = y
            if rows[y, x] == NONE or (below[x] != NONE and below[x] - y < y - rows[y, x]):
                rows[y, x] = below[x]


@kernel
def _load_sources(labels: Labels, rows: NDArray[np.int32], y: int, limit: int, sources: NDArray[np.int64]) -> None:
    for x in range(rows.size):
        row = rows[x]
        squared = (row - y) * (row - y)
        inside = row != NONE and squared <= limit
        sources[ROW, x] = row
        sources[SQUARED, x] = squared if inside else NONE
        sources[LABEL, x] = labels[row, x] if inside else 0


@kernel
def nearest_at_all(labels: Labels, limit: int, nearest: Labels, squared: NDArray[np.int32]) -> None:
    """Write the nearest label and its squared distance by envelopes, for any distance."""
    height, width = labels.shape
    _nearest_in_columns(labels, squared)
    sources, stack = np.zeros((3, width), np.int64), np.zeros((2, width), np.int64)
    for y in range(height):
        _load_sources(labels, squared[y], y, limit, sources)
        nearest[y] = labels[y]
        squared[y] = 0
        a = 0
        while a < width:
            b = a
            while b < width and labels[y, b] == 0:
                b += 1
            if b > a:
                n = envelope(sources, (max(a - 1, 0), min(b + 1, width), a, b), 1, stack)
                write_squared(sources, stack, n, a, b, squared[y])
                write_labels(sources, stack, n, b, nearest[y])
            a = b + 1
        for x in range(width):
            if squared[y, x] > limit:
                squared[y, x] = FAR
                nearest[y, x] = 0


@kernel
def _two_above(labels: Labels, first: Labels, row1: NDArray[np.int32], second: Labels, row2: NDArray[np.int32]) -> None:
    """Write labels and rows of the two nearest different labels at or above each pixel; row NONE: there is none."""
    height, width = labels.shape
    seen = np.full((4, width), NONE, np.int64)
    for y in range(height):
        for x in range(width):
            _see(seen, x, labels[y, x], y)
            first[y, x], row1[y, x] = max(seen[0, x], 0), seen[1, x]
            second[y, x], row2[y, x] = max(seen[2, x], 0), seen[3, x]


@kernel
def _see(seen: NDArray[np.int64], x: int, label: int, y: int) -> None:
    """Put one pixel into the two last different labels of its column: rows label, row, label, row."""
    if label > 0:
        if label != seen[0, x]:
            seen[2, x], seen[3, x] = seen[0, x], seen[1, x]
            seen[0, x] = label
        seen[1, x] = y


@kernel
def _away(y: int, row: int) -> int:
    """Return how many rows lie between, FAR without a row."""
    return abs(y - row) if row != NONE else FAR


@kernel
def _squared(y: int, row: int) -> int:
    return (row - y) * (row - y) if row != NONE else NONE


@kernel
def _two_in_columns(
    y: int, above: NDArray[np.int64], below: NDArray[np.int64], first: NDArray[np.int64], second: NDArray[np.int64]
) -> None:
    """Put the two nearest different labels above and below together: what each column offers in row y.

    Choices without branches: many columns at once. Of equally near rows the upper one comes first.
    """
    for x in range(above.shape[1]):
        upper, other = _away(y, above[1, x]) <= _away(y, below[1, x]), above[0, x] != below[0, x]
        row = above[1, x] if upper else below[1, x]
        first[LABEL, x] = above[0, x] if upper else below[0, x]
        first[ROW, x], first[SQUARED, x] = row, _squared(y, row)
        more_above, more_below = other and not upper, other and upper
        up, down = above[1, x] if more_above else above[3, x], below[1, x] if more_below else below[3, x]
        label_up, label_down = above[0, x] if more_above else above[2, x], below[0, x] if more_below else below[2, x]
        upper = _away(y, up) <= _away(y, down)
        row = up if upper else down
        second[LABEL, x] = label_up if upper else label_down
        second[ROW, x], second[SQUARED, x] = row, _squared(y, row)


@kernel
def _write(
    sources: NDArray[np.int64], stack: NDArray[np.int64], n: int, span: tuple[int, int], out: NDArray[np.int64]
) -> None:
    """Write label, column and squared distance of the winners for x from span[0] to span[1] − 1."""
    a, b = span
    if n == 0:
        out[0, a:b], out[1, a:b], out[2, a:b] = 0, NONE, FAR
    for k in range(n):
        column = stack[0, k]
        for x in range(stack[1, k], stack[1, k + 1] if k + 1 < n else b):
            out[0, x] = sources[LABEL, column]
            out[1, x] = column
            out[2, x] = (x - column) * (x - column) + sources[SQUARED, column]


@kernel
def _second_in_row(
    first: NDArray[np.int64], second: NDArray[np.int64], winners: NDArray[np.int64], out: NDArray[np.int64]
) -> None:
    """Find the nearest label that is not the nearest.

    Along a row the winning columns ascend, with or without a label. Where label A wins from a to b − 1, the best of the
    others therefore comes from a column between those that win at a − 1 and at b: each column is seen a few times.
    """
    width = winners.shape[1]
    sources, stack = np.zeros((3, width), np.int64), np.zeros((2, width), np.int64)
    a = 0
    while a < width:
        b = a + 1
        while b < width and winners[0, b] == winners[0, a]:
            b += 1
        begin = winners[1, a - 1] if a > 0 else 0
        end = winners[1, b] + 1 if b < width else width
        for x in range(begin, end):
            other = first[LABEL, x] == winners[0, a]
            sources[LABEL, x] = second[LABEL, x] if other else first[LABEL, x]
            sources[ROW, x] = second[ROW, x] if other else first[ROW, x]
            sources[SQUARED, x] = second[SQUARED, x] if other else first[SQUARED, x]
        n = envelope(sources, (begin, end, a, b), 1, stack)
        _write(sources, stack, n, (a, b), out)
        a = b


@kernel
def two_nearest(
    labels: Labels, label1: Labels, squared1: NDArray[np.int32], label2: Labels, squared2: NDArray[np.int32]
) -> None:
    """Write the two nearest different labels and their squared distances."""
    height, width = labels.shape
    _two_above(labels, label1, squared1, label2, squared2)
    above, below = np.zeros((4, width), np.int64), np.full((4, width), NONE, np.int64)
    first, second = np.zeros((3, width), np.int64), np.zeros((3, width), np.int64)
    winners, followers = np.zeros((3, width), np.int64), np.zeros((3, width), np.int64)
    stack = np.zeros((2, width), np.int64)
    for y in range(height - 1, -1, -1):
        above[0], above[1], above[2], above[3] = label1[y], squared1[y], label2[y], squared2[y]
        _two_in_columns(y, above, below, first, second)
        for x in range(width):
            _see(below, x, labels[y, x], y)
        _write(first, stack, envelope(first, (0, width, 0, width), 1, stack), (0, width), winners)
        _second_in_row(first, second, winners, followers)
        label1[y], squared1[y], label2[y], squared2[y] = winners[0], winners[2], followers[0], followers[2]

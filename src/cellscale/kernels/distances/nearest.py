"""Compiled parts of nearest labels: a search within a radius, and lower envelopes for any distance.

Both are separable transforms: first the nearest source within each column, then, along each row, the nearest of the
columns' sources. Of equally near sources the first in raster order wins. The search along a row is that of T. Saito and
J. Toriwaki, New algorithms for Euclidean distance transformation of an n-dimensional digitized picture, Pattern
Recognition 27, 1994: column by column outwards, until no farther column can win.

Within a radius R below 128 px (`nearest_within`) the candidates of a row are compared as integers, many pixels at a
time. A candidate is packed into one key,

    key = d² << shift  |  (dy + middle) << 1  |  side

d² is the squared distance, dy the source's row less the pixel's, side 0 for a source to the left of the pixel (or in
its column) and 1 for one to the right. The least key is the nearest source, and of equally near ones the first in
raster order: d² decides first, then the upper row. Two candidates with equal d² and equal dy have equal |dx|, since
dx² = d² − dy², so only the side can still differ, and left comes first. The winner's offset can be read from its key
by the same formula. Moving a candidate i columns away adds i² << shift to its key and changes nothing else, so the key
of a column is packed once per row and then offered to all pixels around with one addition each. Example with 32-bit
keys (shift 9, middle 128): a source 3 px above and 4 px to the left has d² = 25, dy = −3, side 0, and the key
25 << 9 | (−3 + 128) << 1 | 0 = 13,050.

Keys up to radius 22 take 16 bits, so that a vector register holds twice as many.

Beyond that radius (`nearest_at_all`) lower envelopes take linear time; see `cellscale.kernels.distances.envelopes`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellscale.kernels.compiling import kernel
from cellscale.kernels.distances.envelopes import (
    FAR,
    LABEL,
    NONE,
    ROW,
    SQUARED,
    Span,
    envelope,
    write_labels,
    write_squared,
)
from cellscale.kernels.distances.planes import BLOCK
from cellscale.types import Labels

MIDDLE = 128
"""Offsets dy of less than this in either direction are stored as MIDDLE + dy = 1 … 255 in uint8; 0 means no source."""
NARROW = 22
"""Greatest radius for 16-bit keys, px: 22² = 484 < 2⁹, so d² takes 9 bits; dy from −32 to 31 takes 6; the side 1."""
WIDE_SHIFT, NARROW_SHIFT = 9, 7
"""Bits below d² in int32 and in uint16 keys. With 9, dy takes 8 bits (−128 … 127); the greatest sum that occurs,
(127² + 130²) << 9 < 2²⁵, is far below 2³¹."""


@kernel
def offsets_in_columns(sources: NDArray[Any], radius: int, begin: int, end: int, out: NDArray[np.uint8]) -> None:
    """Write MIDDLE + dy of the nearest source of each pixel's column, for columns `begin` … `end` − 1.

    Two scans as in A. Rosenfeld and J. Pfaltz, Sequential operations in digital picture processing, J. ACM 13, 1966.
    Each handles a row at a time, so that the inner loop runs over adjacent columns and is vectorised.

    Parameters
    ----------
    sources : array, (y, x)
        Not 0 on sources.
    radius : int
        Less than MIDDLE, px; counters stop at radius + 1 ≤ 128, so they fit into uint8.
    begin, end : int
        Columns that are written.
    out : uint8 array, (y, x)
        Gets 128 + dy, of two equally near sources the upper one; 0 where none is within the radius.
    """
    height = sources.shape[0]
    # Downwards: rows since the last source, (x,), which `out` keeps for the second pass.
    steps = np.full(end - begin, radius + 1, np.uint8)
    for y in range(height):
        here, found = sources[y, begin:end], out[y, begin:end]
        for x in range(steps.size):
            steps[x] = np.uint8(0) if here[x] > 0 else min(np.uint8(steps[x] + np.uint8(1)), np.uint8(radius + 1))
            found[x] = steps[x]
    # Upwards: rows to the next source below. 0 rows above is the source itself. `found <= steps` prefers the upper of
    # two equally near sources: MIDDLE − found is dy ≤ 0 (above), MIDDLE + steps is dy > 0 (below).
    steps[:] = radius + 1
    for y in range(height - 1, -1, -1):
        found = out[y, begin:end]
        for x in range(steps.size):
            steps[x] = np.uint8(0) if found[x] == 0 else min(np.uint8(steps[x] + np.uint8(1)), np.uint8(radius + 1))
            offset = np.uint8(MIDDLE - found[x]) if found[x] <= steps[x] else np.uint8(MIDDLE + steps[x])
            found[x] = offset if min(found[x], steps[x]) <= radius else np.uint8(0)


@kernel
def _pack_keys(
    offsets: NDArray[np.uint8],
    wanted: NDArray[np.bool_],
    shift: int,
    left: NDArray[Any],
    right: NDArray[Any],
    best: NDArray[Any],
) -> None:
    """Encode each column's nearest source as a key for the pixels on its right, on its left, and in it.

    Parameters
    ----------
    offsets : uint8 array, (x,)
        A row of what `offsets_in_columns` writes.
    wanted : bool array, (x,)
        Pixels that look for a source.
    shift : int
        Bits below d² in a key.
    left, right : uint16 or int32 array, (x + 2 · MIDDLE,)
        Get the keys that column x offers as the left and as the right one, at MIDDLE + x.
    best : uint16 or int32 array, (x,)
        Gets the key of the pixel's own column; for pixels that look for none, the key of the pixel itself.
    """
    kind = best.dtype.type
    middle, nothing = kind(1 << (shift - 2)), kind(np.iinfo(best.dtype).max)
    own = kind(middle << kind(1))  # d² = 0, dy = 0: no other candidate is less, so the pixel keeps its own value
    for x in range(offsets.size):
        # In uint16 a negative dy wraps around. Its square and dy + middle are right all the same: both are exact modulo
        # 2¹⁶ and below 2¹⁶.
        dy = kind(kind(offsets[x]) - kind(MIDDLE))
        key = kind(kind(kind(dy * dy) << kind(shift)) | kind(kind(dy + middle) << kind(1)))
        key = key if offsets[x] > 0 else nothing
        left[MIDDLE + x] = key
        right[MIDDLE + x] = key | kind(1)  # `nothing`, an odd number in both types, stays as it is
        best[x] = key if wanted[x] else own


@kernel
def _search_row(
    left: NDArray[Any], right: NDArray[Any], radius: int, shift: int, best: NDArray[Any], near: NDArray[np.bool_]
) -> None:
    """Find the least key within `radius` columns of each pixel, block by block.

    Parameters
    ----------
    left, right : uint16 or int32 array, (x + 2 · MIDDLE,)
        Keys from `_pack_keys`.
    radius : int
        Columns to look at on either side, px.
    shift : int
        Bits below d² in a key.
    best : uint16 or int32 array, (x,)
        Keys of the pixels' own columns; gets the least of all. Its size is a multiple of BLOCK; the padding holds 0,
        the least of all keys, so that it never asks for more.
    near : bool array, (blocks,)
        Gets whether any column that a block may look at has a source.
    """
    kind = best.dtype.type
    none = kind(np.iinfo(best.dtype).max)  # the greatest key: no source; `nothing` is the same number in 64 bits
    # `around`: every column that the block may look at. The radius is rounded up to whole blocks, so that the loop over
    # it has no remainder; 127 becomes 128 = MIDDLE, the width of the margins of `left`. `left` alone is enough: it
    # holds `nothing` exactly where `right` does.
    nothing, aside = np.int64(none), (radius + BLOCK - 1) // BLOCK * BLOCK
    for begin in range(0, best.size, BLOCK):
        around, least = left[begin + MIDDLE - aside : begin + MIDDLE + aside + BLOCK], none
        for k in range(around.size):
            least = min(least, around[k])
        near[begin // BLOCK] = least < none
        # A source i columns away is at a squared distance of at least i². Once i² exceeds the greatest that a pixel of
        # the block has found so far, nothing farther away can win for any of them. Without a source around, the loop
        # does not run (0); else the first round always does.
        i, farthest = 1, nothing if least < none else 0
        while i <= radius and i * i <= farthest:
            # Columns i … i + 3 to both sides at once: before[3] is i columns left of the block's first pixel, before[0]
            # i + 3. i takes the values 1, 5, … ≤ 125, so the first index is at least begin + 128 − 125 − 3 = begin.
            before, after = left[begin + MIDDLE - i - 3 :], right[begin + MIDDLE + i :]
            mine = best[begin : begin + BLOCK]
            # min(key, none − a) + a is an addition that saturates at `none` instead of wrapping around. The distances
            # are cut at `none` too: in 16 bits, (22 + 3)² << 7 = 80,000 would not fit. Columns up to radius + 3 may get
            # through; `nearest_within` drops what is farther than the radius.
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
            # d² of the block's worst key. Pixels that want no source have d² = 0, so they never prolong the search.
            i, farthest = i + 4, np.int64(greatest) >> shift


@kernel
def _write_offsets(best: NDArray[Any], shift: int, limit: int, width: int, out: NDArray[np.int32]) -> None:
    """Decode keys into offsets: index of the winner less index of the pixel in an image of `width` columns.

    0, the pixel itself, where the key is above `limit`.
    """
    # dy has shift − 1 bits, between the side and d²: half of their range is the middle.
    one, middle = np.int32(1), np.int32(1 << (shift - 2))
    for x in range(out.size):
        key = np.int32(best[x])
        dy = np.int32((key >> one & np.int32(2 * middle - 1)) - middle)
        # dx² is a perfect square of at most 127², whose root is exact in float32. Keys above the limit decode to
        # nonsense, hence max(…, 0); their offset is not used. |dy| · width ≤ 127 · 32,766 fits into int32.
        dx_squared = max(np.int32((key >> np.int32(shift)) - dy * dy), np.int32(0))
        dx = np.int32(np.sqrt(np.float32(dx_squared)))
        offset = np.int32(dy * np.int32(width) + (dx if key & one else -dx))
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
    """Write the value of the nearest source for the wanted pixels of some rows; the other pixels keep their own value.

    Parameters
    ----------
    values : array, (y, x) or (y, 0)
        Values of the sources; 0 elsewhere.
    offsets : uint8 array, (y, x)
        Result of `offsets_in_columns`.
    scratch : uint16 or int32 array, (3, x + 2 · MIDDLE), x rounded up to whole blocks
        Room for keys. Its type chooses that of the keys; uint16 is enough for a radius of up to NARROW.
    radius : int
        Less than MIDDLE, px.
    wanted : bool array, (y, x) or (1, x)
        Pixels that get a value; one row stands for all rows.
    rows : tuple of int
        First row and last + 1.
    out : tuple of an array like the values and an int32 array, each (y, x) or (y, 0)
        Get values (0 without a source) and squared distances (FAR without a source), unless their width is 0.
    """
    nearest, squared = out
    width, flat = offsets.shape[1], values.reshape(-1)
    shift = NARROW_SHIFT if scratch.itemsize == 2 else WIDE_SHIFT
    limit = ((radius * radius + 1) << shift) - 1  # the greatest key with d² ≤ radius²; (22² + 1) << 7 fits into uint16
    scratch[:] = np.iinfo(scratch.dtype).max  # the MIDDLE entries at both ends stay so: no source outside the image
    left, right, best, at = scratch[0], scratch[1], scratch[2, : -2 * MIDDLE], np.empty(width, np.int32)
    best[:] = 0
    near = np.empty(best.size // BLOCK, np.bool_)
    for y in range(rows[0], rows[1]):
        # An OR over the row is vectorised; a loop that ends at the first offset is not.
        any_offset = np.uint8(0)
        for x in range(width):
            any_offset = np.uint8(any_offset | offsets[y, x])
        if any_offset == 0:  # no source within the radius above or below any pixel of the row, and none in it
            nearest[y], squared[y] = 0, FAR
            continue
        _pack_keys(offsets[y], wanted[min(y, wanted.shape[0] - 1)], shift, left, right, best)
        _search_row(left, right, radius, shift, best, near)
        for x in range(squared.shape[1]):
            squared[y, x] = best[x] >> shift if best[x] <= limit else FAR
        # Values are gathered for runs of blocks a … b − 1 that have a source near; uintp saves the test for negative
        # indices. A pixel without a source has the offset 0 and reads its own value, which is 0.
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
    """Write the row of the nearest labelled pixel in each pixel's column, of two the upper; NONE in empty columns."""
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
    """Fill a table of sources (3, x) for row y from the rows (x,) of the columns' nearest labelled pixels.

    Sources at a squared distance above `limit` are left out: with (x − c)² added they are only farther.
    """
    for x in range(rows.size):
        row = rows[x]
        squared = (row - y) * (row - y)
        inside = row != NONE and squared <= limit
        sources[ROW, x] = row
        sources[SQUARED, x] = squared if inside else NONE
        sources[LABEL, x] = labels[row, x] if inside else 0


@kernel
def nearest_at_all(labels: Labels, limit: int, nearest: Labels, squared: NDArray[np.int32]) -> None:
    """Write the nearest label and its squared distance, (y, x), by lower envelopes; 0 and FAR beyond `limit` px²."""
    height, width = labels.shape
    _nearest_in_columns(labels, squared)  # `squared` holds rows until its own row has been transformed
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
            # A run of background. The labelled pixels at its ends are sources at height 0 of their columns, so columns
            # beyond them are farther from every pixel of the run.
            if b > a:
                n = envelope(sources, Span(max(a - 1, 0), min(b + 1, width), a, b), 1, stack)
                write_squared(sources, stack, n, a, b, squared[y])
                write_labels(sources, stack, n, b, nearest[y])
            a = b + 1
        for x in range(width):
            if squared[y, x] > limit:
                squared[y, x] = FAR
                nearest[y, x] = 0

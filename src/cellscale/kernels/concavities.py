"""Contours and skeletons of cells and of their concavities, a cell's convex hull without the cell.

F. A. Guerrero-Peña et al., Multiclass weighted loss for instance segmentation of cluttered cells, ICIP 2018, section
2.2. The hull is that of the pixels' centres: in each row it reaches from the lower convex envelope of the leftmost
pixels to the upper one of the rightmost, which Andrew's monotone chain finds in integers. Concavities of different
cells may overlap. Figures are packed, 64 pixels in a word; see `cellscale.kernels.skeletons`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellscale.kernels.arguments import label_image
from cellscale.kernels.compiling import kernel
from cellscale.kernels.overlaps import label_areas
from cellscale.kernels.skeletons import WORD, Bits, packed, pruned, thin, unpacked
from cellscale.kernels.unions import relabel
from cellscale.types import Labels, Mask

LARGEST_TABLE = 2**22
"""Greatest label for which a table of all labels is made, 16 MiB of uint32; above, labels are renumbered first."""


@kernel
def _ones(word: np.uint64) -> int:
    """Return the number of set bits. x & (x − 1) clears the lowest one; LLVM turns the loop into a popcount."""
    found = 0
    while word != 0:
        word &= word - np.uint64(1)
        found += 1
    return found


@kernel
def _runs(labels: Labels, cells: Bits, count: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return the horizontal runs of all labels, sorted by label.

    No two labels are adjacent, so every run of the mask is of one label.

    Parameters
    ----------
    labels : uint32 array, (y, x)
        Cells 1 … count.
    cells : uint64 array
        The same, packed.
    count : int
        Greatest label.

    Returns
    -------
    runs : int32 array, (n, 3)
        y, first x and last x + 1; in the order of labels, of one label in raster order.
    ends : int64 array, (count + 1,)
        Label i has the runs ends[i − 1] … ends[i] − 1.
    """
    one, last = np.uint64(1), np.uint64(WORD - 1)
    # word ^ (word shifted by one pixel) has a bit for every pixel that differs from its left neighbour: where a run
    # begins or has just ended. The bit shifted in is the last pixel of the word on the left.
    changes = 0
    for w in range(1, cells.shape[0]):
        for y in range(cells.shape[1]):
            changes += _ones(cells[w, y] ^ (cells[w, y] << one | cells[w - 1, y] >> last))
    edges, rows, ends = np.empty(changes, np.int32), np.empty(changes // 2, np.int32), np.zeros(count + 1, np.int64)
    n = 0
    for y in range(labels.shape[0]):
        begin = n
        for w in range(1, cells.shape[0]):
            here = cells[w, y + 1] ^ (cells[w, y + 1] << one | cells[w - 1, y + 1] >> last)
            while here != 0:
                # ~x & (x − 1) has ones below the lowest set bit: their number is its position.
                edges[n] = (w - 1) * WORD + _ones(~here & (here - one))
                here &= here - one
                n += 1
        for k in range(begin, n, 2):
            rows[k // 2] = y
            ends[labels[y, edges[k]]] += 1
    # A counting sort by label: places[label − 1] is where the label's next run goes.
    ends = np.cumsum(ends)
    found, places = np.empty((rows.size, 3), np.int32), ends.copy()
    for i in range(rows.size):
        before = labels[rows[i], edges[2 * i]] - 1
        at = places[before]
        found[at, 0], found[at, 1], found[at, 2] = rows[i], edges[2 * i], edges[2 * i + 1]
        places[before] += 1
    return found, ends


@kernel
def _replace_by_envelope(values: NDArray[np.int64], absent: int, stack: NDArray[np.int64]) -> None:
    """Replace values (n,) by the least integers on or above their lower convex envelope; `absent` ones get a value too.

    Andrew's monotone chain over the points (y, values[y]); the first and the last value are not absent.
    """
    n = 0
    for y in range(values.size):
        if values[y] != absent:
            while n > 1:
                a, b = stack[n - 2], stack[n - 1]
                if (values[b] - values[a]) * (y - a) < (values[y] - values[a]) * (b - a):
                    break
                n -= 1
            stack[n] = y
            n += 1
    # Between two corners of the envelope: the line values[a] + (y − a) · rise / (b − a), rounded up by −(−n // d).
    for k in range(n - 1):
        a, b = stack[k], stack[k + 1]
        rise = values[b] - values[a]
        for y in range(a + 1, b):
            values[y] = values[a] - ((a - y) * rise) // (b - a)


@kernel
def _hull(runs: NDArray[np.int32], absent: int, rows: NDArray[np.int64]) -> int:
    """Write the hull of a label's runs (n, 3) to `rows` (3, height); return the number of its further pixels.

    Column y is y rows below the first run. Row 0 gets the first x and row 1 minus the last x, so that both sides are
    lower envelopes; row 2 is scratch.
    """
    top, height = runs[0, 0], runs[-1, 0] + 1 - runs[0, 0]
    rows[:2, :height] = absent
    # A row of the hull has last − first + 1 = 1 − rows[0] − rows[1] pixels: the ones are summed here, the rest below.
    surplus = int(height)
    for k in range(len(runs)):
        y, begin, end = runs[k, 0] - top, runs[k, 1], runs[k, 2]
        rows[0, y], rows[1, y] = min(rows[0, y], begin), min(rows[1, y], 1 - end)
        surplus -= end - begin
    _replace_by_envelope(rows[0, :height], absent, rows[2])
    _replace_by_envelope(rows[1, :height], absent, rows[2])
    for y in range(height):
        surplus -= rows[0, y] + rows[1, y]
    return surplus


@kernel
def _span(begin: int, end: int) -> np.uint64:
    """Return a word with the pixels `begin` … `end` − 1 set, both clipped to 0 … 64."""
    begin, end = max(begin, 0), min(end, WORD)
    # Keep the lowest end − begin ones, then move them up to bit `begin`. The first shift is at most 63 if begin < end.
    whole = np.uint64(0xFFFFFFFFFFFFFFFF)
    return (whole >> np.uint64(WORD - end + begin)) << np.uint64(begin) if begin < end else np.uint64(0)


@kernel
def _add_rim(figure: Bits, corner: tuple[int, int], shape: tuple[int, int], contours: Bits) -> None:
    """Mark the figure's contour: its pixels with a 4-neighbour inside the image that does not belong to it.

    Parameters
    ----------
    figure : uint64 array, (words + 2, rows + 2)
        Packed figure.
    corner : tuple of int
        Row, and number of the word, of the image at which the figure begins.
    shape : tuple of int
        Height and width of the image, px; pixels outside count as the figure's.
    contours : uint64 array
        Packed image; changed.
    """
    one, last = np.uint64(1), np.uint64(WORD - 1)
    top, first = corner
    height, width = shape
    for w in range(figure.shape[0] - 2):
        begin = (first + w) * WORD
        # Bits of the image's first and last column: there, the pixel itself stands in for its neighbour outside.
        ends = _span(0, 1) if begin == 0 else np.uint64(0), _span(width - 1 - begin, width - begin)
        for y in range(min(figure.shape[1] - 2, height - top)):
            here = figure[w + 1, y + 1]
            above, below = figure[w + 1, y + (top + y == 0)], figure[w + 1, y + 2 - (top + y + 1 == height)]
            left = here << one | figure[w, y + 1] >> last | here & ends[0]
            right = here >> one | figure[w + 2, y + 1] << last | here & ends[1]
            contours[first + w + 1, top + y + 1] |= here & ~(above & below & left & right)


@kernel
def _square(figure: Bits, out: Bits, grow: bool) -> None:
    """Write the dilation with a 3×3 square, or the erosion; outside the figure nothing belongs to it."""
    one, last = np.uint64(1), np.uint64(WORD - 1)
    for w in range(1, figure.shape[0] - 1):
        for y in range(1, figure.shape[1] - 1):
            found = np.uint64(0) if grow else ~np.uint64(0)
            for k in range(y - 1, y + 2):
                here = figure[w, k]
                left, right = here << one | figure[w - 1, k] >> last, here >> one | figure[w + 1, k] << last
                found = found | left | here | right if grow else found & left & here & right
            out[w, y] = found


@kernel
def _add_concavities(
    runs: NDArray[np.int32],
    ends: NDArray[np.int64],
    shape: tuple[int, int],
    opened: bool,
    contours: Bits,
    skeletons: Bits,
) -> None:
    """Mark the contours and skeletons of each label's concavity, `opened` with a 3×3 square or not, in packed images.

    Parameters
    ----------
    runs, ends : arrays
        Result of `_runs`.
    shape : tuple of int
        Height and width of the image, px.
    opened : bool
        Whether slivers are removed from the concavities.
    contours, skeletons : uint64 array, (words + 2, rows + 2)
        Packed images; changed.
    """
    rows = np.zeros((3, shape[0]), np.int64)
    for i in range(1, ends.size):
        own = runs[ends[i - 1] : ends[i]]
        if len(own) == 0 or _hull(own, shape[1], rows) == 0:
            continue
        top, height = own[0, 0], own[-1, 0] + 1 - own[0, 0]
        first, stop = rows[0, :height].min() // WORD, -rows[1, :height].min() // WORD + 1
        # Rows are rounded up to 8, so that the vectorised loop over them has no remainder.
        figure = np.zeros((stop - first + 2, -(-height // 8) * 8 + 2), np.uint64)
        # The hull's rows, then the label's runs, which lie inside: XOR leaves the hull without the label.
        for k in range(height + len(own)):
            y, begin, end = k, rows[0, k % height], 1 - rows[1, k % height]
            if k >= height:
                y, begin, end = own[k - height, 0] - top, own[k - height, 1], own[k - height, 2]
            for w in range(begin // WORD, (end - 1) // WORD + 1):
                figure[w - first + 1, y + 1] ^= _span(begin - w * WORD, end - w * WORD)
        if opened:
            core = np.zeros_like(figure)
            _square(figure, core, False)
            _square(core, figure, True)
        _add_rim(figure, (top, first), shape, contours)
        thin(figure)
        for w in range(1, stop - first + 1):
            for y in range(1, height + 1):
                skeletons[first + w, top + y] |= figure[w, y]


def consecutive_labels(labels: Labels) -> tuple[Labels, int]:
    """Return a label image (y, x) with its labels renumbered 1 … n in ascending order, and n."""
    ids, _ = label_areas(labels)
    if ids.size == 0 or ids[-1] == ids.size:
        return labels, ids.size
    if ids[-1] > LARGEST_TABLE:
        return (np.searchsorted(ids, labels, side="right")).astype(np.uint32), ids.size
    table = np.zeros(ids[-1] + 1, np.uint32)
    table[ids] = np.arange(1, ids.size + 1)
    return relabel(labels, table), ids.size


def contours_and_skeletons(labels: NDArray[np.integer[Any]], *, prune: float = 0.0) -> tuple[Mask, Mask]:
    """Return contours and skeletons of all cells and their concavities.

    Parameters
    ----------
    labels : integer array, (y, x)
        Cells, no two of them 8-adjacent.
    prune : float
        Drop concavities where they are thinner than 3 px, slivers between an outline of pixels and its hull, and the
        spurs of the cells' skeletons that stick out by at most this many px (`skeletons.pruned`); 0: keep all.

    Returns
    -------
    contours : bool array, (y, x)
        Γ_H: pixels of a cell or a concavity with a 4-neighbour outside it; the image's border is not a contour.
    skeletons : bool array, (y, x)
        K: the skeletons of the cells and of the concavities.
    """
    image = label_image(labels)
    count = int(image.max(initial=0))
    if count > LARGEST_TABLE:
        image, count = consecutive_labels(image)
    cells = packed(image > 0)
    contours, skeletons = np.zeros_like(cells), cells.copy()
    thin(skeletons)
    if prune > 0:
        skeletons = packed(pruned(unpacked(skeletons, image.shape[1]), image > 0, length=prune))
    _add_rim(cells, (0, 0), image.shape, contours)
    runs, ends = _runs(image, cells, count)
    _add_concavities(runs, ends, image.shape, prune > 0, contours, skeletons)
    return unpacked(contours, image.shape[1]), unpacked(skeletons, image.shape[1])

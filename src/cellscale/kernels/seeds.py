"""Seeds by rising thresholds of a map: connected components of the right size.

At each level in ascending order, a component of a size between the limits becomes a seed, a larger one waits for the
next level, at which its parts may come apart, and a smaller one is dropped. Components shrink from level to level, so
whether a pixel belongs to a seed depends only on its own components: on nothing farther than `extent` px.

The levels come from a one-dimensional k-means of the map's histogram, as in the HK-Means plugin of Icy.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cellscale.kernels.compiling import kernel
from cellscale.kernels.components import connected_components
from cellscale.types import Labels, Mask


def class_limits(counts: NDArray[np.int64], classes: int) -> tuple[int, ...]:
    """Limits between the classes of a one-dimensional k-means (Lloyd's algorithm) of a histogram.

    Parameters
    ----------
    counts : int64 array, (values,)
        Pixels of each value 0, 1, …
    classes : int
        Number of classes; centres start evenly spaced over the values that occur.

    Returns
    -------
    tuple of int
        At most `classes` − 1, ascending; a value belongs to the class of the highest limit that it reaches.
    """
    values = np.arange(len(counts))
    present = np.flatnonzero(counts)
    if len(present) == 0:
        return ()
    centres = np.linspace(present[0], present[-1], classes)
    limits = np.zeros(0)
    while True:
        found = np.ceil((centres[1:] + centres[:-1]) / 2)
        if np.array_equal(found, limits):
            return tuple(int(limit) for limit in np.unique(limits[limits > present[0]]))
        limits = found
        member = np.searchsorted(limits, values, side="right")
        sizes = np.bincount(member, counts, classes)
        sums = np.bincount(member, counts * values, classes)
        centres = np.where(sizes > 0, sums / np.maximum(sizes, 1), centres)


def _joined_at(values: NDArray[np.uint8], labels: Labels) -> NDArray[np.int64]:
    """Return the highest level, (pairs,), that two 4-adjacent pixels of each pair of touching cells both reach."""
    heights = np.concatenate(
        [np.minimum(values[1:], values[:-1]).ravel(), np.minimum(values[:, 1:], values[:, :-1]).ravel()]
    )
    a = np.concatenate([labels[1:].ravel(), labels[:, 1:].ravel()])
    b = np.concatenate([labels[:-1].ravel(), labels[:, :-1].ravel()])
    touching = (a != b) & (a > 0) & (b > 0)
    # Pairs of cells (lower label, higher label), one column for each pair of pixels.
    sides = np.stack([np.minimum(a, b)[touching], np.maximum(a, b)[touching]])
    pairs, which = np.unique(sides, axis=1, return_inverse=True)
    found = np.zeros(pairs.shape[1], np.int64)
    np.maximum.at(found, which.ravel(), heights[touching])
    return found


def level_errors(values: NDArray[np.uint8], labels: Labels, *, smallest: int) -> NDArray[np.int64]:
    """Count merged and lost cells at each level of a map, for known cells.

    Parameters
    ----------
    values : uint8 array, (y, x)
        Map as for `hierarchical_seeds`.
    labels : unsigned integer array, (y, x)
        True cells.
    smallest : int
        Least area of a seed, px.

    Returns
    -------
    int64 array, (256,)
        For each level: pairs of touching cells that are joined, plus cells of which fewer than `smallest` pixels reach
        it.
    """
    ids, cells = np.unique(labels, return_inverse=True)
    # counts (cells, 256): pixels of each value; summed up from the right: pixels that reach each level.
    places = cells.reshape(-1) * 256 + values.reshape(-1)
    counts = np.bincount(places, minlength=256 * len(ids)).reshape(-1, 256)[ids > 0]
    reaching = counts[:, ::-1].cumsum(axis=1)[:, ::-1]
    joined = np.bincount(_joined_at(values, labels), minlength=256)[::-1].cumsum()[::-1]
    errors: NDArray[np.int64] = joined + (reaching < smallest).sum(axis=0)
    return errors


@kernel
def _measure(labels: NDArray[np.int32], out: NDArray[np.int64]) -> None:
    """Write area, y0, x0, y1, x1 (inclusive) of each component, (count + 1, 5)."""
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            row = out[labels[y, x]]
            row[0] += 1
            row[1], row[2] = min(row[1], y), min(row[2], x)
            row[3], row[4] = max(row[3], y), max(row[4], x)


def _sizes(labels: NDArray[np.int32], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return area and longer side of the bounding box of each component, (count + 1,); 0 for the background."""
    out = np.zeros((count + 1, 5), np.int64)
    out[:, 1:3] = np.iinfo(np.int64).max
    _measure(labels, out)
    out[0] = (0, 0, 0, -1, -1)
    return out[:, 0], 1 + np.maximum(out[:, 3] - out[:, 1], out[:, 4] - out[:, 2])


def _any_before(mask: Mask, n: int) -> Mask:
    """Return for each pixel whether one of the n to its left is True, (y, x), by differences of running counts."""
    counts = np.cumsum(np.pad(mask, ((0, 0), (n + 1, 0))), axis=1, dtype=np.int32)
    found: Mask = counts[:, n:-1] > counts[:, : -n - 1]
    return found


def _first_within(mask: Mask, radius: int) -> Mask:
    """Return the pixels of a mask with no other one earlier in raster order within `radius` rows and columns."""
    # Earlier in raster order: in one of `radius` rows above, `radius` columns to both sides, or to the left in its row.
    rows = ndimage.maximum_filter1d(mask.astype(np.uint8), 2 * radius + 1, axis=1, mode="constant") > 0
    return mask & ~_any_before(rows.T, radius).T & ~_any_before(mask, radius)


def hierarchical_seeds(
    values: NDArray[np.uint8], levels: Sequence[int], *, smallest: int, largest: int, extent: int
) -> Labels:
    """Find seeds by rising thresholds.

    Parameters
    ----------
    values : uint8 array, (y, x)
        Map that is high in the middle of objects.
    levels : sequence of int
        Thresholds in ascending order; a pixel belongs to the levels that its value reaches.
    smallest, largest : int
        Least and greatest area of a seed, px. At the last level larger components become seeds as well.
    extent : int
        Greatest number of rows and of columns of a seed, px. In a wider component of the last level, those pixels
        become seeds that have no other pixel of that level before them, in raster order, within extent / 2 rows and
        columns.

    Returns
    -------
    uint32 array, (y, x)
        Seeds, numbered from 1 in the raster order of their first pixels.
    """
    found = np.zeros(values.shape, bool)
    for level in levels:
        mask = values >= level
        labels, count = connected_components(mask & ~found)
        area, side = _sizes(labels, count)
        last = level == levels[-1]
        good = (area >= smallest) & ((area <= largest) | last) & (side <= extent)
        good[0] = False
        if last:
            wide = side > extent
            found |= wide[labels] & _first_within(mask, extent // 2)
        found |= good[labels]
    labels, _ = connected_components(found)
    seeds: Labels = labels.astype(np.uint32)
    return seeds

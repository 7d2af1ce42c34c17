"""Watershed by steepest descent, exact through tiles: basins are local, and whatever is said of them is said on tables.

Each foreground pixel points to the least of itself and its 8 neighbours in the strict order (height, y, x); a basin is
a component of these links. Flooding is not local: where it starts decides about pixels far away.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cellscale.errors import InputError
from cellscale.kernels.arguments import check_equal_shapes, mask_image
from cellscale.kernels.compiling import kernel
from cellscale.kernels.components import connected_components
from cellscale.kernels.distances.transform import distance_transform
from cellscale.kernels.tables import WALL, summed_pairs
from cellscale.kernels.unions import merge, root, unite
from cellscale.types import Box, Mask, Table

LEVELS_A_PX = 8
"""Height levels of `inner_distance` for each px."""
LARGEST_CAP = (WALL - 1) // LEVELS_A_PX
"""Distances up to this fit into heights below WALL, px."""


@kernel
def _lower(heights: NDArray[np.uint8], mask: Mask, y: int, x: int) -> tuple[int, int]:
    """Return the least pixel of a 3×3 square, (height, y, x) in this order; raster order settles equal heights."""
    at_y, at_x = -1, -1
    for j in range(max(y - 1, 0), min(y + 2, mask.shape[0])):
        for i in range(max(x - 1, 0), min(x + 2, mask.shape[1])):
            if mask[j, i] and (at_y < 0 or heights[j, i] < heights[at_y, at_x]):
                at_y, at_x = j, i
    return at_y, at_x


@kernel
def _descend(heights: NDArray[np.uint8], mask: Mask, box: tuple[int, int, int, int], parent: NDArray[np.int64]) -> None:
    """Point each pixel of a box to a lower one in it, or to itself; −1 is background."""
    y0, x0, y1, x1 = box
    for y in range(y0, y1):
        for x in range(x0, x1):
            here = (y - y0) * (x1 - x0) + x - x0
            parent[here] = -1
            if mask[y, x]:
                j, i = _lower(heights, mask, y, x)
                inside = y0 <= j < y1 and x0 <= i < x1
                parent[here] = (j - y0) * (x1 - x0) + i - x0 if inside else here


@kernel
def _number(parent: NDArray[np.int64], out: NDArray[np.int32]) -> int:
    """Number the trees in the order of their first pixels."""
    numbers = np.zeros(parent.size, np.int32)
    count = 0
    for here in range(parent.size):
        if parent[here] >= 0:
            lowest = root(parent, here)
            if numbers[lowest] == 0:
                count += 1
                numbers[lowest] = count
            out[here] = numbers[lowest]
    return count


def basins(heights: NDArray[np.uint8], mask: Mask, *, box: Box | None = None) -> tuple[NDArray[np.int32], int]:
    """Divide a mask into basins by steepest descent.

    Parameters
    ----------
    heights : uint8 array, (y, x)
        What is descended.
    mask : bool array, (y, x)
        Foreground.
    box : Box, optional
        The pixels that are numbered; they look 1 px beyond it, and links that leave it are not followed.

    Returns
    -------
    labels : int32 array, (y, x) of the box
        0 is background; basins are numbered from 1 in the raster order of their first pixels.
    count : int
        Number of basins.

    Raises
    ------
    InputError
        If heights are not uint8, the shapes differ or the box leaves the image.
    """
    image = mask_image(mask)
    check_equal_shapes(heights, image, "heights and mask")
    if heights.dtype != np.uint8:
        raise InputError(f"heights are of {heights.dtype}; expected uint8. Round them to whole numbers 0 to 255.")
    inner = Box.of(image.shape) if box is None else box
    if inner.clip(Box.of(image.shape)) != inner:
        raise InputError(f"{inner} is not a part of an image of {image.shape} px. Clip it.")
    parent = np.empty(inner.area, np.int64)
    labels = np.zeros(inner.shape, np.int32)
    _descend(np.ascontiguousarray(heights), image, (inner.y0, inner.x0, inner.y1, inner.x1), parent)
    return labels, _number(parent, labels.reshape(-1))


def inner_distance(mask: Mask, *, cap: int) -> NDArray[np.uint8]:
    """Heights that fall towards the middle of a mask: ⌊8 cap⌋ − ⌊8 min(d, cap)⌋, d to the nearest pixel outside.

    Parameters
    ----------
    mask : bool array, (y, x)
        Foreground; beyond the image's border nothing is outside.
    cap : int
        Distances from here on are equal, 1 … 31 px: a pixel's height looks cap − 1 px around it.

    Returns
    -------
    uint8 array, (y, x)
        8 levels a px.
    """
    if not 1 <= cap <= LARGEST_CAP:
        raise InputError(f"cap is {cap} px; expected 1 to {LARGEST_CAP}.")
    levels = np.floor(np.sqrt(LEVELS_A_PX**2 * np.arange(cap**2 + 1)))
    table = (LEVELS_A_PX * cap - levels).astype(np.uint8)
    heights: NDArray[np.uint8] = table[distance_transform(mask, squared=True, cap=cap)]
    return heights


def without_specks(mask: Mask, area: int) -> Mask:
    """Drop the 4-connected components of at most `area` px: whether a pixel stays depends on `area` px around it."""
    if area == 0:
        return mask_image(mask)
    labels, _ = connected_components(mask, connectivity=4)
    large = np.bincount(labels.ravel(), minlength=1) > area
    large[0] = False
    return large[labels]


def filled(mask: Mask, area: int) -> Mask:
    """Fill the 4-connected components of background of at most `area` px; those at the image's border count too."""
    return ~without_specks(~mask_image(mask), area)


@kernel
def _join_shallow(parent: NDArray[np.int64], lowest: NDArray[np.int64], borders: NDArray[np.int64], depth: int) -> None:
    for k in range(borders.shape[0]):
        a, b = root(parent, borders[k, 0]), root(parent, borders[k, 1])
        if a != b and borders[k, 2] - max(lowest[a], lowest[b]) < depth:
            least = min(lowest[a], lowest[b])
            unite(parent, a, b)
            lowest[root(parent, a)] = least
    for i in range(parent.size):
        parent[i] = root(parent, i)


def _by_height(nodes: Table, edges: Table) -> NDArray[np.int64]:
    """Borders (m, 3): a, b and saddle, by saddle, then by the first pixels of their basins."""
    first = np.sort(np.stack([nodes["first"][edges["a"]], nodes["first"][edges["b"]]]), axis=0)
    order = np.lexsort((first[1], first[0], edges["saddle"]))
    return np.stack([edges["a"], edges["b"], edges["saddle"]], axis=1)[order]


def joined_shallow(nodes: Table, edges: Table, *, depth: int) -> NDArray[np.int64]:
    """Join basins whose pass is less than `depth` above the shallower one's lowest pixel, lowest passes first.

    Parameters
    ----------
    nodes : Table
        lowest (height) and first (raster index) of each basin.
    edges : Table
        a, b (rows of `nodes`) and saddle (height) of each common border.
    depth : int
        In levels of height; 0 joins nothing.

    Returns
    -------
    int64 array, (n,)
        The smallest member of each one's group. Equal passes are taken in the order of the basins' first pixels, so
        that the order of the rows does not matter.
    """
    parent = np.arange(len(nodes["lowest"]), dtype=np.int64)
    _join_shallow(parent, nodes["lowest"].copy(), _by_height(nodes, edges), depth)
    return parent


@kernel
def _flood(parent: NDArray[np.int64], marked: NDArray[np.bool_], borders: NDArray[np.int64]) -> None:
    for k in range(borders.shape[0]):
        a, b = root(parent, borders[k, 0]), root(parent, borders[k, 1])
        if a != b and not (marked[a] and marked[b]):
            both = marked[a] or marked[b]
            unite(parent, a, b)
            marked[root(parent, a)] = both
    for i in range(parent.size):
        parent[i] = root(parent, i)


def flooded(groups: NDArray[np.int64], nodes: Table, edges: Table, *, marker: int) -> NDArray[np.int64]:
    """Watershed from markers: lowest passes first, a group is joined unless both have a marker (Kruskal's forest).

    Parameters
    ----------
    groups : int64 array, (n,)
        The smallest member of each basin's group; what is joined before the flooding.
    nodes : Table
        lowest (height) and first (raster index) of each basin.
    edges : Table
        a, b (rows of `nodes`) and saddle (height) of each common border.
    marker : int
        A basin has a marker if its lowest pixel is at most this high.

    Returns
    -------
    int64 array, (n,)
        The smallest member of each one's group; −1 where no marker reaches. Equal passes are taken in the order of the
        basins' first pixels, so that the order of the rows does not matter.
    """
    parent, marked = groups.copy(), np.zeros(len(groups), bool)
    np.logical_or.at(marked, groups, nodes["lowest"] <= marker)
    _flood(parent, marked, _by_height(nodes, edges)[:, :2])
    return np.where(marked[parent], parent, -1)


def joined_long(groups: NDArray[np.int64], edges: Table, *, length: int) -> NDArray[np.int64]:
    """Join groups of basins whose common borders add up to `length` pixel pairs or more, until none is left.

    Parameters
    ----------
    groups : int64 array, (n,)
        A member of each basin's group.
    edges : Table
        a, b (basins) and length (pixel pairs) of each common border.
    length : int
        Shorter borders stay.

    Returns
    -------
    int64 array, (n,)
        The smallest member of each one's group; the order of the rows does not matter.
    """
    while True:
        borders = summed_pairs({"a": groups[edges["a"]], "b": groups[edges["b"]], "length": edges["length"]})
        long = borders["length"] >= length
        if not long.any():
            return groups
        groups = merge(len(groups), np.stack([borders["a"][long], borders["b"][long]], axis=1))[groups]

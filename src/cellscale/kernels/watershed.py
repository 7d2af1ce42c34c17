"""Watershed by steepest descent: basins are found locally, and merged in tables that add up over tiles.

Each foreground pixel points to the least of itself and its 8 neighbours in the strict order (height, y, x); a basin is
a connected component of these links. A link depends only on a 3×3 square, so tiles find the same links; a flooding
watershed lets the order of the flood decide about pixels far away. Merging basins by their saddles gives what flooding
would: minima that are too shallow are joined, or basins are flooded from markers along the minimum spanning forest.

J. Cousty et al., Watershed cuts: minimum spanning forests and the drop of water principle, IEEE Trans. PAMI 31, 2009.
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

LEVELS_PER_PX = 8
"""Height levels of `inner_distance` per px."""
LARGEST_CAP = (WALL - 1) // LEVELS_PER_PX
"""Greatest cap of `inner_distance`, px: 8 · 31 = 248 levels stay below WALL = 255."""


@kernel
def _lower(heights: NDArray[np.uint8], mask: Mask, y: int, x: int) -> tuple[int, int]:
    """Return (y, x) of the least mask pixel of a 3×3 square by (height, y, x).

    The square is scanned in raster order and only a lower height replaces the least, so the first of equals stays.
    """
    at_y, at_x = -1, -1
    for j in range(max(y - 1, 0), min(y + 2, mask.shape[0])):
        for i in range(max(x - 1, 0), min(x + 2, mask.shape[1])):
            if mask[j, i] and (at_y < 0 or heights[j, i] < heights[at_y, at_x]):
                at_y, at_x = j, i
    return at_y, at_x


@kernel
def _descend(heights: NDArray[np.uint8], mask: Mask, box: tuple[int, int, int, int], parent: NDArray[np.int64]) -> None:
    """Write each box pixel's link, an index into the box in raster order: to the least neighbour if that is in the box,
    else to itself; −1 on background. `box` is y0, x0, y1, x1.
    """
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
    """Number the trees of links from 1 in the raster order of their first pixels; return their number."""
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
        Height map.
    mask : bool array, (y, x)
        Foreground.
    box : Box, optional
        Pixels that are numbered. Links are computed from 1 px around it; links that leave it are not followed.

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
        raise InputError(f"heights are of {heights.dtype}; expected uint8. Round them to integers 0 to 255.")
    inner = Box.of(image.shape) if box is None else box
    if inner.clip(Box.of(image.shape)) != inner:
        raise InputError(f"{inner} is not a part of an image of {image.shape} px. Clip it.")
    parent = np.empty(inner.area, np.int64)
    labels = np.zeros(inner.shape, np.int32)
    _descend(np.ascontiguousarray(heights), image, (inner.y0, inner.x0, inner.y1, inner.x1), parent)
    return labels, _number(parent, labels.reshape(-1))


def inner_distance(mask: Mask, *, cap: int) -> NDArray[np.uint8]:
    """Heights that fall towards the middle of a mask: 8 cap − ⌊8 min(d, cap)⌋, with d the distance to the outside, px.

    Parameters
    ----------
    mask : bool array, (y, x)
        Foreground; pixels beyond the image's border do not count as outside.
    cap : int
        Greatest distance, 1 … 31 px; a pixel's height depends on the pixels less than `cap` px around it.

    Returns
    -------
    uint8 array, (y, x)
        8 levels per px.
    """
    if not 1 <= cap <= LARGEST_CAP:
        raise InputError(f"cap is {cap} px; expected 1 to {LARGEST_CAP}.")
    # ⌊8 d⌋ = ⌊√(64 d²)⌋ is looked up by the integer d². Roots of perfect squares are exact in float64, so no level is
    # rounded to the wrong side.
    levels = np.floor(np.sqrt(LEVELS_PER_PX**2 * np.arange(cap**2 + 1)))
    table = (LEVELS_PER_PX * cap - levels).astype(np.uint8)
    heights: NDArray[np.uint8] = table[distance_transform(mask, squared=True, cap=cap)]
    return heights


def remove_small_objects(mask: Mask, area: int) -> Mask:
    """Remove the 4-connected components of at most `area` px; a pixel depends on the `area` px around it."""
    if area == 0:
        return mask_image(mask)
    labels, _ = connected_components(mask, connectivity=4)
    large = np.bincount(labels.ravel(), minlength=1) > area
    large[0] = False
    return large[labels]


def remove_small_holes(mask: Mask, area: int) -> Mask:
    """Fill the 4-connected components of background of at most `area` px, those at the image's border included."""
    return ~remove_small_objects(~mask_image(mask), area)


@kernel
def _join_shallow(parent: NDArray[np.int64], lowest: NDArray[np.int64], borders: NDArray[np.int64], depth: int) -> None:
    """Join basins across borders (m, 3) in their order; `lowest` (n,) has each root's least height, and is changed."""
    for k in range(borders.shape[0]):
        a, b = root(parent, borders[k, 0]), root(parent, borders[k, 1])
        if a != b and borders[k, 2] - max(lowest[a], lowest[b]) < depth:
            least = min(lowest[a], lowest[b])
            unite(parent, a, b)
            lowest[root(parent, a)] = least
    for i in range(parent.size):
        parent[i] = root(parent, i)


def _by_height(nodes: Table, edges: Table) -> NDArray[np.int64]:
    """Return borders (m, 3) of a, b and saddle, sorted by saddle, then by the first pixels of both basins."""
    first = np.sort(np.stack([nodes["first"][edges["a"]], nodes["first"][edges["b"]]]), axis=0)
    order = np.lexsort((first[1], first[0], edges["saddle"]))
    return np.stack([edges["a"], edges["b"], edges["saddle"]], axis=1)[order]


def joined_shallow(nodes: Table, edges: Table, *, depth: int) -> NDArray[np.int64]:
    """Join basins whose saddle is less than `depth` above the higher of their two minima, lowest saddles first.

    Parameters
    ----------
    nodes : Table
        lowest (height) and first (raster index) of each basin.
    edges : Table
        a, b (rows of `nodes`) and saddle (height) of each common border.
    depth : int
        In height levels; 0 joins nothing.

    Returns
    -------
    int64 array, (n,)
        The smallest member of each basin's group. Equal saddles are taken in the order of the basins' first pixels, so
        that the order of the rows does not matter.
    """
    parent = np.arange(len(nodes["lowest"]), dtype=np.int64)
    _join_shallow(parent, nodes["lowest"].copy(), _by_height(nodes, edges), depth)
    return parent


@kernel
def _flood(parent: NDArray[np.int64], marked: NDArray[np.bool_], borders: NDArray[np.int64]) -> None:
    """Join groups across borders (m, 2) in their order unless both are `marked` (n,), which is changed."""
    for k in range(borders.shape[0]):
        a, b = root(parent, borders[k, 0]), root(parent, borders[k, 1])
        if a != b and not (marked[a] and marked[b]):
            both = marked[a] or marked[b]
            unite(parent, a, b)
            marked[root(parent, a)] = both
    for i in range(parent.size):
        parent[i] = root(parent, i)


def flooded(groups: NDArray[np.int64], nodes: Table, edges: Table, *, marker: int) -> NDArray[np.int64]:
    """Flood groups of basins from markers: join them across the lowest saddles first, unless both have a marker.

    That is Kruskal's algorithm for a minimum spanning forest with one tree per marker.

    Parameters
    ----------
    groups : int64 array, (n,)
        The smallest member of each basin's group before the flooding.
    nodes : Table
        lowest (height) and first (raster index) of each basin.
    edges : Table
        a, b (rows of `nodes`) and saddle (height) of each common border.
    marker : int
        A basin has a marker if its lowest pixel is at most this high.

    Returns
    -------
    int64 array, (n,)
        The smallest member of each basin's group; −1 where no marker reaches. Equal saddles are taken in the order of
        the basins' first pixels, so that the order of the rows does not matter.
    """
    parent, marked = groups.copy(), np.zeros(len(groups), bool)
    np.logical_or.at(marked, groups, nodes["lowest"] <= marker)
    _flood(parent, marked, _by_height(nodes, edges)[:, :2])
    return np.where(marked[parent], parent, -1)


def joined_long(groups: NDArray[np.int64], edges: Table, *, length: int) -> NDArray[np.int64]:
    """Join groups of basins whose common borders add up to `length` pixel pairs or more, until no such border is left.

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
        The smallest member of each basin's group; the order of the rows does not matter.
    """
    while True:
        borders = summed_pairs({"a": groups[edges["a"]], "b": groups[edges["b"]], "length": edges["length"]})
        long = borders["length"] >= length
        if not long.any():
            return groups
        groups = merge(len(groups), np.stack([borders["a"][long], borders["b"][long]], axis=1))[groups]

"""Outlines of labelled regions as polygons, and polygons as labelled pixels again.

Polygons run with the region on their right as it appears on the screen (y downwards), so outer outlines have a positive
area ½ Σ (x_i y_i+1 − x_i+1 y_i) and holes a negative one. Vertices are relative to the region's first pixel in raster
order: no result depends on where in a frame, or in which part of it, the region lies.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cellscale.kernels.compiling import kernel
from cellscale.types import Labels

NORTH, EAST, SOUTH, WEST = range(4)
OUT_Y, OUT_X = (-1, 0, 1, 0), (0, 1, 0, -1)
"""From a pixel to its neighbour at each side; the walk along a side goes where the next side's neighbour is."""
NEVER = 1 << 40
"""Farther than any pixel, px."""
INSET = 0.25
"""Distance from a pixel's centre to the point that each of its outer sides adds to the outline, px."""
UNIT = 256
"""Vertices are rounded to 1 / UNIT px before pixels are filled."""


@kernel
def _label_at(labels: Labels, y: int, x: int) -> int:
    inside = 0 <= y < labels.shape[0] and 0 <= x < labels.shape[1]
    label: int = labels[y, x] if inside else 0
    return label


@kernel
def _count_sides(labels: Labels) -> int:
    found = 0
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            if labels[y, x] > 0:
                for side in range(4):
                    found += _label_at(labels, y + OUT_Y[side], x + OUT_X[side]) != labels[y, x]
    return found


@kernel
def _first_pixels(labels: Labels, first: NDArray[np.int64]) -> None:
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            if first[labels[y, x], 0] < 0:
                first[labels[y, x]] = (y, x)


@kernel
def _walk(
    labels: Labels,
    start: tuple[int, int, int],
    origin: NDArray[np.int64],
    seen: NDArray[np.uint8],
    out: NDArray[np.float64],
) -> int:
    """Follow the sides of one region from a pixel's side until it comes back; one point for each side."""
    y, x, side = start
    label = labels[y, x]
    n = 0
    while not seen[y, x] >> side & 1:
        seen[y, x] |= 1 << side
        out[n, 0] = y - origin[0] + INSET * OUT_Y[side]
        out[n, 1] = x - origin[1] + INSET * OUT_X[side]
        n += 1
        ahead = (side + 1) % 4
        ahead_y, ahead_x = y + OUT_Y[ahead], x + OUT_X[ahead]
        if _label_at(labels, ahead_y, ahead_x) != label:
            side = ahead
        elif _label_at(labels, ahead_y + OUT_Y[side], ahead_x + OUT_X[side]) != label:
            y, x = ahead_y, ahead_x
        else:
            y, x = ahead_y + OUT_Y[side], ahead_x + OUT_X[side]
            side = (side + 3) % 4
    return n


@kernel
def _trace(
    labels: Labels,
    first: NDArray[np.int64],
    points: NDArray[np.float64],
    starts: NDArray[np.int64],
    owners: NDArray[np.int64],
) -> int:
    seen = np.zeros(labels.shape, np.uint8)
    loops = 0
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            for side in range(4 if labels[y, x] > 0 else 0):
                if _label_at(labels, y + OUT_Y[side], x + OUT_X[side]) != labels[y, x] and not seen[y, x] >> side & 1:
                    begin = starts[loops]
                    n = _walk(labels, (y, x, side), first[labels[y, x]], seen, points[begin:])
                    owners[loops] = labels[y, x]
                    loops += 1
                    starts[loops] = begin + n
    return loops


def outlines(
    labels: Labels,
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Trace the outlines of all regions, holes included; pixels of a region are connected through their sides.

    Each outer side of a pixel adds one point, INSET px from the pixel's centre, so every point lies in a pixel of its
    region, and the outline of a line of single pixels still has an area.

    Parameters
    ----------
    labels : uint32 array, (y, x)
        Regions 1 … n; 0 is background.

    Returns
    -------
    points : float64 array, (k, 2)
        Vertices (y, x) of all outlines, px from the first pixel of their region.
    starts : int64 array, (outlines + 1,)
        Outline i has the vertices starts[i] … starts[i + 1] − 1.
    owners : int64 array, (outlines,)
        Label of each outline.
    first : int64 array, (n + 1, 2)
        First pixel (y, x) of each label in raster order; −1 where it does not occur.
    """
    sides = _count_sides(labels)
    first = np.full((int(labels.max(initial=0)) + 1, 2), -1, np.int64)
    _first_pixels(labels, first)
    points, starts, owners = np.empty((sides, 2)), np.zeros(sides + 1, np.int64), np.zeros(sides, np.int64)
    loops = _trace(labels, first, points, starts, owners)
    return points, starts[: loops + 1].copy(), owners[:loops].copy(), first


@kernel
def _bounds(points: NDArray[np.int64], out: NDArray[np.int64]) -> None:
    """Widen y0, x0, y1, x1 (half-open) to the pixels whose centres may lie in a polygon."""
    for i in range(points.shape[0]):
        out[0] = min(out[0], -(-points[i, 0] // UNIT))
        out[1] = min(out[1], -(-points[i, 1] // UNIT))
        out[2] = max(out[2], points[i, 0] // UNIT + 1)
        out[3] = max(out[3], points[i, 1] // UNIT + 1)


@kernel
def _add_crossings(points: NDArray[np.int64], box: NDArray[np.int64], changes: NDArray[np.int32]) -> None:
    """Add where the winding number changes along each row of pixel centres: the first centre at or beyond an edge."""
    n = points.shape[0]
    for i in range(n):
        y0, x0 = points[i]
        y1, x1 = points[(i + 1) % n]
        change = 1
        if y0 < y1:
            change = -1
        else:
            y0, x0, y1, x1 = y1, x1, y0, x0
        for y in range(max(-(-y0 // UNIT), box[0]), min(-(-y1 // UNIT), box[2])):
            beyond = -((-x0 * (y1 - y0) - (y * UNIT - y0) * (x1 - x0)) // ((y1 - y0) * UNIT))
            changes[y - box[0], min(max(beyond - box[1], 0), changes.shape[1] - 1)] += change


@kernel
def winding(points: NDArray[np.int64], starts: NDArray[np.int64], box: NDArray[np.int64]) -> NDArray[np.int32]:
    """Winding number of the polygons of one region around each pixel centre of a box; for compiled callers."""
    changes = np.zeros((max(box[2] - box[0], 0), max(box[3] - box[1], 0) + 1), np.int32)
    for i in range(starts.size - 1):
        _add_crossings(points[starts[i] : starts[i + 1]], box, changes)
    for y in range(changes.shape[0]):
        for x in range(1, changes.shape[1]):
            changes[y, x] += changes[y, x - 1]
    return changes


@kernel
def _depth(points: NDArray[np.int64], starts: NDArray[np.int64], y: int, x: int) -> int:
    """Squared distance from a pixel's centre to the nearest edge, whole multiples of 1 / UNIT² px²."""
    nearest = np.inf
    for i in range(starts.size - 1):
        n = starts[i + 1] - starts[i]
        for j in range(n):
            y0, x0 = points[starts[i] + j]
            y1, x1 = points[starts[i] + (j + 1) % n]
            dy, dx, py, px = float(y1 - y0), float(x1 - x0), float(y * UNIT - y0), float(x * UNIT - x0)
            along = min(max((py * dy + px * dx) / max(dy * dy + dx * dx, 1.0), 0.0), 1.0)
            nearest = min(nearest, (py - along * dy) ** 2 + (px - along * dx) ** 2)
    return int(nearest)


@kernel
def _fill(
    points: NDArray[np.int64],
    starts: NDArray[np.int64],
    owners: NDArray[np.int64],
    first: NDArray[np.int64],
    territory: Labels,
    out: Labels,
) -> None:
    """Fill region by region; `starts` and `owners` are sorted by owner. An empty territory is all regions' alike."""
    height, width = out.shape
    spans = np.zeros((first.shape[0], 2), np.int64)
    a = 0
    while a < owners.size:
        label, b = owners[a], a + 1
        while b < owners.size and owners[b] == label:
            b += 1
        spans[label] = (a, b)
        oy, ox = first[label]
        box = np.array([NEVER, NEVER, -NEVER, -NEVER])
        _bounds(points[starts[a] : starts[b]], box)
        box[:] = (max(box[0], -oy), max(box[1], -ox), min(box[2], height - oy), min(box[3], width - ox))
        inside = winding(points, starts[a : b + 1], box)
        for y in range(box[0], box[2]):
            for x in range(box[1], box[3]):
                if inside[y - box[0], x - box[1]] > 0:
                    holder = out[y + oy, x + ox]
                    if territory.size > 0:
                        if territory[y + oy, x + ox] == label:
                            out[y + oy, x + ox] = label
                    elif holder == 0:
                        out[y + oy, x + ox] = label
                    else:
                        c, d = spans[holder]
                        hy, hx = first[holder]
                        held = _depth(points, starts[c : d + 1], y + oy - hy, x + ox - hx)
                        mine = _depth(points, starts[a : b + 1], y, x)
                        if mine > held or (mine == held and label < holder):
                            out[y + oy, x + ox] = label
        a = b


def filled(
    points: NDArray[np.float64],
    starts: NDArray[np.int64],
    owners: NDArray[np.int64],
    first: NDArray[np.int64],
    *,
    shape: tuple[int, int],
    territory: Labels | None = None,
) -> Labels:
    """Fill the polygons of regions.

    Vertices are rounded to 1 / UNIT px; the rest is whole numbers. A pixel is inside if its centre has a positive
    winding number, all polygons of a region together; a centre on an upper or left edge is inside, on others not. So
    what a polygon encloses twice counts once, and a part that is turned inside out is not filled. A pixel in two
    regions goes to the one in which it is deeper (squared distance to the nearest edge, in 1 / UNIT² px²), ties to the
    lower label; the order of the polygons does not matter.

    Parameters
    ----------
    points, starts, owners, first : arrays
        Polygons as `outlines` returns them; sorted by owner.
    shape : tuple of int
        Height and width of the result, px.
    territory : uint32 array, (y, x), optional
        The only label that each pixel may get.

    Returns
    -------
    uint32 array, (y, x)
        The region of each pixel, or 0.
    """
    whole = np.floor(points * UNIT + 0.5).astype(np.int64)
    out = np.zeros(shape, np.uint32)
    _fill(whole, starts, owners, first, np.zeros((0, 0), np.uint32) if territory is None else territory, out)
    return out

"""Outlines of labelled regions as polygons, and polygons as labelled pixels again.

Outlines are traced by walking along the sides of pixels (crack following: A. Rosenfeld and A. Kak, Digital picture
processing, 1982); filling counts winding numbers along scan lines. Polygons run with the region on their right as it
appears on the screen (y downwards), so outer outlines have a positive area ½ Σ (x_i y_i+1 − x_i+1 y_i) and holes a
negative one. Vertices are relative to the region's first pixel in raster order, so that no result depends on where in a
frame, or in which part of it, the region lies.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cellscale.kernels.compiling import kernel
from cellscale.types import Labels

NORTH, EAST, SOUTH, WEST = range(4)
OUT_Y, OUT_X = (-1, 0, 1, 0), (0, 1, 0, -1)
"""Steps from a pixel to its neighbour at each side. The walk along a side goes towards the neighbour at the next side:
along the north side eastwards, and so on, with the region on the right."""
NEVER = 1 << 40
"""Beyond every pixel, px."""
INSET = 0.25
"""Distance from a pixel's centre to the point that each of its outer sides adds to the outline, px."""
UNIT = 256
"""Vertices are rounded to 1 / UNIT px before pixels are filled."""


class Polygons(NamedTuple):
    """Closed polygons in flat arrays; points are float64, or int64 in 1 / UNIT px."""

    points: NDArray[Any]
    """(k, 2): vertices (y, x) of all polygons, px from the first pixel of their owner."""
    starts: NDArray[np.int64]
    """(n + 1,): polygon i has the vertices starts[i] … starts[i + 1] − 1."""
    owners: NDArray[np.int64]
    """(n,): label of each polygon."""
    first: NDArray[np.int64]
    """(labels + 1, 2): first pixel (y, x) of each label in raster order; −1 where a label does not occur."""


@kernel
def _label_at(labels: Labels, y: int, x: int) -> int:
    """Return the label of a pixel, 0 outside the image."""
    inside = 0 <= y < labels.shape[0] and 0 <= x < labels.shape[1]
    label: int = labels[y, x] if inside else 0
    return label


@kernel
def _count_sides(labels: Labels) -> int:
    """Count the sides of labelled pixels at which another label begins: the number of vertices of all outlines."""
    found = 0
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            if labels[y, x] > 0:
                for side in range(4):
                    found += _label_at(labels, y + OUT_Y[side], x + OUT_X[side]) != labels[y, x]
    return found


@kernel
def _first_pixels(labels: Labels, first: NDArray[np.int64]) -> None:
    """Write the first pixel (labels + 1, 2) of each label; −1 before."""
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
    """Follow the outline of a region from a pixel's side (y, x, side) until it comes back; return the number of points.

    `seen` (y, x) has bit s set if side s of a pixel has been walked; `out` gets one point (y, x) for each side,
    relative to `origin`.
    """
    y, x, side = start
    label = labels[y, x]
    n = 0
    while not seen[y, x] >> side & 1:
        seen[y, x] |= 1 << side
        out[n, 0] = y - origin[0] + INSET * OUT_Y[side]
        out[n, 1] = x - origin[1] + INSET * OUT_X[side]
        n += 1
        # At the end of the side: turn right around the pixel's corner if the pixel ahead is of another label, go
        # straight on if it belongs to the region and has the same side, else turn left to the pixel beyond that side.
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
    """Trace all outlines in the raster order of the pixels at which they begin; return their number."""
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


def outlines(labels: Labels) -> Polygons:
    """Trace the outlines of all regions, holes included; pixels of a region are connected through their sides.

    Each outer side of a pixel adds one point, INSET px from the pixel's centre, so every point lies in a pixel of its
    region, and the outline of a line of single pixels still has an area.

    Parameters
    ----------
    labels : uint32 array, (y, x)
        Regions 1 … n; 0 is background.

    Returns
    -------
    Polygons
        With float64 points, in the raster order of the pixels at which outlines begin.
    """
    sides = _count_sides(labels)
    first = np.full((int(labels.max(initial=0)) + 1, 2), -1, np.int64)
    _first_pixels(labels, first)
    points, starts, owners = np.empty((sides, 2)), np.zeros(sides + 1, np.int64), np.zeros(sides, np.int64)
    loops = _trace(labels, first, points, starts, owners)
    return Polygons(points, starts[: loops + 1].copy(), owners[:loops].copy(), first)


@kernel
def _bounds(points: NDArray[np.int64], out: NDArray[np.int64]) -> None:
    """Extend a box y0, x0, y1, x1 (half-open) to the pixels whose centres may lie in a polygon (n, 2), in 1 / UNIT px.

    −(−a // b) is the quotient rounded up.
    """
    for i in range(points.shape[0]):
        out[0] = min(out[0], -(-points[i, 0] // UNIT))
        out[1] = min(out[1], -(-points[i, 1] // UNIT))
        out[2] = max(out[2], points[i, 0] // UNIT + 1)
        out[3] = max(out[3], points[i, 1] // UNIT + 1)


@kernel
def _add_crossings(points: NDArray[np.int64], box: NDArray[np.int64], changes: NDArray[np.int32]) -> None:
    """Add the changes of the winding number along the rows of pixel centres of a box, (rows, columns + 1).

    An edge crosses the centre lines y0 ≤ y · UNIT < y1. On each, the change belongs to the first centre at or to the
    right of the crossing, so a centre on a left edge is inside. The product of two differences of vertices stays below
    2⁶³ as long as they are less than 2³¹ / UNIT = 8,388,608 px apart.
    """
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
            # The edge crosses the row at x0 + (y · UNIT − y0)(x1 − x0) / (y1 − y0), in 1 / UNIT px. Over a common
            # denominator, and rounded up to a whole pixel by −(−n // d), all is exact in integers.
            beyond = -((-x0 * (y1 - y0) - (y * UNIT - y0) * (x1 - x0)) // ((y1 - y0) * UNIT))
            changes[y - box[0], min(max(beyond - box[1], 0), changes.shape[1] - 1)] += change


@kernel
def winding(points: NDArray[np.int64], starts: NDArray[np.int64], box: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return the winding numbers of a region's polygons around the pixel centres of a box, (rows, columns + 1).

    The last column is scratch. For compiled callers.
    """
    changes = np.zeros((max(box[2] - box[0], 0), max(box[3] - box[1], 0) + 1), np.int32)
    for i in range(starts.size - 1):
        _add_crossings(points[starts[i] : starts[i + 1]], box, changes)
    # Running sums turn the changes at the crossings into winding numbers.
    for y in range(changes.shape[0]):
        for x in range(1, changes.shape[1]):
            changes[y, x] += changes[y, x - 1]
    return changes


@kernel
def _depth(points: NDArray[np.int64], starts: NDArray[np.int64], y: int, x: int) -> int:
    """Return the squared distance from a pixel's centre to the nearest edge of a region, in 1 / UNIT² px², rounded."""
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
def _region_depth(polygons: Polygons, spans: NDArray[np.int64], region: int, y: int, x: int) -> int:
    """Return the depth of frame pixel (y, x) in a region with the polygons spans[region, 0] … spans[region, 1] − 1."""
    starts = polygons.starts[spans[region, 0] : spans[region, 1] + 1]
    return _depth(polygons.points, starts, y - polygons.first[region, 0], x - polygons.first[region, 1])


@kernel
def _has_precedence(
    polygons: Polygons, spans: NDArray[np.int64], label: int, current_label: int, y: int, x: int
) -> bool:
    """Return whether a region takes frame pixel (y, x) from its current label: by depth, then by the lower label."""
    mine = _region_depth(polygons, spans, label, y, x)
    held = _region_depth(polygons, spans, current_label, y, x)
    return mine > held or (mine == held and label < current_label)


@kernel
def _fill_region(
    polygons: Polygons,
    spans: NDArray[np.int64],
    label: int,
    box: NDArray[np.int64],
    allowed_labels: Labels,
    out: Labels,
) -> None:
    """Fill the region `label` in a box of its own coordinates; the rest as for `_fill` and `_has_precedence`."""
    a, b = spans[label]
    oy, ox = polygons.first[label]
    inside = winding(polygons.points, polygons.starts[a : b + 1], box)
    for y in range(box[0], box[2]):
        for x in range(box[1], box[3]):
            if inside[y - box[0], x - box[1]] <= 0:
                continue
            current_label = out[y + oy, x + ox]
            if allowed_labels.size > 0:
                mine = allowed_labels[y + oy, x + ox] == label
            else:
                mine = current_label == 0 or _has_precedence(polygons, spans, label, current_label, y + oy, x + ox)
            if mine:
                out[y + oy, x + ox] = label


@kernel
def _fill(polygons: Polygons, allowed_labels: Labels, out: Labels) -> None:
    """Fill region by region into `out` (y, x); polygons are sorted by owner.

    `allowed_labels` (y, x) has the only label that each pixel may get; if it is empty, regions compete for pixels.
    """
    height, width = out.shape
    spans = np.zeros((polygons.first.shape[0], 2), np.int64)
    a = 0
    while a < polygons.owners.size:
        label, b = polygons.owners[a], a + 1
        while b < polygons.owners.size and polygons.owners[b] == label:
            b += 1
        spans[label] = (a, b)
        oy, ox = polygons.first[label]
        box = np.array([NEVER, NEVER, -NEVER, -NEVER])
        _bounds(polygons.points[polygons.starts[a] : polygons.starts[b]], box)
        box[:] = (max(box[0], -oy), max(box[1], -ox), min(box[2], height - oy), min(box[3], width - ox))
        _fill_region(polygons, spans, label, box, allowed_labels, out)
        a = b


def fill_polygons(polygons: Polygons, *, shape: tuple[int, int], allowed_labels: Labels | None = None) -> Labels:
    """Fill the polygons of regions.

    Vertices are rounded to 1 / UNIT px; everything after that is exact in integers. A pixel is inside if its centre has
    a positive winding number, counted over all polygons of a region; a centre on an upper or left edge is inside, on
    other edges it is not. What a polygon encloses twice therefore counts once, and a part that is turned inside out is
    not filled. A pixel in two regions goes to the one in which it is deeper (squared distance to the nearest edge, in
    1 / UNIT² px²), ties to the lower label; the order of the polygons does not matter.

    Parameters
    ----------
    polygons : Polygons
        Polygons as `outlines` returns them, sorted by owner.
    shape : tuple of int
        Height and width of the result, px.
    allowed_labels : uint32 array, (y, x), optional
        The only label that each pixel may get.

    Returns
    -------
    uint32 array, (y, x)
        The region of each pixel, or 0.
    """
    whole = np.floor(polygons.points * UNIT + 0.5).astype(np.int64)
    out = np.zeros(shape, np.uint32)
    allowed = np.zeros((0, 0), np.uint32) if allowed_labels is None else allowed_labels
    _fill(polygons._replace(points=whole), allowed, out)
    return out

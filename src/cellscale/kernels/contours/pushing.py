"""Depth of the vertices of contours inside neighbouring contours, for contours that push each other.

Candidates are found by a uniform grid: each grid cell lists the contours whose bounding boxes meet it. Whether a vertex
is inside follows from the winding number: K. Hormann and A. Agathos, The point in polygon problem for arbitrary
polygons, Computational Geometry 20, 2001.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cellscale.kernels.compiling import kernel

CELL = 32
"""Side of a grid cell, px: about a cell's diameter, so that few boxes meet each of them."""


@kernel
def _bounds(
    points: NDArray[np.float64], starts: NDArray[np.int64], owners: NDArray[np.int64], first: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return bounding boxes (n, 4) in the frame, y0, x0, y1, x1, px; inverted for contours that have vanished."""
    boxes = np.empty((owners.size, 4))
    boxes[:, :2], boxes[:, 2:] = np.inf, -np.inf
    for i in range(owners.size):
        origin = first[owners[i]]
        for j in range(starts[i], starts[i + 1]):
            y, x = points[j, 0] + origin[0], points[j, 1] + origin[1]
            boxes[i, 0], boxes[i, 1] = min(boxes[i, 0], y), min(boxes[i, 1], x)
            boxes[i, 2], boxes[i, 3] = max(boxes[i, 2], y), max(boxes[i, 3], x)
    return boxes


@kernel
def _step(coordinate: float) -> int:
    """Return the row or column of the grid cell of a coordinate; a vertex pushed over the border is in the first."""
    return max(int(coordinate), 0) // CELL


@kernel
def _grid(boxes: NDArray[np.float64], columns: int, begins: NDArray[np.int64], members: NDArray[np.int64]) -> int:
    """Count the contours of each grid cell into begins[cell + 1] or, with room in `members`, list them; return the sum.

    Run twice, with the counts summed up in between: begins[cell] is then where the next member of a grid cell belongs.
    """
    listing = members.size > 0
    total = 0
    for i in range(boxes.shape[0]):
        if boxes[i, 0] <= boxes[i, 2]:
            for row in range(_step(boxes[i, 0]), _step(boxes[i, 2]) + 1):
                for column in range(_step(boxes[i, 1]), _step(boxes[i, 3]) + 1):
                    cell = row * columns + column
                    if listing:
                        members[begins[cell]] = i
                        begins[cell] += 1
                    else:
                        begins[cell + 1] += 1
                    total += 1
    return total


@kernel
def depth_in(points: NDArray[np.float64], y: float, x: float) -> float:
    """Return the distance of a point inside a polygon (n, 2) to its nearest edge, px; 0 outside.

    Inside is where the winding number is positive. It is counted along the half line to the left, x < 0 with the point
    as origin: an edge from below it to above (dy < 0 is upwards on the screen) counts +1, one back −1.
    """
    n = points.shape[0]
    wound, nearest = 0, np.inf
    y0, x0 = points[n - 1, 0] - y, points[n - 1, 1] - x
    for i in range(n):
        y1, x1 = points[i, 0] - y, points[i, 1] - x
        dy, dx = y1 - y0, x1 - x0
        if (y0 <= 0) != (y1 <= 0) and (x0 - y0 * dx / dy) < 0:
            wound += 1 if dy < 0 else -1
        along = min(max(-(y0 * dy + x0 * dx) / max(dy * dy + dx * dx, 1e-12), 0.0), 1.0)
        nearest = min(nearest, (y0 + along * dy) ** 2 + (x0 + along * dx) ** 2)
        y0, x0 = y1, x1
    return np.sqrt(nearest) if wound > 0 else 0.0


@kernel
def push_depths(
    points: NDArray[np.float64], starts: NDArray[np.int64], owners: NDArray[np.int64], first: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the greatest depth (k,) of each vertex in a contour of another owner, px; 0 outside of all.

    Parameters
    ----------
    points : float64 array, (k, 2)
        Vertices (y, x) of all contours, px from the first pixel of their owner.
    starts : int64 array, (n + 1,)
        Contour i has the vertices starts[i] … starts[i + 1] − 1.
    owners : int64 array, (n,)
        Label of each contour.
    first : int64 array, (labels + 1, 2)
        First pixel (y, x) of each label in the frame.
    """
    out = np.zeros(points.shape[0])
    boxes = _bounds(points, starts, owners, first)
    if points.shape[0] == 0:
        return out
    rows, columns = _step(boxes[:, 2].max()) + 1, _step(boxes[:, 3].max()) + 1
    begins = np.zeros(rows * columns + 1, np.int64)
    # A counting sort by grid cell: counts, their sums as starts, then the members. The second run moves `places` on.
    members = np.empty(_grid(boxes, columns, begins, np.empty(0, np.int64)), np.int64)
    begins[:] = np.cumsum(begins)
    places = begins.copy()
    _grid(boxes, columns, places, members)
    for i in range(owners.size):
        origin = first[owners[i]]
        for j in range(starts[i], starts[i + 1]):
            y, x = points[j, 0] + origin[0], points[j, 1] + origin[1]
            cell = _step(y) * columns + _step(x)
            for k in members[begins[cell] : begins[cell + 1]]:
                box = boxes[k]
                if owners[k] != owners[i] and box[0] <= y <= box[2] and box[1] <= x <= box[3]:
                    other = first[owners[k]]
                    depth = depth_in(points[starts[k] : starts[k + 1]], y - other[0], x - other[1])
                    out[j] = max(out[j], depth)
    return out

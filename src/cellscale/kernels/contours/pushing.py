"""How deep the vertices of contours lie inside their neighbours, for contours that push each other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cellscale.kernels.compiling import kernel

CELL = 32
"""Side of a cell of the grid in which neighbours are looked up, px."""


@kernel
def _bounds(
    points: NDArray[np.float64], starts: NDArray[np.int64], owners: NDArray[np.int64], first: NDArray[np.int64]
) -> NDArray[np.float64]:
    """y0, x0, y1, x1 of each contour in the frame, px; an empty box for contours that have vanished."""
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
def _grid(boxes: NDArray[np.float64], columns: int, begins: NDArray[np.int64], members: NDArray[np.int64]) -> int:
    """Count the contours of each cell into begins[cell + 1], or, with room in `members`, list them."""
    listing = members.size > 0
    total = 0
    for i in range(boxes.shape[0]):
        if boxes[i, 0] <= boxes[i, 2]:
            for row in range(int(boxes[i, 0]) // CELL, int(boxes[i, 2]) // CELL + 1):
                for column in range(int(boxes[i, 1]) // CELL, int(boxes[i, 3]) // CELL + 1):
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
    """Distance of a point inside a polygon to its nearest edge, px; 0 outside."""
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
    """Greatest depth of each vertex in a contour of another owner, px, 0 outside of all; for compiled callers."""
    out = np.zeros(points.shape[0])
    boxes = _bounds(points, starts, owners, first)
    if points.shape[0] == 0:
        return out
    rows, columns = int(boxes[:, 2].max()) // CELL + 1, int(boxes[:, 3].max()) // CELL + 1
    begins = np.zeros(rows * columns + 1, np.int64)
    members = np.empty(_grid(boxes, columns, begins, np.empty(0, np.int64)), np.int64)
    begins[:] = np.cumsum(begins)
    places = begins.copy()
    _grid(boxes, columns, places, members)
    for i in range(owners.size):
        origin = first[owners[i]]
        for j in range(starts[i], starts[i + 1]):
            y, x = points[j, 0] + origin[0], points[j, 1] + origin[1]
            cell = int(y) // CELL * columns + int(x) // CELL
            for k in members[begins[cell] : begins[cell + 1]]:
                box = boxes[k]
                if owners[k] != owners[i] and box[0] <= y <= box[2] and box[1] <= x <= box[3]:
                    other = first[owners[k]]
                    depth = depth_in(points[starts[k] : starts[k + 1]], y - other[0], x - other[1])
                    out[j] = max(out[j], depth)
    return out

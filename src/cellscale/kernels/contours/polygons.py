"""One iteration of one polygon of `contours.evolve`: its vertices move, then its edges are brought back to length.

Polygons are arrays (n, 2) of vertices (y, x), px.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cellscale.kernels.compiling import kernel

SHORTEST, LONGEST = 0.6, 1.4
"""Edges are kept between these multiples of the spacing. 2 SHORTEST ≤ LONGEST: a halved edge is not too short."""
FEWEST = 8
"""Number of vertices from which on none is dropped, however short the edges."""
SMALLEST = 0.5
"""A contour has vanished when it encloses less than this, px², and less than this share of its first area."""
QUIET = 50
"""Number of iterations over which the area of a converged contour has not changed."""
SLOWED, PUSHED = 0.05, 0.5
"""At a depth d inside a neighbour, px, the speed is multiplied by SLOWED, and −PUSHED d n is added."""


@kernel
def _bilinear(speed: NDArray[np.float32], y: float, x: float, oy: int, ox: int) -> float:
    """Return the bilinear speed at a vertex, 0 outside the map; map pixel (oy, ox) lies at the origin."""
    top, left = np.floor(y), np.floor(x)
    fy, fx = y - top, x - left
    i, j = int(top) + oy, int(left) + ox
    if i < 0 or j < 0 or i > speed.shape[0] - 2 or j > speed.shape[1] - 2:
        return 0.0
    above = speed[i, j] * (1.0 - fx) + speed[i, j + 1] * fx
    below = speed[i + 1, j] * (1.0 - fx) + speed[i + 1, j + 1] * fx
    value: float = above * (1.0 - fy) + below * fy
    return value


@kernel
def move(
    points: NDArray[np.float64],
    depths: NDArray[np.float64],
    speed: NDArray[np.float32],
    oy: int,
    ox: int,
    tension: float,
    out: NDArray[np.float64],
) -> None:
    """Move all vertices once, by the formula of `contours.evolve`.

    Parameters
    ----------
    points : float64 array, (n, 2)
        Vertices (y, x).
    depths : float64 array, (n,) or (0,)
        Depth of each vertex in a neighbour, px; empty if contours do not push each other.
    speed : float32 array, (y, x)
        Speed map; its margin is 0.
    oy, ox : int
        Pixel of the map at the origin of the coordinates.
    tension : float
        s / h.
    out : float64 array, (n, 2)
        Gets the moved vertices.
    """
    n = points.shape[0]
    # b(efore), the vertex itself, a(fter); all moves use the positions before this iteration.
    by, bx = points[n - 1, 0], points[n - 1, 1]
    y, x = points[0, 0], points[0, 1]
    for i in range(n):
        k = i + 1 if i + 1 < n else 0
        ay, ax = points[k, 0], points[k, 1]
        ty, tx = ay - by, ax - bx
        length = np.sqrt(ty * ty + tx * tx)
        scale = 1.0 / length if length > 0 else 0.0
        ny, nx = -tx * scale, ty * scale  # the tangent turned by 90°, outwards for positive areas
        forward = _bilinear(speed, y, x, oy, ox)
        if depths.size > 0 and depths[i] > 0:
            forward = forward * SLOWED - PUSHED * depths[i]
        forward += min(0.0, tension * ((by - 2.0 * y + ay) * ny + (bx - 2.0 * x + ax) * nx))
        out[i, 0] = y + forward * ny
        out[i, 1] = x + forward * nx
        by, bx, y, x = y, x, ay, ax


@kernel
def respaced(points: NDArray[np.float64], spacing: float, out: NDArray[np.float64]) -> int:
    """Drop vertices at the end of edges that are too short, halve edges that are too long; return the vertices' number.

    `out` (m, 2) has room for twice as many vertices as `points` (n, 2): every edge is halved at most once.
    """
    shortest, longest = (SHORTEST * spacing) ** 2, (LONGEST * spacing) ** 2
    n, left = 0, points.shape[0]
    # The round after the last vertex treats the closing edge, back to out[0]; if that is too short, the last vertex is
    # dropped.
    for i in range(points.shape[0] + 1):
        last = i == points.shape[0]
        y, x = (out[0, 0], out[0, 1]) if last else (points[i, 0], points[i, 1])
        if n > 0:
            dy, dx = y - out[n - 1, 0], x - out[n - 1, 1]
            squared = dy * dy + dx * dx
            if squared < shortest and left > FEWEST:
                left -= 1
                n -= last
                continue
            if squared > longest:
                out[n, 0], out[n, 1] = y - 0.5 * dy, x - 0.5 * dx
                n += 1
        if not last:
            out[n, 0], out[n, 1] = y, x
            n += 1
    return n


@kernel
def area_of(points: NDArray[np.float64]) -> float:
    """Return the signed area of a polygon, px² (shoelace formula)."""
    total = 0.0
    y, x = points[-1, 0], points[-1, 1]  # the closing edge comes first
    for i in range(points.shape[0]):
        total += x * points[i, 0] - points[i, 1] * y
        y, x = points[i, 0], points[i, 1]
    return 0.5 * total


@kernel
def converged(area: float, band: NDArray[np.float64], tolerance: float) -> bool:
    """Update `band` (least area, greatest area, iterations) with an area; return whether it has stood still.

    The band starts anew at the current area as soon as it is wider than `tolerance` times that area.
    """
    band[0], band[1] = min(band[0], area), max(band[1], area)
    band[2] += 1
    if band[1] - band[0] > tolerance * abs(area):
        band[0], band[1], band[2] = area, area, 0
    done: bool = band[2] >= QUIET
    return done


@kernel
def vanished(area: float, first: float) -> bool:
    """Return whether a contour with the signed area `first` at its beginning has vanished or turned inside out."""
    gone: bool = area * np.sign(first) < min(SMALLEST, SMALLEST * abs(first))
    return gone

"""Naive twins of `cellscale.kernels.contours` and `seeds`: pixel by pixel, vertex by vertex."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellscale.kernels.contours import polygons as limits
from cellscale.kernels.contours.evolve import Motion
from cellscale.testing.naive.components import connected_components
from cellscale.types import Labels

Points = NDArray[np.float64]
"""Vertices (n, 2): y, x."""


def sides(labels: NDArray[Any]) -> list[tuple[int, float, float]]:
    """Points (label, y, x) of all outlines, sorted: pixel centres moved by ¼ px towards neighbours of other labels."""
    padded, found = np.pad(labels, 1), []
    for y, x in np.argwhere(labels > 0).tolist():
        for dy, dx in ((-1, 0), (0, 1), (1, 0), (0, -1)):
            if padded[y + 1 + dy, x + 1 + dx] != labels[y, x]:
                found.append((int(labels[y, x]), y + dy / 4, x + dx / 4))
    return sorted(found)


def winding(polygon: NDArray[np.int64], y: int, x: int, unit: int) -> int:
    """Winding number of a polygon around pixel (y, x): signed crossings of the half line to the left.

    Vertices are in 1 / `unit` px. A centre on an upper or left edge counts as inside.
    """
    total = 0
    for (y0, x0), (y1, x1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if min(y0, y1) <= y * unit < max(y0, y1):
            upwards = y1 < y0
            beyond = (x * unit - x0) * (y1 - y0) - (y * unit - y0) * (x1 - x0)
            if (-beyond if upwards else beyond) >= 0:
                total += 1 if upwards else -1
    return total


def filled_polygons(
    polygons: Sequence[Points],
    owners: Sequence[int] | NDArray[np.int64],
    origins: NDArray[np.int64],
    shape: tuple[int, int],
    unit: int,
    allowed_labels: NDArray[Any],
) -> Labels:
    """Labels (y, x) of the pixels with a positive winding number where their owner is allowed.

    Parameters
    ----------
    polygons : sequence of float64 array, (k, 2)
        Vertices (y, x), px from the owner's origin.
    owners : sequence of int, or int64 array
        Label of each polygon.
    origins : int64 array, (labels + 1, 2)
        Origin (y, x) of each label.
    shape : tuple of int
        Height and width of the result, px.
    unit : int
        Vertices are rounded to 1 / unit px.
    allowed_labels : integer array, (y, x)
        The only label that each pixel may get.
    """
    out = np.zeros(shape, np.uint32)
    for label in np.unique(owners):
        own = [polygon for polygon, owner in zip(polygons, owners, strict=True) if owner == label and len(polygon)]
        for y, x in np.ndindex(*shape):
            if allowed_labels[y, x] == label:
                at = (int(y - origins[label][0]), int(x - origins[label][1]))
                if sum(winding(np.floor(polygon * unit + 0.5).astype(np.int64), *at, unit) for polygon in own) > 0:
                    out[y, x] = label
    return out


def level_errors(values: NDArray[np.uint8], labels: NDArray[Any], level: int, smallest: int) -> int:
    """Count the cells with too few pixels of a level, and the pairs that are one component of it without the rest."""
    ids = [cell for cell in np.unique(labels) if cell > 0]
    errors = sum(int(((labels == cell) & (values >= level)).sum() < smallest) for cell in ids)
    for a, b in itertools.combinations(ids, 2):
        found, count = connected_components(np.isin(labels, (a, b)) & (values >= level), 4)
        errors += any(len(np.unique(labels[found == number])) == 2 for number in range(1, count + 1))
    return errors


def seeds(
    values: NDArray[np.uint8], levels: Sequence[int], smallest: int, largest: int, extent: int
) -> NDArray[np.int64]:
    """Seeds (y, x): components of some level of the right size that are in no seed of a lower level.

    Parameters
    ----------
    values : uint8 array, (y, x)
        A map that is high in the middle of objects.
    levels : sequence of int
        Ascending thresholds.
    smallest, largest : int
        Sizes of seeds, px.
    extent : int
        Greatest number of rows and of columns of a seed, px.
    """
    found = np.zeros(values.shape, bool)
    for level in levels:
        labels, count = connected_components((values >= level) & ~found, 4)
        for number in range(1, count + 1):
            pixels = np.argwhere(labels == number)
            wide = (np.ptp(pixels, axis=0) + 1).max() > extent
            last = level == levels[-1]
            if not wide and smallest <= len(pixels) and (len(pixels) <= largest or last):
                found[labels == number] = True
    if levels:
        high = values >= levels[-1]
        labels, count = connected_components(high & ~found, 4)
        for number in range(1, count + 1):
            pixels = np.argwhere(labels == number)
            if (np.ptp(pixels, axis=0) + 1).max() > extent:
                for y, x in pixels.tolist():
                    left, right, top = max(0, x - extent // 2), x + extent // 2 + 1, max(0, y - extent // 2)
                    if not high[top:y, left:right].any() and not high[y, left:x].any():
                        found[y, x] = True
    return connected_components(found, 4)[0]


def speed_at(speed: NDArray[Any], y: float, x: float) -> float:
    """Bilinear value at a point of a map (y, x) that is 0 outside."""
    total = 0.0
    for i in (int(np.floor(y)), int(np.floor(y)) + 1):
        for j in (int(np.floor(x)), int(np.floor(x)) + 1):
            if 0 <= i < speed.shape[0] and 0 <= j < speed.shape[1]:
                total += speed[i, j] * (1 - abs(y - i)) * (1 - abs(x - j))
    return total


def moved(points: Points, speed: NDArray[Any], motion: Motion) -> Points:
    """Vertices after one step of (v + min(0, tension · n)) n; see `kernels.contours.evolve`."""
    before, after = np.roll(points, 1, axis=0), np.roll(points, -1, axis=0)
    out = []
    for p, a, b in zip(points, before, after, strict=True):
        tangent = (b - a) / max(np.hypot(*(b - a)), 1e-300)
        normal = np.array([-tangent[1], tangent[0]])
        tension = motion.stiffness / motion.spacing * (a - 2 * p + b)
        out.append(p + (speed_at(speed, *p) + min(0.0, tension @ normal)) * normal)
    return np.array(out)


def respaced(points: Points, spacing: float) -> Points:
    """Vertices without those too near to the one before, edges too long halved; at least FEWEST stay."""
    out: list[NDArray[np.float64]] = []
    left = len(points)
    for i, p in enumerate([*points, None]):
        q = out[0] if p is None else p
        if out:
            length = np.hypot(*(q - out[-1]))
            if length < limits.SHORTEST * spacing and left > limits.FEWEST:
                left -= 1
                if p is None:
                    out.pop()
                continue
            if length > limits.LONGEST * spacing:
                out.append((q + out[-1]) / 2)
        if i < len(points):
            out.append(q)
    return np.array(out)


def depth(polygon: Points, y: float, x: float) -> float:
    """Distance of a point inside a polygon to its nearest edge, by dense sampling; 0 outside."""
    following = np.roll(polygon, -1, axis=0)
    steps = np.linspace(0, 1, 201)[:, None, None]
    samples = (polygon + steps * (following - polygon)).reshape(-1, 2)
    angles = np.arctan2(polygon[:, 0] - y, polygon[:, 1] - x)
    turns = np.angle(np.exp(1j * (np.roll(angles, -1) - angles))).sum() / (2 * np.pi)
    return float(np.hypot(*(samples - (y, x)).T).min()) if round(turns) > 0 else 0.0

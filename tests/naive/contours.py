"""Outlines, windings, seeds and moving contours as their definitions read: pixel by pixel, vertex by vertex."""

import itertools

import numpy as np

from cellscale.kernels.contours import polygons as fast
from tests.naive.components import connected_components


def sides(labels):
    """Points of an outline, without order: the centre of each pixel moved towards each neighbour of another label."""
    padded, found = np.pad(labels, 1), []
    for y, x in np.argwhere(labels > 0):
        for dy, dx in ((-1, 0), (0, 1), (1, 0), (0, -1)):
            if padded[y + 1 + dy, x + 1 + dx] != labels[y, x]:
                found.append((labels[y, x], y + dy / 4, x + dx / 4))
    return sorted(found)


def winding(polygon, y, x, unit):
    """Signed crossings of the half line from a pixel's centre to the left with the edges, whole numbers."""
    total = 0
    for (y0, x0), (y1, x1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if min(y0, y1) <= y * unit < max(y0, y1):
            upwards = y1 < y0
            beyond = (x * unit - x0) * (y1 - y0) - (y * unit - y0) * (x1 - x0)
            if (-beyond if upwards else beyond) >= 0:
                total += 1 if upwards else -1
    return total


def filled(polygons, owners, origins, shape, unit, territory):
    """Labels of the pixels with a positive winding number, in their owner's territory."""
    out = np.zeros(shape, np.uint32)
    for label in np.unique(owners):
        own = [polygon for polygon, owner in zip(polygons, owners, strict=True) if owner == label and len(polygon)]
        for y, x in np.ndindex(shape):
            if territory[y, x] == label:
                at = (y - origins[label][0], x - origins[label][1])
                if sum(winding(np.floor(polygon * unit + 0.5).astype(int), *at, unit) for polygon in own) > 0:
                    out[y, x] = label
    return out


def level_errors(values, labels, level, smallest):
    """Cells with too few pixels of a level, and pairs of cells that have a component in common without any others."""
    ids = [cell for cell in np.unique(labels) if cell > 0]
    errors = sum(((labels == cell) & (values >= level)).sum() < smallest for cell in ids)
    for a, b in itertools.combinations(ids, 2):
        found, count = connected_components(np.isin(labels, (a, b)) & (values >= level), 4)
        errors += any(len(np.unique(labels[found == number])) == 2 for number in range(1, count + 1))
    return errors


def seeds(values, levels, smallest, largest, extent):
    """A component of some level is a seed if its size is right and it is in no seed of a lower level."""
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
        labels, count = connected_components((values >= levels[-1]) & ~found, 4)
        for number in range(1, count + 1):
            pixels = np.argwhere(labels == number)
            if (np.ptp(pixels, axis=0) + 1).max() > extent:
                for y, x in pixels:
                    near = slice(max(0, x - extent // 2), x + extent // 2 + 1)
                    high = values >= levels[-1]
                    if not high[max(0, y - extent // 2) : y, near].any() and not high[y, near.start : x].any():
                        found[y, x] = True
    return connected_components(found, 4)[0]


def speed_at(speed, y, x):
    """Bilinear value of a map that is 0 outside."""
    total = 0.0
    for i in (np.floor(y), np.floor(y) + 1):
        for j in (np.floor(x), np.floor(x) + 1):
            if 0 <= i < speed.shape[0] and 0 <= j < speed.shape[1]:
                total += speed[int(i), int(j)] * (1 - abs(y - i)) * (1 - abs(x - j))
    return total


def moved(points, speed, motion):
    """Each vertex by (v + min(0, tension · n)) n."""
    before, after = np.roll(points, 1, axis=0), np.roll(points, -1, axis=0)
    out = []
    for p, a, b in zip(points, before, after, strict=True):
        tangent = (b - a) / max(np.hypot(*(b - a)), 1e-300)
        normal = np.array([-tangent[1], tangent[0]])
        tension = motion.stiffness / motion.spacing * (a - 2 * p + b)
        out.append(p + (speed_at(speed, *p) + min(0.0, tension @ normal)) * normal)
    return np.array(out)


def respaced(points, spacing):
    """Vertices too near to the one before are dropped, edges too long are halved; at least FEWEST stay."""
    out, left = [], len(points)
    for i, p in enumerate([*points, None]):
        q = out[0] if p is None else p
        if out:
            length = np.hypot(*(q - out[-1]))
            if length < fast.SHORTEST * spacing and left > fast.FEWEST:
                left -= 1
                if p is None:
                    out.pop()
                continue
            if length > fast.LONGEST * spacing:
                out.append((q + out[-1]) / 2)
        if i < len(points):
            out.append(p)
    return np.array(out)


def depth(polygon, y, x):
    """Distance to the nearest edge of a point inside a polygon, by dense sampling; 0 outside."""
    following = np.roll(polygon, -1, axis=0)
    steps = np.linspace(0, 1, 201)[:, None, None]
    samples = (polygon + steps * (following - polygon)).reshape(-1, 2)
    angles = np.arctan2(polygon[:, 0] - y, polygon[:, 1] - x)
    turns = np.angle(np.exp(1j * (np.roll(angles, -1) - angles))).sum() / (2 * np.pi)
    return np.hypot(*(samples - (y, x)).T).min() if round(turns) > 0 else 0.0

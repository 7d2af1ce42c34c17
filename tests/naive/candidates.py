"""Suppression and painting pair by pair and pixel by pixel, with exact fractions."""

from fractions import Fraction

import numpy as np


def keys(candidates):
    """Greater is better; the order given settles equal ones."""
    return [
        (int(score), -int(y), -int(x), -i)
        for i, (score, (y, x)) in enumerate(zip(candidates.scores, candidates.anchors, strict=True))
    ]


def pixels(box):
    y0, x0, y1, x1 = box
    return {(y, x) for y in range(y0, y1) for x in range(x0, x1)}


def unsuppressed(candidates, most):
    key = keys(candidates)
    kept = []
    for i, box in enumerate(candidates.boxes):
        rivals = [j for j in range(len(key)) if key[j] > key[i]]
        kept.append(not any(conflict(candidates, i, j, most) for j in rivals) and len(box) == 4)
    return np.array(kept, bool)


def conflict(candidates, i, j, most):
    a, b = pixels(candidates.boxes[i]), pixels(candidates.boxes[j])
    same = np.array_equal(candidates.anchors[i], candidates.anchors[j])
    return Fraction(len(a & b), len(a | b)) > Fraction(round(1000 * most), 1000) or same


def along(at, start, stop, size):
    """Two mask cells and the weight of the second at a pixel's centre."""
    place = Fraction(2 * (at - start) + 1, 2) * Fraction(size, stop - start) - Fraction(1, 2)
    place = min(max(place, Fraction(0)), Fraction(size - 1))
    first = int(place)
    return first, min(first + 1, size - 1), place - first


def value(mask, box, y, x):
    y0, x0, y1, x1 = (int(v) for v in box)
    j, below, fy = along(y, y0, y1, len(mask))
    i, right, fx = along(x, x0, x1, len(mask))
    upper = (1 - fx) * int(mask[j, i]) + fx * int(mask[j, right])
    lower = (1 - fx) * int(mask[below, i]) + fx * int(mask[below, right])
    return int((1 - fy) * upper + fy * lower)


def painted(candidates, least):
    owner = np.zeros(candidates.shape, np.int32)
    key = keys(candidates)
    for y, x in np.ndindex(candidates.shape):
        claims = []
        for i, (box, mask) in enumerate(zip(candidates.boxes, candidates.masks, strict=True)):
            if (y, x) in pixels(box):
                found = value(mask, box, y, x)
                if found >= least and found * int(candidates.scores[i]) > 0:
                    claims.append((found * int(candidates.scores[i]), key[i], i + 1))
        owner[y, x] = max(claims)[2] if claims else 0
    return owner

"""Naive twins of `cellscale.kernels.candidates`: pair by pixel sets, pixel by pixel, with exact fractions."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from cellscale.types import Candidates, Mask


def keys(candidates: Candidates) -> list[tuple[int, int, int, int]]:
    """Key of each candidate, (score, −y, −x, −number); the greater key wins, so no two are equal."""
    return [
        (int(score), -int(y), -int(x), -i)
        for i, (score, (y, x)) in enumerate(zip(candidates.scores, candidates.anchors, strict=True))
    ]


def pixels(box: Iterable[int]) -> set[tuple[int, int]]:
    """Pixels (y, x) of a half-open box y0, x0, y1, x1."""
    y0, x0, y1, x1 = box
    return {(y, x) for y in range(y0, y1) for x in range(x0, x1)}


def unsuppressed(candidates: Candidates, most: float) -> Mask:
    """Candidates (n,) that conflict with none of a higher key; `most` is the greatest overlap that is allowed."""
    key = keys(candidates)
    kept = []
    for i in range(len(key)):
        rivals = [j for j in range(len(key)) if key[j] > key[i]]
        kept.append(not any(conflict(candidates, i, j, most) for j in rivals))
    return np.array(kept, bool)


def conflict(candidates: Candidates, i: int, j: int, most: float) -> bool:
    """Whether two boxes overlap by more than `most` (intersection over union, in 1/1000) or share their anchor."""
    a, b = pixels(candidates.boxes[i]), pixels(candidates.boxes[j])
    same = np.array_equal(candidates.anchors[i], candidates.anchors[j])
    return Fraction(len(a & b), len(a | b)) > Fraction(round(1000 * most), 1000) or same


def along(at: int, start: int, stop: int, size: int) -> tuple[int, int, Fraction]:
    """Two grid cells of a mask axis and the weight of the second at the centre of pixel `at` of start … stop − 1."""
    place = Fraction(2 * (at - start) + 1, 2) * Fraction(size, stop - start) - Fraction(1, 2)
    place = min(max(place, Fraction(0)), Fraction(size - 1))
    first = int(place)
    return first, min(first + 1, size - 1), place - first


def value(mask: NDArray[np.uint8], box: Iterable[int], y: int, x: int) -> int:
    """Bilinear value of a mask (m, m) at a pixel of its box, rounded down."""
    y0, x0, y1, x1 = (int(v) for v in box)
    j, below, fy = along(y, y0, y1, len(mask))
    i, right, fx = along(x, x0, x1, len(mask))
    upper = (1 - fx) * int(mask[j, i]) + fx * int(mask[j, right])
    lower = (1 - fx) * int(mask[below, i]) + fx * int(mask[below, right])
    return int((1 - fy) * upper + fy * lower)


def painted(candidates: Candidates, least: int) -> NDArray[np.int32]:
    """Number from 1 of the candidate that owns each pixel (y, x): the greatest mask value times score, then key."""
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

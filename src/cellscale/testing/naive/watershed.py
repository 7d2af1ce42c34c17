"""Naive twins of `cellscale.kernels.watershed`: walk down from each pixel; look at all borders after each merge."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cellscale.testing.naive.components import connected_components
from cellscale.types import Mask

Border = tuple[int, int, int]
"""Two basins and the saddle between them, or the length of their common border."""


def lower(heights: NDArray[np.uint8], mask: Mask, y: int, x: int) -> tuple[int, int]:
    """Least of a pixel and its 8 neighbours in the order (height, y, x)."""
    around = [
        (int(heights[j, i]), j, i)
        for j in range(y - 1, y + 2)
        for i in range(x - 1, x + 2)
        if 0 <= j < mask.shape[0] and 0 <= i < mask.shape[1] and mask[j, i]
    ]
    _, j, i = min(around)
    return j, i


def basins(heights: NDArray[np.uint8], mask: Mask) -> tuple[NDArray[np.int64], int]:
    """Basins (y, x), numbered from 1 by first pixel, and their number: all walks of a basin end at one pixel."""
    labels = np.zeros(mask.shape, np.int64)
    numbers: dict[tuple[int, int], int] = {}
    for y, x in np.argwhere(mask).tolist():
        at = (y, x)
        while lower(heights, mask, *at) != at:
            at = lower(heights, mask, *at)
        labels[y, x] = numbers.setdefault(at, len(numbers) + 1)
    return labels, len(numbers)


def inner_distance(mask: Mask, cap: int) -> NDArray[np.int64]:
    """Heights (y, x): 8 cap less the greatest n with n ≤ 8 d, where d ≤ cap is the distance to the outside, px."""
    out = np.full(mask.shape, 8 * cap)
    outside = np.argwhere(~mask)
    for y, x in np.argwhere(mask):
        squared = min([cap**2, *((outside - (y, x)) ** 2).sum(axis=1)])
        level = max(n for n in range(8 * cap + 1) if n * n <= 64 * squared)
        out[y, x] = 8 * cap - level
    return out


def without_small_components(mask: Mask, area: int) -> Mask:
    """Mask (y, x) without its 4-connected components of at most `area` px."""
    labels, count = connected_components(mask, 4)
    out = mask.copy()
    for number in range(1, count + 1):
        if (labels == number).sum() <= area:
            out[labels == number] = False
    return out


def joined_shallow(lowest: Sequence[int], first: Sequence[int], borders: Sequence[Border], depth: int) -> list[int]:
    """Smallest member of each basin's group; `borders` are (a, b, saddle), the rest as in the kernel."""
    groups = [{i} for i in range(len(lowest))]
    of = {i: groups[i] for i in range(len(lowest))}
    for _, _, a, b, saddle in sorted((s, sorted((first[a], first[b])), a, b, s) for a, b, s in borders):
        if of[a] is not of[b] and saddle - max(min(lowest[i] for i in of[k]) for k in (a, b)) < depth:
            of[a] |= of[b]
            for member in of[b]:
                of[member] = of[a]
    return [min(of[i]) for i in range(len(lowest))]


def flooded(
    groups: Sequence[int], lowest: Sequence[int], first: Sequence[int], borders: Sequence[Border], marker: int
) -> list[int]:
    """Smallest member of each group's flooded region, −1 without a marker; `borders` are (a, b, saddle)."""
    groups = list(groups)

    def marked(group: int) -> bool:
        return any(height <= marker for of, height in zip(groups, lowest, strict=True) if of == group)

    ordered = sorted((s, sorted((first[a], first[b])), a, b) for a, b, s in borders)
    for _, _, a, b in ordered:
        if groups[a] != groups[b] and not (marked(groups[a]) and marked(groups[b])):
            least, other = sorted((groups[a], groups[b]))
            groups = [least if group == other else group for group in groups]
    return [group if marked(group) else -1 for group in groups]


def joined_long(groups: Sequence[int], borders: Sequence[Border], length: int) -> list[int]:
    """Smallest member of each group when the longest common border is joined first; `borders` are (a, b, length)."""
    groups = list(groups)
    while True:
        sums: dict[tuple[int, int], int] = {}
        for a, b, pixels in borders:
            low, high = sorted((groups[a], groups[b]))
            if low != high:
                sums[low, high] = sums.get((low, high), 0) + pixels
        if max(sums.values(), default=-1) < length:
            return groups
        low, high = max(sums, key=lambda pair: sums[pair])
        groups = [low if group == high else group for group in groups]

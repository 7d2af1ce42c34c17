"""Basins by walking down from each pixel; joining by looking at all borders again after each step."""

import numpy as np

from tests.naive.components import connected_components


def lower(heights, mask, y, x):
    """The least of a pixel and its 8 neighbours by (height, y, x)."""
    around = [
        (heights[j, i], j, i)
        for j in range(y - 1, y + 2)
        for i in range(x - 1, x + 2)
        if 0 <= j < mask.shape[0] and 0 <= i < mask.shape[1] and mask[j, i]
    ]
    return min(around)[1:]


def basins(heights, mask):
    """Without a box, all walks end at the lowest pixel of a basin."""
    labels, numbers = np.zeros(mask.shape, int), {}
    for y, x in np.argwhere(mask).tolist():
        at = (y, x)
        while lower(heights, mask, *at) != at:
            at = lower(heights, mask, *at)
        labels[y, x] = numbers.setdefault(at, len(numbers) + 1)
    return labels, len(numbers)


def inner_distance(mask, cap):
    out = np.full(mask.shape, 8 * cap)
    outside = np.argwhere(~mask)
    for y, x in np.argwhere(mask):
        squared = min([cap**2, *((outside - (y, x)) ** 2).sum(axis=1)])
        level = max(n for n in range(8 * cap + 1) if n * n <= 64 * squared)
        out[y, x] = 8 * cap - level
    return out


def without_specks(mask, area):
    labels, count = connected_components(mask, 4)
    out = mask.copy()
    for number in range(1, count + 1):
        if (labels == number).sum() <= area:
            out[labels == number] = False
    return out


def joined_shallow(lowest, first, borders, depth):
    """Sets of basins; `borders` are (a, b, saddle)."""
    groups = [{i} for i in range(len(lowest))]
    of = {i: groups[i] for i in range(len(lowest))}
    for _, _, a, b, saddle in sorted((s, sorted((first[a], first[b])), a, b, s) for a, b, s in borders):
        if of[a] is not of[b] and saddle - max(min(lowest[i] for i in of[k]) for k in (a, b)) < depth:
            of[a] |= of[b]
            for member in of[b]:
                of[member] = of[a]
    return [min(of[i]) for i in range(len(lowest))]


def flooded(groups, lowest, first, borders, marker):
    """`borders` are (a, b, saddle); the lowest border that may be joined is joined, again and again."""
    groups = list(groups)

    def marked(group):
        return any(height <= marker for of, height in zip(groups, lowest, strict=True) if of == group)

    ordered = sorted((s, sorted((first[a], first[b])), a, b) for a, b, s in borders)
    for _, _, a, b in ordered:
        if groups[a] != groups[b] and not (marked(groups[a]) and marked(groups[b])):
            least, other = sorted((groups[a], groups[b]))
            groups = [least if group == other else group for group in groups]
    return [group if marked(group) else -1 for group in groups]


def joined_long(groups, borders, length):
    """`borders` are (a, b, length); the longest common border of two groups is joined first."""
    groups = list(groups)
    while True:
        sums = {}
        for a, b, pixels in borders:
            pair = tuple(sorted((groups[a], groups[b])))
            if pair[0] != pair[1]:
                sums[pair] = sums.get(pair, 0) + pixels
        if max(sums.values(), default=-1) < length:
            return groups
        a, b = max(sums, key=lambda pair: sums[pair])
        groups = [a if group == b else group for group in groups]

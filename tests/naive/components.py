"""Components by filling from each pixel in raster order."""

from itertools import product

import numpy as np


def connected_components(mask, connectivity):
    steps = [
        step for step in product((-1, 0, 1), repeat=mask.ndim) if connectivity in (8, 26) or sum(map(abs, step)) == 1
    ]
    labels, count = np.zeros(mask.shape, int), 0
    for start in zip(*np.nonzero(mask), strict=True):
        if labels[start] == 0:
            count += 1
            todo = [start]
            while todo:
                at = todo.pop()
                inside = all(0 <= i < n for i, n in zip(at, mask.shape, strict=True))
                if inside and mask[at] and labels[at] == 0:
                    labels[at] = count
                    todo += [tuple(i + d for i, d in zip(at, step, strict=True)) for step in steps]
    return labels, count


def merge(count, pairs):
    """Spread the smallest member until nothing changes."""
    roots = list(range(count))
    for _ in range(count):
        for a, b in pairs:
            roots[a] = roots[b] = min(roots[a], roots[b])
    return roots

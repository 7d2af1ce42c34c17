"""Components by filling from each pixel in raster order."""

import numpy as np


def connected_components(mask, connectivity):
    steps = [(-1, 0), (1, 0), (0, -1), (0, 1)]
    if connectivity == 8:
        steps += [(-1, -1), (-1, 1), (1, -1), (1, 1)]
    labels, count = np.zeros(mask.shape, int), 0
    for start in zip(*np.nonzero(mask), strict=True):
        if labels[start] == 0:
            count += 1
            todo = [start]
            while todo:
                y, x = todo.pop()
                if 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1] and mask[y, x] and labels[y, x] == 0:
                    labels[y, x] = count
                    todo += [(y + dy, x + dx) for dy, dx in steps]
    return labels, count


def merge(count, pairs):
    """Spread the smallest member until nothing changes."""
    roots = list(range(count))
    for _ in range(count):
        for a, b in pairs:
            roots[a] = roots[b] = min(roots[a], roots[b])
    return roots

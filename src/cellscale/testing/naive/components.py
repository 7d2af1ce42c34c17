"""Naive twins of `cellscale.kernels.components` and `unions`: fill from each pixel, propagate the least number."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

import numpy as np
from numpy.typing import NDArray

from cellscale.types import Mask


def connected_components(mask: Mask, connectivity: int) -> tuple[NDArray[np.int64], int]:
    """Number the components from 1 in raster order by filling from each pixel.

    Parameters
    ----------
    mask : bool array, (y, x) or (z, y, x)
        Foreground.
    connectivity : {4, 8, 6, 26}
        Neighbours of a pixel; 6 or 26 in a volume.

    Returns
    -------
    labels : int64 array, as the mask
        0 is background.
    count : int
        Number of components.

    Examples
    --------
    >>> mask = np.array([[1, 0], [0, 1]], bool)
    >>> connected_components(mask, 4)[1], connected_components(mask, 8)[1]
    (2, 1)
    """
    steps = [
        step for step in product((-1, 0, 1), repeat=mask.ndim) if connectivity in (8, 26) or sum(map(abs, step)) == 1
    ]
    labels, count = np.zeros(mask.shape, np.int64), 0
    for start in map(tuple, np.argwhere(mask).tolist()):
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


def merge(count: int, pairs: Iterable[tuple[int, int]]) -> list[int]:
    """Smallest member of each one's set, by passing it along the pairs until nothing can change."""
    roots, known = list(range(count)), list(pairs)
    for _ in range(count):
        for a, b in known:
            roots[a] = roots[b] = min(roots[a], roots[b])
    return roots

"""Label images and what a poor segmentation would make of them."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from cellscale.types import Labels


def scattered(seed: int, *, side: int = 48, number: int = 9) -> Labels:
    """Random rectangles, later ones over earlier ones, with gaps in the numbering and a border of background."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((side, side), np.uint32)
    for cell in range(number):
        y, x = rng.integers(1, side - 8, 2)
        height, width = rng.integers(3, 16, 2)
        labels[y : y + height, x : x + width][: side - 1 - y, : side - 1 - x] = 3 * cell + 2
    return labels


def eroded(labels: Labels) -> Labels:
    same = ndimage.minimum_filter(labels, 3) == ndimage.maximum_filter(labels, 3)
    return np.where(same, labels, 0).astype(np.uint32)


def merged(labels: Labels) -> Labels:
    """Every second cell gets the number of the one before."""
    ids = np.unique(labels)
    ranks = np.searchsorted(ids, labels)
    return ids[np.where(ranks > 0, (ranks - 1) // 2 * 2 + 1, 0)].astype(np.uint32)


def halved(labels: Labels) -> Labels:
    """Every cell is cut along the image's middle column and along every seventh row."""
    rows, columns = np.indices(labels.shape)
    parts = 2 * (rows // 7) + (columns >= labels.shape[1] // 2)
    return np.where(labels > 0, labels * 1000 + parts, 0).astype(np.uint32)


def damaged(labels: Labels, seed: int) -> Labels:
    """Shift, lose some cells, and erode, merge, halve or keep the others."""
    rng = np.random.default_rng(seed)
    moved = ndimage.shift(labels, rng.integers(-3, 4, 2), order=0)
    lost = rng.choice(np.unique(labels), 2)
    kept = np.where(np.isin(moved, lost), 0, moved).astype(np.uint32)
    return (eroded, merged, halved, np.copy)[seed % 4](kept)

"""Naive twins of `cellscale.kernels.touching`: one 3×3 neighbourhood at a time; outside the image is background."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellscale.types import Mask


def around(image: NDArray[Any], y: int, x: int) -> NDArray[Any]:
    """3×3 square around a pixel, clipped at the image's border."""
    return image[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]


def separated(labels: NDArray[Any]) -> NDArray[Any]:
    """Labels (y, x) without the pixels that have a lower label among their 8 neighbours.

    Examples
    --------
    >>> separated(np.array([[1, 1, 2, 2]])).tolist()
    [[1, 1, 0, 2]]
    """
    out = labels.copy()
    for y, x in np.ndindex(*labels.shape):
        if any(0 < b < labels[y, x] for b in around(labels, y, x).ravel()):
            out[y, x] = 0
    return out


def dilated(mask: Mask) -> Mask:
    """Dilation of a mask (y, x) by a 3×3 square."""
    out = np.zeros_like(mask)
    for y, x in np.ndindex(*mask.shape):
        out[y, x] = around(mask, y, x).any()
    return out


def second_nearest(labels: NDArray[Any], y: int, x: int) -> float:
    """Distance of a pixel to the second nearest cell of labels (y, x), px; infinite with fewer than two."""
    cells = [np.argwhere(labels == number) for number in np.unique(labels[labels > 0])]
    distances = sorted(float(np.sqrt(((cell - (y, x)) ** 2).sum(axis=1).min())) for cell in cells)
    return distances[1] if len(distances) > 1 else np.inf


def touching_classes(labels: NDArray[Any], within: float = 0.0) -> NDArray[np.int64]:
    """Three classes of Algorithm 1, (y, x): 0 background, 1 cell, 2 touching; far from a larger image's border.

    With `within`, gaps count where the second nearest cell is at most this far away, px.
    """
    apart = np.pad(separated(labels), 3)
    cells = apart > 0
    gaps = ~dilated(~dilated(cells)) & ~cells
    for y, x in np.argwhere(gaps) if within > 0 else ():
        gaps[y, x] = second_nearest(apart, y, x) <= within
    touching = dilated(gaps)
    return np.where(touching, 2, np.where(cells, 1, 0))[3:-3, 3:-3]


def boundary_pixels(labels: NDArray[Any]) -> Mask:
    """Cell pixels (y, x) with a 4-neighbour inside the image that has another label or is background."""
    out = np.zeros(labels.shape, bool)
    for y, x in np.ndindex(*labels.shape):
        sides = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        inside = [labels[j, i] for j, i in sides if 0 <= j < labels.shape[0] and 0 <= i < labels.shape[1]]
        out[y, x] = labels[y, x] > 0 and any(other != labels[y, x] for other in inside)
    return out


def grown_through(cells: NDArray[Any], touching: Mask, steps: int) -> NDArray[Any]:
    """Labels (y, x) grown through a mask: each step, a pixel takes its first labelled neighbour in raster order."""
    for _ in range(steps):
        before = cells.copy()
        for y, x in np.argwhere(touching & (before == 0)).tolist():
            near = around(before, y, x).ravel()
            cells = cells.copy()
            cells[y, x] = next((label for label in near if label), 0)
    return cells


def contact_regions(labels: NDArray[Any], width: float) -> Mask:
    """Contact regions (y, x) from every cell's distance to every pixel.

    With d1 and d2 the distances to the two nearest cells, d1 + d2 ≤ w is 4 d1² d2² ≤ (w² − d1² − d2²)², so squared
    distances suffice.
    """
    cells = [np.argwhere(labels == number) for number in np.unique(labels[labels > 0])]
    out = np.zeros(labels.shape, bool)
    for y, x in np.ndindex(*labels.shape):
        squared = sorted((int(((cell - (y, x)) ** 2).sum(axis=1).min()), int(labels[tuple(cell[0])])) for cell in cells)
        if len(squared) > 1:
            (a, own), (b, _) = squared[:2]
            rest = width**2 - a - b
            out[y, x] = 4 * b <= width**2 if labels[y, x] == own else rest >= 0 and 4 * a * b <= rest**2
    return out

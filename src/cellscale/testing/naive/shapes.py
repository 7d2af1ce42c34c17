"""Naive twins of `cellscale.kernels.skeletons`, `concavities`, `smoothing` and `weights`, as the papers state them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cellscale.testing.naive.distances import nearest_label, to_nearest
from cellscale.testing.naive.neighbourhoods import boundary_pixels, separated
from cellscale.types import Mask

_RING = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))


def deletable(p: Sequence[int], first: bool) -> bool:
    """Whether the first or the second pass deletes a pixel with these 8 neighbours, clockwise from the one above."""
    steps = sum(not p[i] and bool(p[(i + 1) % 8]) for i in range(8))
    north, east, south, west = p[::2]
    if not 2 <= sum(p) <= 6 or steps != 1:
        return False
    if first:
        return not (north and east and south) and not (east and south and west) and p != [0, 0, 1, 1, 1, 0, 0, 0]
    return not (north and east and west) and not (north and south and west) and p != [1, 0, 0, 0, 0, 0, 1, 1]


def skeleton(mask: Mask) -> Mask:
    """Skeleton (y, x) by Zhang and Suen (1984), all pixels in each pass; lone corners of 2×2 squares are spared."""
    padded = np.pad(mask, 1).astype(int)
    quiet = 0
    first = True
    while quiet < 2:
        pixels = np.argwhere(padded).tolist()
        gone = [(y, x) for y, x in pixels if deletable([int(padded[y + j, x + i]) for j, i in _RING], first)]
        for at in gone:
            padded[at] = 0
        quiet = 0 if gone else quiet + 1
        first = not first
    found: Mask = padded[1:-1, 1:-1] > 0
    return found


def hull(mask: Mask) -> Mask:
    """Convex hull (y, x): pixels that no line through two mask pixels, with all others on one side, cuts off."""
    inside = np.ones(mask.shape, bool)
    rows, columns = np.indices(mask.shape)
    points = np.argwhere(mask)
    for y0, x0 in points:
        for y1, x1 in points:
            if (y0, x0) != (y1, x1):
                side = (y1 - y0) * (columns - x0) - (x1 - x0) * (rows - y0)
                if side[mask].min() >= 0:
                    inside &= side >= 0
    box = np.zeros_like(mask)
    box[np.ix_(*(np.arange(axis.min(), axis.max() + 1) for axis in points.T))] = True
    return inside & box


def contours_and_skeletons(labels: NDArray[Any]) -> tuple[Mask, Mask]:
    """Contours and skeletons (y, x) of all cells and of their concavities, figure by figure."""
    contours, skeletons = np.zeros(labels.shape, bool), np.zeros(labels.shape, bool)
    for label in np.unique(labels[labels > 0]):
        cell = labels == label
        for figure in (cell, hull(cell) & ~cell):
            contours |= boundary_pixels(figure.astype(int))
            skeletons |= skeleton(figure)
    return contours, skeletons


def contour_complexity(labels: NDArray[Any]) -> tuple[NDArray[np.float64], Mask]:
    """Distance to the nearest skeleton on contours, 0 elsewhere, px, and the contours, both (y, x)."""
    contours, skeletons = contours_and_skeletons(separated(labels))
    distances = np.zeros(labels.shape)
    for y, x in np.argwhere(contours).tolist():
        distances[y, x] = np.sqrt(to_nearest(skeletons, y, x))
    return distances, contours


def gaussian(image: NDArray[Any], sigma: float) -> NDArray[Any]:
    """Image (y, x) smoothed along both axes with a Gaussian cut at 4σ; border pixels are repeated outwards."""
    reach = int(4 * sigma + 0.5)
    kernel = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    kernel /= kernel.sum()
    for axis in (0, 1):
        padded = np.pad(image, [(reach, reach) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
        shifted = [padded.take(range(i, i + image.shape[axis]), axis) for i in range(len(kernel))]
        image = np.sum([weight * part for weight, part in zip(kernel, shifted, strict=True)], axis=0)
    return image


def shape_aware_weights(
    labels: NDArray[Any], *, tau: float, sigma: float, radius: int, propagate: Literal["both", "inside"], offset: float
) -> NDArray[np.float64]:
    """Weight map (y, x) of Guerrero-Peña et al. (2018), equations 3 and 4; parameters as in `kernels.weights`."""
    distances, contours = contour_complexity(labels)
    complexity = np.clip(1 - distances / tau, 0, None) + offset
    sources = np.zeros(labels.shape, int)
    sources[contours] = np.arange(1, contours.sum() + 1)
    nearest, _ = nearest_label(sources, radius)
    copied = np.concatenate([[0], complexity[contours]])[nearest]
    if propagate == "inside":
        copied = np.where((labels > 0) | contours, copied, 0)
    smooth: NDArray[np.float64] = gaussian(copied, sigma) / (1 + offset)
    return smooth


def ronneberger(labels: NDArray[Any], *, w0: float, sigma: float, squares: bool, where: Mask) -> NDArray[np.float64]:
    """Weights (y, x) of Ronneberger et al. (2015), equation 2: one distance for each pixel and each cell."""
    weights = np.zeros(labels.shape)
    cells = [labels == label for label in np.unique(labels[labels > 0])]
    for y, x in np.argwhere(where).tolist():
        distances = sorted(np.sqrt(to_nearest(cell, y, x)) for cell in cells)
        if len(distances) > 1:
            d1, d2 = distances[:2]
            weights[y, x] = w0 * np.exp(-(d1**2 + d2**2 if squares else (d1 + d2) ** 2) / (2 * sigma**2))
    return weights


def boundary_weights(labels: NDArray[Any], *, alpha: float, sigma: float) -> NDArray[np.float64]:
    """Weights (y, x) of Lin and Norouzi (2021), equation 3 without w_c: the nearest boundary pixel of each pixel."""
    boundary = boundary_pixels(labels)
    weights = np.zeros(labels.shape)
    for y, x in np.ndindex(*labels.shape):
        if boundary.any():
            weights[y, x] = alpha * np.exp(-to_nearest(boundary, y, x) / (2 * sigma**2))
    return weights

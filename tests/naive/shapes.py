"""Skeletons, hulls and the weights that follow from them, as the papers say it."""

import numpy as np

from tests.naive.distances import nearest_label, to_nearest
from tests.naive.neighbourhoods import rims, separated


def deletable(p, first):
    """Whether a pass deletes a pixel with these eight neighbours, clockwise from the one above."""
    steps = sum(not p[i] and p[(i + 1) % 8] for i in range(8))
    north, east, south, west = p[::2]
    if not 2 <= sum(p) <= 6 or steps != 1:
        return False
    if first:
        return not (north and east and south) and not (east and south and west) and p != [0, 0, 1, 1, 1, 0, 0, 0]
    return not (north and east and west) and not (north and south and west) and p != [1, 0, 0, 0, 0, 0, 1, 1]


def skeleton(mask):
    """Thin by Zhang and Suen, sparing corners with nothing else around: all pixels, pass by pass."""
    padded = np.pad(mask, 1).astype(int)
    ring = [(-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1)]
    rests = 0
    first = True
    while rests < 2:
        pixels = zip(*np.nonzero(padded), strict=True)
        gone = [(y, x) for y, x in pixels if deletable([int(padded[y + j, x + i]) for j, i in ring], first)]
        for at in gone:
            padded[at] = 0
        rests = 0 if gone else rests + 1
        first = not first
    return padded[1:-1, 1:-1] > 0


def hull(mask):
    """Pixels that no line through two of the mask's pixels, with all the mask on one side, cuts off."""
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
    box[np.ix_(*(slice_range(axis) for axis in points.T))] = True
    return inside & box


def slice_range(values):
    return np.arange(values.min(), values.max() + 1)


def contours_and_skeletons(labels):
    contours, skeletons = np.zeros(labels.shape, bool), np.zeros(labels.shape, bool)
    for label in np.unique(labels[labels > 0]):
        cell = labels == label
        for figure in (cell, hull(cell) & ~cell):
            contours |= rims(figure.astype(int))
            skeletons |= skeleton(figure)
    return contours, skeletons


def contour_complexity(labels):
    contours, skeletons = contours_and_skeletons(separated(labels))
    distances = np.zeros(labels.shape)
    for y, x in zip(*np.nonzero(contours), strict=True):
        distances[y, x] = np.sqrt(to_nearest(skeletons, y, x))
    return distances, contours


def gaussian(image, sigma):
    """Smooth along both axes with a kernel cut at 4σ, border pixels repeated."""
    reach = int(4 * sigma + 0.5)
    kernel = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    kernel /= kernel.sum()
    for axis in (0, 1):
        padded = np.pad(image, [(reach, reach) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
        image = sum(k * padded.take(range(i, i + image.shape[axis]), axis) for i, k in enumerate(kernel))
    return image


def shape_aware_weights(labels, *, tau, sigma, radius, spread, offset):
    distances, contours = contour_complexity(labels)
    complexity = np.clip(1 - distances / tau, 0, None) + offset
    sources = np.zeros(labels.shape, int)
    sources[contours] = np.arange(1, contours.sum() + 1)
    nearest, _ = nearest_label(sources, radius)
    copied = np.concatenate([[0], complexity[contours]])[nearest]
    if spread == "inside":
        copied = np.where((labels > 0) | contours, copied, 0)
    return gaussian(copied, sigma) / (1 + offset)


def ronneberger(labels, *, w0, sigma, squares, where):
    """One distance for each pixel and each cell."""
    weights = np.zeros(labels.shape)
    cells = [labels == label for label in np.unique(labels[labels > 0])]
    for y, x in zip(*np.nonzero(where), strict=True):
        distances = sorted(np.sqrt(to_nearest(cell, y, x)) for cell in cells)
        if len(distances) > 1:
            d1, d2 = distances[:2]
            weights[y, x] = w0 * np.exp(-(d1**2 + d2**2 if squares else (d1 + d2) ** 2) / (2 * sigma**2))
    return weights


def rim_weights(labels, *, alpha, sigma):
    """Equation 3 of Lin and Norouzi (2021) without w_c: every rim pixel is tried for every pixel."""
    rim = rims(labels)
    weights = np.zeros(labels.shape)
    for y, x in np.ndindex(labels.shape):
        if rim.any():
            weights[y, x] = alpha * np.exp(-to_nearest(rim, y, x) / (2 * sigma**2))
    return weights

"""What a pixel's 3×3 neighbourhood holds, one pixel at a time; outside the image is background."""

import numpy as np


def around(image, y, x):
    """The 3×3 square around a pixel, cut at the image's border."""
    return image[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]


def separated(labels):
    out = labels.copy()
    for y, x in np.ndindex(labels.shape):
        if any(0 < b < labels[y, x] for b in around(labels, y, x).ravel()):
            out[y, x] = 0
    return out


def dilated(mask):
    out = np.zeros_like(mask)
    for y, x in np.ndindex(mask.shape):
        out[y, x] = around(mask, y, x).any()
    return out


def second_nearest(labels, y, x):
    """Distance of a pixel to the second nearest cell."""
    cells = [np.argwhere(labels == number) for number in np.unique(labels[labels > 0])]
    distances = sorted(np.sqrt(((cell - (y, x)) ** 2).sum(axis=1).min()) for cell in cells)
    return distances[1] if len(distances) > 1 else np.inf


def touching_classes(labels, within=None):
    """Algorithm 1, far from the border of a larger image."""
    apart = np.pad(separated(labels), 3)
    cells = apart > 0
    gaps = ~dilated(~dilated(cells)) & ~cells
    for y, x in np.argwhere(gaps) if within else ():
        gaps[y, x] = second_nearest(apart, y, x) <= within
    touching = dilated(gaps)
    return np.where(touching, 2, np.where(cells, 1, 0))[3:-3, 3:-3]


def rims(labels):
    out = np.zeros(labels.shape, bool)
    for y, x in np.ndindex(labels.shape):
        sides = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        inside = [labels[j, i] for j, i in sides if 0 <= j < labels.shape[0] and 0 <= i < labels.shape[1]]
        out[y, x] = labels[y, x] > 0 and any(other != labels[y, x] for other in inside)
    return out


def grown_through(cells, touching, steps):
    for _ in range(steps):
        before = cells.copy()
        for y, x in zip(*np.nonzero(touching & (before == 0)), strict=True):
            near = around(before, y, x).ravel()
            cells = cells.copy()
            cells[y, x] = next((label for label in near if label), 0)
    return cells


def contact_regions(labels, width):
    """Every cell's distance to every pixel; squared sums by whole numbers."""
    cells = [np.argwhere(labels == number) for number in np.unique(labels[labels > 0])]
    out = np.zeros(labels.shape, bool)
    for y, x in np.ndindex(labels.shape):
        squared = sorted((((cell - (y, x)) ** 2).sum(axis=1).min(), labels[tuple(cell[0])]) for cell in cells)
        if len(squared) > 1:
            (a, own), (b, _) = squared[:2]
            rest = width**2 - a - b
            out[y, x] = 4 * b <= width**2 if labels[y, x] == own else rest >= 0 and 4 * a * b <= rest**2
    return out

"""Distances by looking at every pair of pixels."""

import numpy as np

FAR = np.iinfo(np.int32).max


def to_nearest(where, y, x):
    """Squared distance from one pixel to the nearest of a set, FAR without any."""
    nearest = spaced(where, (y, x), (1, 1))
    return FAR if nearest is None else nearest


def spaced(where, pixel, spacing):
    """Squared distance from one pixel to the nearest of a set, along axes of any spacing; None without any."""
    squared = sum(((axis - at) * step) ** 2 for axis, at, step in zip(np.nonzero(where), pixel, spacing, strict=True))
    return min(squared.tolist(), default=None)


def label_distance_transform(labels, spacing=None, cap=None):
    squared = np.zeros(labels.shape, np.int32 if spacing is None else np.int64)
    for pixel in zip(*np.nonzero(labels), strict=True):
        nearest = spaced(labels != labels[pixel], pixel, spacing or (1,) * labels.ndim)
        if nearest is None:
            squared[pixel] = np.iinfo(squared.dtype).max if cap is None else cap**2
        else:
            squared[pixel] = nearest if cap is None else min(nearest, cap**2)
    return squared


def signed_distance(mask, spacing=None):
    """Distance to the other kind by a look at all pixels of it, negative outside."""
    squared = label_distance_transform(mask + 1, spacing)
    far = squared == np.iinfo(squared.dtype).max
    return np.where(mask, 1, -1) * np.where(far, np.inf, np.sqrt(squared)).astype(np.float32)


def two_nearest_labels(labels):
    """Sort all labelled pixels by (squared distance, y, x); take the first, and the first with another label."""
    rows, columns = np.nonzero(labels)
    found = np.zeros((4, *labels.shape), np.int64)
    for y, x in np.ndindex(labels.shape):
        squared = (rows - y) ** 2 + (columns - x) ** 2
        order = np.lexsort((columns, rows, squared))
        ranked = [(labels[rows[i], columns[i]], squared[i]) for i in order] + [(0, FAR)]
        others = [pair for pair in ranked if pair[0] != ranked[0][0]] + [(0, FAR)]
        found[:, y, x] = *ranked[0], *others[0]
    return found


def nearest_label(labels, radius=None):
    nearest, squared, _, _ = two_nearest_labels(labels)
    if radius is not None:
        far = squared > radius**2
        nearest, squared = np.where(far, 0, nearest), np.where(far, FAR, squared)
    return nearest, squared

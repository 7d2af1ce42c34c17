"""Distances by looking at every pair of pixels."""

import numpy as np

FAR = np.iinfo(np.int32).max


def to_nearest(where, y, x):
    """Squared distance from one pixel to the nearest of a set, FAR without any."""
    rows, columns = np.nonzero(where)
    return min(((rows - y) ** 2 + (columns - x) ** 2).tolist(), default=FAR)


def label_distance_transform(labels):
    squared = np.zeros(labels.shape, np.int32)
    for y, x in zip(*np.nonzero(labels), strict=True):
        squared[y, x] = to_nearest(labels != labels[y, x], y, x)
    return squared


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

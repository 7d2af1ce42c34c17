"""Naive twins of `cellscale.kernels.distances`: look at every pair of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellscale.types import Mask

FAR = int(np.iinfo(np.int32).max)
"""Squared distance where nothing can be near."""


def to_nearest(where: Mask, y: int, x: int) -> int:
    """Squared distance from pixel (y, x) to the nearest pixel of a mask, px²; FAR for an empty mask."""
    nearest = spaced(where, (y, x), (1, 1))
    return FAR if nearest is None else nearest


def spaced(where: Mask, pixel: Sequence[int], spacing: Sequence[int]) -> int | None:
    """Squared distance from a pixel to the nearest of a mask, along axes of any spacing; None for an empty mask."""
    squared = sum(((axis - at) * step) ** 2 for axis, at, step in zip(np.nonzero(where), pixel, spacing, strict=True))
    return min((int(value) for value in np.atleast_1d(squared)), default=None)


def label_distance_transform(
    labels: NDArray[Any], spacing: Sequence[int] | None = None, cap: int | None = None
) -> NDArray[Any]:
    """Squared distance of each labelled pixel to the nearest pixel of any other label, background included.

    Parameters
    ----------
    labels : integer array, (y, x) or (z, y, x)
        Cells.
    spacing : sequence of int, optional
        Distance of neighbours along each axis.
    cap : int, optional
        Greatest distance.

    Returns
    -------
    int32 array, or int64 array with a spacing
        0 on background; the type's greatest number where there is no other label and no cap.

    Examples
    --------
    >>> label_distance_transform(np.array([[0, 1, 1, 2]])).tolist()
    [[0, 1, 1, 1]]
    """
    squared = np.zeros(labels.shape, np.int32 if spacing is None else np.int64)
    for pixel in map(tuple, np.argwhere(labels).tolist()):
        nearest = spaced(labels != labels[pixel], pixel, spacing or (1,) * labels.ndim)
        if nearest is None:
            squared[pixel] = np.iinfo(squared.dtype).max if cap is None else cap**2
        else:
            squared[pixel] = nearest if cap is None else min(nearest, cap**2)
    return squared


def signed_distance(mask: Mask, spacing: Sequence[int] | None = None) -> NDArray[np.float64]:
    """Distance of each pixel to the nearest one of the other kind, negative outside the mask."""
    squared = label_distance_transform(mask + np.uint8(1), spacing)
    far = squared == np.iinfo(squared.dtype).max
    distances: NDArray[np.float64] = np.where(mask, 1, -1) * np.where(far, np.inf, np.sqrt(squared)).astype(np.float32)
    return distances


def two_nearest_labels(labels: NDArray[Any]) -> NDArray[np.int64]:
    """Sort all labelled pixels by (squared distance, y, x): take the first, and the first with another label.

    Parameters
    ----------
    labels : integer array, (y, x)
        Cells.

    Returns
    -------
    int64 array, (4, y, x)
        Nearest label and squared distance, second nearest label and squared distance; 0 and FAR for none.
    """
    rows, columns = np.nonzero(labels)
    found = np.zeros((4, *labels.shape), np.int64)
    for y, x in np.ndindex(*labels.shape):
        squared = (rows - y) ** 2 + (columns - x) ** 2
        order = np.lexsort((columns, rows, squared))
        ranked = [(int(labels[rows[i], columns[i]]), int(squared[i])) for i in order] + [(0, FAR)]
        others = [pair for pair in ranked if pair[0] != ranked[0][0]] + [(0, FAR)]
        found[:, y, x] = *ranked[0], *others[0]
    return found


def nearest_label(labels: NDArray[Any], radius: int | None = None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Nearest label and squared distance of each pixel (y, x); 0 and FAR farther than `radius` px."""
    nearest, squared, _, _ = two_nearest_labels(labels)
    if radius is not None:
        far = squared > radius**2
        nearest, squared = np.where(far, 0, nearest), np.where(far, FAR, squared)
    return nearest, squared

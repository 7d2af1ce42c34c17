"""Checks and conversions of arguments, made once by the public functions and assumed by the compiled parts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellscale.errors import InputError
from cellscale.types import Labels, Mask

LONGEST_SIDE = 32_766
"""Longest side of an image for exact distances, px: 2 · 32,766² is below the greatest int32, which stands for none."""


def _check_axes(image: NDArray[Any], name: str, most: int) -> None:
    if image.ndim != 2 and most == 2:
        raise InputError(f"{name} has the shape {image.shape}; expected two axes (y, x). Pass one plane at a time.")
    if image.ndim not in (2, 3):
        raise InputError(f"{name} has the shape {image.shape}; expected (y, x) or (z, y, x). Pass one frame at a time.")


def label_image(labels: NDArray[np.integer[Any]], name: str = "labels", *, axes: int = 2) -> Labels:
    """Return a label image as a contiguous uint32 array, without a copy if it is one already.

    Parameters
    ----------
    labels : integer array, (y, x)
        Cells.
    name : str
        Name of the argument in error messages.
    axes : int
        With 3, (z, y, x) is accepted as well as (y, x).

    Returns
    -------
    uint32 array, (y, x) or (z, y, x)

    Raises
    ------
    InputError
        If it has other axes, is not an integer array, or has a value outside of the range of uint32.
    """
    image = np.asarray(labels)
    _check_axes(image, name, axes)
    if image.dtype == np.uint32:
        return np.ascontiguousarray(image)
    if not np.issubdtype(image.dtype, np.integer):
        raise InputError(f"{name} is of {image.dtype}; expected integers, 0 for background. Convert or threshold it.")
    low, high = (int(image.min()), int(image.max())) if image.size else (0, 0)
    if low < 0 or high > np.iinfo(np.uint32).max:
        raise InputError(
            f"{name} holds {low} to {high}; labels are 0 to {np.iinfo(np.uint32).max}. Renumber the cells."
        )
    return np.ascontiguousarray(image, np.uint32)


def mask_image(mask: Mask, name: str = "mask", *, axes: int = 2) -> Mask:
    """Return a mask as a contiguous bool array, (y, x), or with `axes` 3 also (z, y, x).

    Raises
    ------
    InputError
        If it has other axes or another type.
    """
    image = np.asarray(mask)
    _check_axes(image, name, axes)
    if image.dtype != np.bool_:
        raise InputError(f"{name} is of {image.dtype}; expected booleans. Compare first, for example labels > 0.")
    return np.ascontiguousarray(image)


def check_sides(image: NDArray[Any], name: str) -> None:
    """Raise InputError for an image whose squared distances int32 cannot hold."""
    if max(image.shape) > LONGEST_SIDE:
        raise InputError(f"{name} has {image.shape} px; distances need at most {LONGEST_SIDE} px a side. Use tiles.")


def check_equal_shapes(a: NDArray[Any], b: NDArray[Any], names: str) -> None:
    """Raise InputError for two images of different shapes."""
    if a.shape != b.shape:
        raise InputError(f"{names} have the shapes {a.shape} and {b.shape}; expected equal shapes.")

"""Types of pixels that an image can have."""

from __future__ import annotations

from typing import Any

import numpy as np

from cellscale.errors import InputError


def pixel_type(dtype: Any, what: str) -> np.dtype[Any]:
    """The type of an image's pixels in the byte order of this machine.

    Raises
    ------
    InputError
        Naming `what`, for a type that an image cannot have.
    """
    found: np.dtype[Any] = np.dtype(dtype).newbyteorder("=")
    if found.kind not in "uifb" or found.itemsize > 8:
        expected = "expected integers, floats or booleans of at most 64 bits"
        raise InputError(f"{what} has pixels of type {found}; {expected}.")
    # NumPy has two types of 64-bit integers, after C's long and long long. Zarr knows the one that their text names.
    known: np.dtype[Any] = np.dtype(found.str)
    return known

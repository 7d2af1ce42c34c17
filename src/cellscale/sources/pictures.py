"""PNG and JPEG files: one frame each, colours as channels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from cellscale.errors import StoreError
from cellscale.sources.stored import Index, Stored, checked_axes

PICTURES = (".png", ".jpg", ".jpeg")


def _decoded(path: str) -> NDArray[Any]:
    try:
        return np.asarray(imagecodecs.imread(path))
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        raise StoreError(f"Cannot read {path} as a picture: {error}. Check that the file is whole.") from error


def _read(path: str, index: Index) -> NDArray[Any]:
    return np.asarray(_decoded(path)[index])


def picture_images(path: str, axes: Sequence[str] = ()) -> tuple[Stored, ...]:
    """Describe the only image of a PNG or JPEG file.

    Parameters
    ----------
    path : str
        The file.
    axes : sequence of str
        Names of the stored dimensions; the first that fit are used. None: rows and columns, then colours.

    Returns
    -------
    tuple of Stored
        One.

    Raises
    ------
    StoreError
        If the file is damaged.
    """
    pixels = _decoded(path)
    named = checked_axes(axes, pixels.shape, path) if axes else "yxc"[: pixels.ndim]
    read = partial(_read, path)
    return (Stored(path=path, name=Path(path).stem, axes=named, shape=pixels.shape, dtype=pixels.dtype, read=read),)

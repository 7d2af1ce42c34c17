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
_CODECS = ("png", "jpeg8", "ljpeg")
"""Decoders that are tried: others would read only the first page of a TIFF that is named like a picture."""


def _decoded(path: str) -> NDArray[Any]:
    try:
        return np.asarray(imagecodecs.imread(path, codec=[*_CODECS]))
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        reason = "; ".join(str(error).splitlines())
        raise StoreError(
            f"Cannot read {path} as PNG or JPEG: {reason}. Check that the file is whole and is named after its format."
        ) from error


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

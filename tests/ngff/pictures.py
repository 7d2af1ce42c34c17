"""Small images that the tests of this folder make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import ome_zarr_models
import yaozarrs
import zarr
from numpy.typing import NDArray

from cellscale.ngff.image import NgffImage, create_image, open_image
from cellscale.ngff.labels import LabelLayer, publish_labels, stage_labels
from cellscale.types import Box


def noise(*shape: int, dtype: str = "uint16") -> NDArray[Any]:
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


def make(path: Path | str, pixels: NDArray[Any], axes: str, **options: Any) -> NgffImage:
    """An image from pixels in the order of its axes."""
    full = pixels.reshape([pixels.shape[axes.index(axis)] if axis in axes else 1 for axis in "tczyx"])
    with create_image(str(path), shape_tczyx=full.shape, dtype=pixels.dtype, axes=axes, **options) as writer:
        for t, c, z in np.ndindex(full.shape[:3]):
            writer.write(full[t, c, z], t=t, c=c, z=z)
    return open_image(str(path), storage_options=options.get("storage_options"))


def layer(image: NgffImage, name: str, labels: NDArray[Any], **options: Any) -> LabelLayer:
    """A published layer of the finest level alone from labels (t, y, x), of an image without slices."""
    made = stage_labels(image, name, planes_z=1, **options)
    for t, frame in enumerate(labels):
        for box in made.shards():
            made.write(frame[box.slices], box, t=t)
    publish_labels(made)
    return made


def whole(image: Any, level: int = 0) -> Box:
    return Box(0, 0, image.size("y", level), image.size("x", level))


def missing(image: Any, t: int = 0) -> int:
    """Number of chunks or shards of a frame that do not exist."""
    absent: set[str] = set()
    image.read(whole(image), t=t, absent=absent)
    return len(absent)


def validate(url: str) -> str:
    """Hold a group against both validators; return what it was taken for."""
    yaozarrs.validate_zarr_store(url)
    return type(ome_zarr_models.open_ome_zarr(zarr.open_group(url, mode="r"))).__name__

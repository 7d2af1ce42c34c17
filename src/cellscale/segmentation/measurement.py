"""Measure the objects of any label layer on its image, tile by tile, with the exact sums of a segmentation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import pyarrow as pa

from cellscale.errors import InputError
from cellscale.kernels.exact_sums import exact_sums
from cellscale.kernels.tables import fragment_table, grouped, numbered
from cellscale.ngff.image import NgffImage
from cellscale.ngff.labels import LabelLayer
from cellscale.segmentation.object_table import Measured, intensity_prefix, object_table
from cellscale.types import Box, Image, Labels, Table


def level_of(layer: LabelLayer, image: NgffImage) -> int:
    """The level of the image's pyramid on which a layer lies.

    Raises
    ------
    InputError
        If no level has the size of the layer.
    """
    size = tuple(layer.size(axis) for axis in "tyx")
    sizes = [tuple(image.size(axis, level) for axis in "tyx") for level in range(len(image.levels))]
    if size not in sizes or layer.size("z") not in (1, image.size("z")):
        raise InputError(
            f"Layer {layer.name!r} is {(size[0], layer.size('z'), *size[1:])} (t, z, y, x); {image.url} is "
            f"{(image.size('t'), image.size('z'), *sizes[0][1:])}. Choose the image of this layer."
        )
    return sizes.index(size)


def measured_on(image: NgffImage, level: int) -> Measured:
    """Size, pixel size and channels of a level."""
    finest, size = image.levels[0].scale, image.pixel_size_um()
    zoom = [image.levels[level].scale[at] / finest[at] for at in map(image.axes.index, "yx")]
    return Measured(
        shape=image.plane_shape(level),
        pixel_size_um=None if size is None else (size[0] * zoom[0], size[1] * zoom[1]),
        channels=image.channels,
    )


def tile_table(labels: Labels, image: Image, origin: tuple[int, int]) -> Table:
    """Measure the objects of a tile: one row for each label, whose sums add up over tiles.

    Parameters
    ----------
    labels : uint32 array, (y, x)
        The tile's labels.
    image : array, (c, y, x)
        The tile's pixels.
    origin : tuple of int
        Frame coordinates (y, x) of the tile's first pixel, px.
    """
    ids, fragments = numbered(labels)
    table = fragment_table(fragments, len(ids), origin=origin, width=0)
    sums = {
        f"{intensity_prefix(c)}{name}": column
        for c, values in enumerate(image)
        for name, column in exact_sums(fragments, len(ids), values).items()
    }
    return {"label": ids, **table, **sums}


def measured_planes(layer: LabelLayer, image: NgffImage, frames: list[int]) -> Iterator[tuple[int, pa.Table]]:
    """Measure each slice of each frame; yield its number, t · slices + z, and its rows in the order of their labels.

    A layer of one slice is measured on the maximum over the image's slices.
    """
    level = level_of(layer, image)
    on, slices = measured_on(image, level), layer.size("z")
    for t in frames:
        for z in range(slices):
            source: int | Literal["max"] = "max" if slices < image.size("z") else z
            found = [_tile(layer, image, box, t=t, z=z, source=source, level=level) for box in layer.shards()]
            objects = dict(grouped(found, ("label",)))
            labels = objects.pop("label")
            yield t * slices + z, object_table(objects, on, frame=t, z=z, labels=labels.astype(np.uint32))


def _tile(
    layer: LabelLayer, image: NgffImage, box: Box, *, t: int, z: int, source: int | Literal["max"], level: int
) -> Table:
    pixels = image.read(box, t=t, z=source, level=level)
    return tile_table(layer.read(box, t=t, z=z), pixels, (box.y0, box.x0))

"""Stores that the viewers are shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import cellscale
from cellscale.ngff.image import NgffImage, open_image
from cellscale.ngff.import_planes import write_frame
from cellscale.ngff.labels import open_labels, publish_labels, stage_labels
from cellscale.types import Box
from tests.ngff.pictures import make

SMALL, LARGE = (300, 400), (2200, 2304)


def movie(folder: Path, *, ngff: str = "0.5", frames: int = 3, shape: tuple[int, int] = SMALL) -> NgffImage:
    """A synthetic time-lapse with the layer `truth`."""
    place = folder / f"movie-{ngff}-{frames}-{shape[0]}.zarr"
    cells = 40 * (shape[0] // 300) ** 2
    cellscale.synthesize(str(place), shape=(frames, *shape), cells=cells, seed=1, ome_zarr_version=ngff)
    return open_image(str(place))


def great_numbers(image: NgffImage) -> str:
    """Add a layer of the same cells whose numbers need 32 bits; its name."""
    truth, layer = open_labels(image.url, "truth"), stage_labels(image, "great", planes_z=1)
    for t in range(image.size("t")):
        labels = truth.read(Box(0, 0, image.size("y"), image.size("x")), t=t)
        write_frame(layer, labels * np.uint32(1_000_003), t=t)
    publish_labels(layer)
    return layer.name


def two_channels(folder: Path) -> NgffImage:
    """One frame and two channels, with the layer `truth`."""
    source = movie(folder, frames=1)
    box = Box(0, 0, source.size("y"), source.size("x"))
    pixels = np.concatenate([source.read(box), source.read(box)])
    image = make(folder / "two.zarr", pixels, "cyx", pixel_size_um=(0.5, 0.5), channels=("a", "b"))
    layer = stage_labels(image, "truth", planes_z=1)
    write_frame(layer, open_labels(source.url, "truth").read(box), t=0)
    publish_labels(layer)
    return image

"""Stores that the viewers are shown."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

import cellscale
from cellscale.ngff.image import NgffImage, open_image
from cellscale.ngff.import_planes import write_frame
from cellscale.ngff.labels import open_labels, publish_labels, stage_labels
from cellscale.types import Box, Labels
from tests.linking.sequences import renumbered, walkers
from tests.ngff.pictures import make

SMALL, LARGE = (300, 400), (2200, 2304)


def movie(folder: Path, *, ngff: str = "0.5", frames: int = 3, shape: tuple[int, int] = SMALL) -> NgffImage:
    """A synthetic time-lapse with the layer `truth`."""
    place = folder / f"movie-{ngff}-{frames}-{shape[0]}.zarr"
    cells = 40 * (shape[0] // 300) ** 2
    cellscale.synthesize(str(place), shape=(frames, *shape), cells=cells, seed=1, ome_zarr_version=ngff)
    return open_image(str(place))


def walking(frames: int) -> list[Labels]:
    """Cells that walk and keep their numbers; two of them divide in frame 3, and one daughter of each is new."""
    made = walkers(3, frames=frames, cells=40, shape=SMALL)
    for labels in made[3:]:
        for mother in (5, 20):
            rows, columns = np.nonzero(labels == mother)
            middle = columns.mean()
            labels[rows[columns > middle + 1], columns[columns > middle + 1]] = 100 + mother
            labels[rows[abs(columns - middle) <= 1], columns[abs(columns - middle) <= 1]] = 0
    return made


def tracked_movie(folder: Path) -> NgffImage:
    """The walking cells with the layers `cells`, with other numbers in every frame, and `cells-tracks`."""
    frames = walking(5)
    pixels = np.stack([gaussian_filter((labels > 0) * 900.0, 1.5) + 100 for labels in frames]).astype(np.uint16)
    image = make(folder / "tracks.zarr", pixels, "tyx", pixel_size_um=(0.5, 0.5))
    layer = stage_labels(image, "cells", planes_z=1)
    for t, labels in enumerate(renumbered(frames, 4)):
        write_frame(layer, labels, t=t)
    publish_labels(layer)
    cellscale.track(image.url, backend="serial")
    return image


def plate(folder: Path) -> str:
    """A plate of two wells with a field each; their cells differ."""
    url = f"{folder}/plate.zarr"
    for seed, well in enumerate(("A/1", "B/1")):
        cellscale.synthesize(f"{url}/{well}/0", shape=(1, *SMALL), cells=40, seed=seed)
    cellscale.write_plate(url, {"A/1": ["0"], "B/1": ["0"]})
    return url


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


def grid(height: int, width: int, side: int = 16) -> Labels:
    """Square cells with gaps of four pixels."""
    rows, columns = np.indices((height, width))
    cells = 1 + (rows // side) * (width // side) + columns // side
    return np.where((rows % side < side - 4) & (columns % side < side - 4), cells, 0).astype(np.uint32)


def foreign(place: Path, pixels: NDArray[Any], labels: NDArray[Any], ngff: str) -> None:
    """Image and labels, (t, y, x), written by ome-zarr: it picks factors of its own and keeps any integer type."""
    root = zarr.open_group(str(place), mode="w", zarr_format=2 if ngff == "0.4" else 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ome_zarr.format import format_from_version
        from ome_zarr.writer import write_image, write_labels

        made = format_from_version(ngff)
        write_image(pixels[:, None], root, axes="tcyx", fmt=made)
        write_labels(labels[:, None], root, name="nuclei", axes="tcyx", fmt=made)

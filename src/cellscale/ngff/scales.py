"""The level of a pyramid that fits a model, and labels of one level at the size of another."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Sequence

import numpy as np

from cellscale.arrays import Box, Labels
from cellscale.errors import InputError
from cellscale.ngff.images import NgffImage
from cellscale.ngff.labels import LabelLayer, publish_labels, stage_labels
from cellscale.ngff.metadata import Level
from cellscale.ngff.planes import check_range
from cellscale.ngff.pyramids import downsample

log = logging.getLogger("cellscale")
AUTO = "auto"
TOLERATED = 1.5
"""Factor between the pixels of a model and of an image from which a user is warned."""


def _coarser(axes: Sequence[str], level: Level, number: int) -> Level:
    """The level of half the size that would follow a level."""
    factors = [2 if axis in "yx" else 1 for axis in axes]
    return Level(
        path=str(number),
        shape=tuple(-(-size // factor) for size, factor in zip(level.shape, factors, strict=True)),
        scale=tuple(step * factor for step, factor in zip(level.scale, factors, strict=True)),
        translation=level.translation,
    )


def from_level(image: NgffImage, level: int) -> NgffImage:
    """The image without its finest levels; MissingError for a level that does not exist.

    As many coarser levels follow at its end, which no one reads: a label layer has as many levels as the image that
    holds it.
    """
    check_range("Level", level, len(image.levels), url=image.url)
    levels = list(image.levels[level:])
    for number in range(len(image.levels), len(image.levels) + level):
        levels.append(_coarser(image.axes, levels[-1], number))
    return dataclasses.replace(image, levels=tuple(levels))


def _factor(image: NgffImage, size_um: tuple[float, float]) -> float:
    """How much coarser an image is than pixels of this size; under 1: finer."""
    height, width = image.pixel_size_um() or size_um
    return math.sqrt((height / size_um[0]) * (width / size_um[1]))


def _size(size_um: tuple[float, float]) -> str:
    return f"{size_um[0]:.4g} × {size_um[1]:.4g} µm"


def fitting(image: NgffImage, level: str | int, size_um: tuple[float, float] | None) -> NgffImage:
    """The image from the level on that a model shall see.

    Parameters
    ----------
    image : NgffImage
        With all levels.
    level : int or "auto"
        A number; or the level whose pixels are nearest, in ratio, to those that the model was trained on.
    size_um : tuple of float or None
        Height and width of these pixels.

    Returns
    -------
    NgffImage
        A factor of more than 1.5 that is left between the two sizes is logged as a warning.

    Raises
    ------
    InputError
        For "auto" where the image or the model has no pixel size, and for what is no level.
    MissingError
        For a level that does not exist.
    """
    if level == AUTO:
        if size_um is None or image.pixel_size_um() is None:
            whose = "the model" if size_um is None else image.url
            raise InputError(f"--level auto needs pixel sizes, and {whose} has none. Name the level by its number.")
        level = min(range(len(image.levels)), key=lambda n: abs(math.log(_factor(from_level(image, n), size_um))))
        log.info("level %d of %s fits the model", level, image.url)
    if not str(level).isdecimal():
        raise InputError(f"{level!r} is no level; expected a number from 0, or auto.")
    chosen = from_level(image, int(level))
    found = chosen.pixel_size_um()
    if size_um is not None and found is not None:
        factor = _factor(chosen, size_um)
        if max(factor, 1 / factor) > TOLERATED:
            log.warning(
                "pixels of level %s of %s are %s, the model was trained on %s: %.1f × %s. %s",
                *(level, image.url, _size(found), _size(size_um)),
                *(max(factor, 1 / factor), "coarser" if factor > 1 else "finer"),
                "--level auto takes the level that fits best." if len(image.levels) > 1 else "Cells may be missed.",
            )
    return chosen


def labels_at(layer: LabelLayer, image: NgffImage, level: int, box: Box, *, t: int, z: int) -> Labels:
    """A layer's labels where a box of a level of its image is, from the layer's level of the nearest size.

    The layer may have other levels than the image and a single frame or slice; each pixel gets the label at its middle.
    """
    shape = image.size("y", level), image.size("x", level)
    heights = [layer.size("y", number) for number in range(len(layer.levels))]
    chosen = int(np.argmin([abs(math.log(height / shape[0])) for height in heights]))
    sides = layer.size("y", chosen), layer.size("x", chosen)
    rows, columns = (
        ((2 * np.arange(start, stop) + 1) * side) // (2 * size)
        for start, stop, side, size in zip((box.y0, box.x0), (box.y1, box.x1), sides, shape, strict=True)
    )
    part = Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)
    frame, plane = (min(at, layer.size(axis, chosen) - 1) for axis, at in (("t", t), ("z", z)))
    labels = layer.read(part, t=frame, z=plane, level=chosen)
    return labels[np.ix_(rows - part.y0, columns - part.x0)]


def upsample(
    image: NgffImage, layer: LabelLayer, name: str, *, on_progress: Callable[[str, int, int], None]
) -> LabelLayer:
    """Write a layer as large as its image from one that begins at a coarser level, and publish it.

    Each pixel gets the label of the coarse pixel that it lies in. The same call again writes the same bytes.

    Parameters
    ----------
    image : NgffImage
        With all levels.
    layer : LabelLayer
        Of the same frames and slices, or with one slice.
    name : str
        Of the new layer.
    on_progress : callable
        Called with a step, done and total.

    Raises
    ------
    ExistsError
        If another layer of the name is published.
    """
    made = stage_labels(image, name, planes_z=layer.size("z"), metadata=layer.metadata)
    planes = [(t, z) for t in range(made.size("t")) for z in range(made.size("z"))]
    for done, (t, z) in enumerate(planes, 1):
        for box in made.shards():
            made.write(labels_at(layer, image, 0, box, t=t, z=z), box, t=t, z=z)
        for level in range(1, len(made.levels)):
            for box in made.shards(level):
                downsample(made, level, box, t=t, z=z)
        on_progress("upsample", done, len(planes))
    publish_labels(made)
    return made

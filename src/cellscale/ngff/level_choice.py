"""The level of a pyramid that fits a model, and labels of one level at the size of another."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Sequence

from cellscale.errors import InputError
from cellscale.ngff.array_io import check_range
from cellscale.ngff.image import NgffImage
from cellscale.ngff.metadata import Level

log = logging.getLogger("cellscale")
AUTO = "auto"
TOLERATED = 1.5
"""Greatest ratio of the pixel sizes of model and image without a warning."""


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

    The same number of coarser levels is appended, which nobody reads: a label layer has as many levels as its image.
    """
    check_range("Level", level, len(image.levels), url=image.url)
    levels = list(image.levels[level:])
    for number in range(len(image.levels), len(image.levels) + level):
        levels.append(_coarser(image.axes, levels[-1], number))
    return dataclasses.replace(image, levels=tuple(levels))


def _factor(image: NgffImage, size_um: tuple[float, float]) -> float:
    """Ratio of an image's pixel size to this size; below 1: the image is finer."""
    height, width = image.pixel_size_um() or size_um
    return math.sqrt((height / size_um[0]) * (width / size_um[1]))


def _size(size_um: tuple[float, float]) -> str:
    return f"{size_um[0]:.4g} × {size_um[1]:.4g} µm"


def fitting(image: NgffImage, level: str | int, size_um: tuple[float, float] | None) -> NgffImage:
    """The image from the level to segment on.

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
        A remaining factor of more than 1.5 between the two sizes is logged as a warning.

    Raises
    ------
    InputError
        For "auto" if the image or the model has no pixel size, and for a value that is not a level.
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
        raise InputError(f"{level!r} is not a valid level; expected a number from 0, or auto.")
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

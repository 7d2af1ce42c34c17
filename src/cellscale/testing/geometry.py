"""Comparison of a label layer with its image, which validators of the format do not make."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cellscale.ngff.image import NgffImage
from cellscale.ngff.labels import LabelLayer
from cellscale.ngff.metadata import Level

_SINGLE = "cz"


def _close(a: Sequence[float], b: Sequence[float]) -> bool:
    return len(a) == len(b) and all(math.isclose(x, y, rel_tol=1e-6, abs_tol=1e-9) for x, y in zip(a, b, strict=True))


def _sizes(image: NgffImage, of_image: Level, of_layer: Level) -> list[str]:
    """Axes whose lengths differ; one channel is right, and one slice of a projection."""
    return [
        f"{axis}: {have} instead of {want}"
        for axis, want, have in zip(image.axes, of_image.shape, of_layer.shape, strict=True)
        if have != want and not (axis in _SINGLE and have == 1)
    ]


def _level_problems(image: NgffImage, number: int, of_layer: Level) -> list[str]:
    of_image, where, problems = image.levels[number], f"level {number}", []
    wrong = _sizes(image, of_image, of_layer)
    if wrong:
        problems.append(f"{where} has another size than the image's: {', '.join(wrong)}")
    if not _close(of_layer.scale, of_image.scale):
        problems.append(f"{where} has the scale {of_layer.scale}; the image's is {of_image.scale}")
    if not _close(of_layer.translation, of_image.translation):
        problems.append(f"{where} has the translation {of_layer.translation}; the image's is {of_image.translation}")
    return problems


def check_geometry(image: NgffImage, layer: LabelLayer) -> list[str]:
    """Compare the geometry of a label layer with that of its image.

    Axes and their units, the number of levels, the size, scale and translation of each level and the type of the pixels
    are compared.

    Parameters
    ----------
    image : NgffImage
        Opened image.
    layer : LabelLayer
        Opened layer.

    Returns
    -------
    list of str
        One sentence for each difference; empty if the layer lies pixel on pixel on its image.

    Examples
    --------
    >>> import tempfile, cellscale
    >>> from cellscale.ngff.labels import open_labels
    >>> url = f"{tempfile.mkdtemp()}/movie.zarr"
    >>> image = cellscale.synthesize(url, shape=(1, 64, 64), cells=3)
    >>> check_geometry(image, open_labels(url, "truth"))
    []
    """
    problems = []
    if layer.dtype.kind not in "ui":
        problems.append(f"pixels are {layer.dtype}; labels are integers")
    if layer.axes != image.axes:
        return [*problems, f"axes are {', '.join(layer.axes)}; the image's are {', '.join(image.axes)}"]
    if layer.units != image.units:
        problems.append(f"units are {layer.units}; the image's are {image.units}")
    if len(layer.levels) != len(image.levels):
        problems.append(f"{len(layer.levels)} levels; the image has {len(image.levels)}")
    for number, of_layer in enumerate(layer.levels[: len(image.levels)]):
        problems += _level_problems(image, number, of_layer)
    return problems

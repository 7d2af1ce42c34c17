"""Labels of one level of a pyramid at the size of another."""

from __future__ import annotations

import hashlib
import json
import math

import numpy as np

from cellscale.errors import ExistsError, InputError
from cellscale.ngff.image import NgffImage
from cellscale.ngff.labels import LabelLayer, list_labels, publish_labels, stage_labels
from cellscale.ngff.pyramids import downsample
from cellscale.progress import Progress
from cellscale.types import Box, Labels


def labels_at(layer: LabelLayer, image: NgffImage, level: int, box: Box, *, t: int, z: int) -> Labels:
    """Labels of a layer in a box of a level of its image, from the layer's level of the nearest size.

    The layer may have other levels than the image, and one frame or slice. Each pixel gets the label at its centre.
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


def _attempt(image: NgffImage, layer: LabelLayer) -> str:
    """Token of an upsampling: the same layer on the same image has the same one, so that a killed call is repeated."""
    parts = (layer.url, layer.attempt, [level.shape for level in (*layer.levels, *image.levels)])
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def upsample(
    image: NgffImage, layer: LabelLayer, name: str, *, overwrite: bool = False, on_progress: Progress
) -> LabelLayer:
    """Write a layer as large as its image from one that begins at a coarser level, and publish it.

    Each pixel gets the label of the coarse pixel that contains it. Repeating the call writes the same bytes, also after
    a call that was killed.

    Parameters
    ----------
    image : NgffImage
        With all levels.
    layer : LabelLayer
        Layer with the same frames and slices, or with one slice.
    name : str
        Name of the new layer.
    overwrite : bool
        Whether it may replace another one.
    on_progress : callable
        Called with a step, done and total.

    Raises
    ------
    ExistsError
        If something of the name is there and `overwrite` is not set.
    InputError
        If the new layer would replace the one that it is made of.
    """
    there = name in list_labels(image.url, storage_options=image.storage_options)
    if there and layer.url == image.store.child("labels", name).url:
        raise InputError(f"{layer.url} cannot be upsampled into itself. Choose another --new-layer.")
    attempt = None if there else _attempt(image, layer)
    if there and not overwrite:
        raise ExistsError(f"{image.url} already has a label layer {name!r}. Choose another name, or use --overwrite.")
    made = stage_labels(
        image, name, planes_z=layer.size("z"), metadata=layer.metadata, attempt=attempt, overwrite=overwrite
    )
    planes = [(t, z) for t in range(made.size("t")) for z in range(made.size("z"))]
    for done, (t, z) in enumerate(planes, 1):
        for box in made.shards():
            made.write(labels_at(layer, image, 0, box, t=t, z=z), box, t=t, z=z)
        for level in range(1, len(made.levels)):
            for box in made.shards(level):
                downsample(made, level, box, t=t, z=z)
        on_progress("upsample", done, len(planes))
    publish_labels(made, overwrite=overwrite)
    return made

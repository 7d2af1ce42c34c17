"""Import of time-lapses that are computed block by block, without holding a whole frame."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cellscale.ngff.image import NgffImage
from cellscale.ngff.import_planes import abandon, published_with, staged_with
from cellscale.ngff.labels import LabelLayer
from cellscale.ngff.pyramids import downsample
from cellscale.ngff.writer import ImageWriter, create_image
from cellscale.progress import Progress
from cellscale.types import Box, Labels

TRUTH = "truth"
"""Name of the layer of exact labels."""


class Scene(Protocol):
    """Source of images and labels that reads any block of any frame."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Frames, height and width."""
        ...

    def image(self, t: int, box: Box) -> NDArray[np.uint16]:
        """Intensities, (y, x)."""
        ...

    def labels(self, t: int, box: Box) -> Labels:
        """Exact labels, (y, x)."""
        ...


def import_blocks(
    scene: Scene, destination: str, *, overwrite: bool, on_progress: Progress, **options: Any
) -> NgffImage:
    """Write a scene as an image with its exact labels in the layer "truth"; nothing is left behind on failure.

    Parameters
    ----------
    scene : Scene
        Gives the blocks.
    destination : str
        URL of the new image.
    overwrite : bool
        Replace an existing Zarr store.
    on_progress : callable
        Called with step, done and total.
    **options
        Options of the new image, see `ImageOptions`.
    """
    t, height, width = scene.shape
    shape = (t, 1, 1, height, width)
    writer = create_image(destination, shape_tczyx=shape, dtype=np.uint16, axes="tyx", overwrite=overwrite, **options)
    try:
        return _write(scene, writer, on_progress)
    except BaseException:
        abandon(writer, TRUTH)
        raise


def _write(scene: Scene, writer: ImageWriter, on_progress: Progress) -> NgffImage:
    frames = scene.shape[0]
    for t in range(frames):
        for box in writer.boxes():
            writer.write(scene.image(t, box), t=t, box=box)
        on_progress("images", t + 1, frames)
    writer.coarsen()
    layer = staged_with(writer, TRUTH, frames=range(frames))
    for t in range(frames):
        _write_labels(scene, layer, t)
        on_progress("labels", t + 1, frames)
    return published_with(writer, layer)


def _write_labels(scene: Scene, layer: LabelLayer, t: int) -> None:
    for box in layer.shards():
        layer.write(scene.labels(t, box), box, t=t)
    for level in range(1, len(layer.levels)):
        for box in layer.shards(level):
            downsample(layer, level, box, t=t)

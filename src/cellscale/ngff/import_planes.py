"""From planes that lie elsewhere to a new OME-Zarr image with its labels; a failed import leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from cellscale.errors import InputError
from cellscale.ngff.image import ImageWriter, NgffImage, create_image, open_image
from cellscale.ngff.labels import LabelLayer, as_labels, publish_labels, stage_labels
from cellscale.ngff.pyramids import downsample
from cellscale.progress import Progress, silent
from cellscale.types import Labels


class Planes(Protocol):
    """Frames that exist elsewhere."""

    @property
    def path(self) -> str:
        """Where they come from."""
        ...

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """Lengths of t, c, z, y, x."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the pixels."""
        ...

    @property
    def frames(self) -> tuple[int, ...]:
        """The frames that exist, rising."""
        ...

    @property
    def numbered(self) -> bool:
        """Whether the frames carry numbers of their own."""
        ...

    @property
    def names(self) -> Mapping[str, int]:
        """Frames by name, or nothing."""
        ...

    @property
    def pixel_size_um(self) -> tuple[float, float] | None:
        """Height and width of a pixel, µm, where it is known."""
        ...

    def plane(self, t: int, c: int = 0, z: int = 0) -> NDArray[Any]:
        """Return one plane, (y, x)."""
        ...


class ImportOptions(TypedDict, total=False):
    """What may be said of an import."""

    layer: str
    """Name of the label layer; "truth" where it is left out."""
    pixel_size_um: float | tuple[float, float] | None
    """Side of a pixel, or its height and width, µm; None: what the source says."""
    frame_interval_s: float | None
    """Time between two frames, s."""
    version: str
    """NGFF version, 0.4 or 0.5."""
    overwrite: bool
    """Replace a Zarr store that lies there."""
    storage_options: Mapping[str, Any] | None
    """For fsspec."""
    on_progress: Progress
    """Called with step, planes done and planes in all."""


def _by_name(images: Planes, labels: Planes) -> dict[int, int]:
    strangers = [name for name in labels.names if name not in images.names]
    if strangers:
        raise InputError(
            f"Mask {strangers[0]!r} of {labels.path} has no image of this name in {images.path}. "
            "A mask has its image's name, with or without _mask, _masks, _label or _labels."
        )
    present = set(images.frames)
    return {images.names[name]: t for name, t in labels.names.items() if images.names[name] in present}


def pairs(images: Planes, labels: Planes) -> dict[int, int]:
    """Frames of the images that have labels, and the frames of these: by number, by name, or in order.

    Raises
    ------
    InputError
        If labels have no image, sizes differ, or the two cannot be told to belong together.
    """
    if labels.shape[2:] != images.shape[2:] or labels.shape[1] != 1:
        raise InputError(
            f"Labels {labels.path} are {labels.shape} (t, c, z, y, x), images {images.path} are {images.shape}; "
            "expected the same slices, rows and columns, and one channel of labels."
        )
    if labels.numbered:
        alone = [t for t in labels.frames if t not in set(images.frames)]
        if alone:
            raise InputError(f"Frame {alone[0]} of {labels.path} has no image in {images.path}.")
        return {t: t for t in labels.frames}
    if labels.names and images.names:
        return _by_name(images, labels)
    if len(labels.frames) != len(images.frames):
        raise InputError(
            f"{labels.path} has {len(labels.frames)} frames, {images.path} has {len(images.frames)}; expected as many. "
            "Name the frames in a file NAME.frames.txt beside the labels, one number on each line."
        )
    return dict(zip(images.frames, labels.frames, strict=True))


def checked_labels(plane: NDArray[Any], t: int, path: str) -> Labels:
    """A plane of instance labels as uint32; InputError, naming frame and value, for anything else."""
    where = f"Frame {t} of {path}"
    if plane.dtype.kind == "f":
        fractions = plane[plane % 1 != 0]
        value = fractions.flat[0] if fractions.size else plane.max()
        raise InputError(
            f"{where}: value {value} is {plane.dtype}; labels are integers, 0 for background. Save them so."
        )
    return as_labels(plane, where)


def _writer(images: Planes, destination: str, options: ImportOptions) -> ImageWriter:
    t, c, z, _, _ = images.shape
    size = options.get("pixel_size_um") or images.pixel_size_um
    height, width = size if isinstance(size, tuple) else (size, size)
    writer = create_image(
        destination,
        shape_tczyx=images.shape,
        dtype=images.dtype,
        axes="t" + "c" * (c > 1) + "z" * (z > 1) + "yx",
        overwrite=options.get("overwrite", False),
        version=options.get("version", "0.5"),
        pixel_size_um=None if height is None or width is None else (height, width),
        frame_interval_s=options.get("frame_interval_s"),
        storage_options=options.get("storage_options"),
    )
    return writer if len(images.frames) == t else replace(writer, metadata={"frames": list(images.frames)})


def _copy(images: Planes, writer: ImageWriter, report: Callable[[int], None]) -> None:
    _, channels, slices, _, _ = images.shape
    for done, t in enumerate(images.frames, 1):
        for c in range(channels):
            for z in range(slices):
                plane = images.plane(t, c, z)
                for box in writer.boxes():
                    writer.write(plane[box.slices], t=t, c=c, z=z, box=box)
        report(done)


def write_frame(layer: LabelLayer, labels: NDArray[Any], *, t: int, z: int = 0) -> None:
    """Write one frame and slice of labels, (y, x), and its coarser levels."""
    for level in range(len(layer.levels)):
        for box in layer.shards(level):
            if level:
                downsample(layer, level, box, t=t, z=z)
            else:
                layer.write(labels[box.slices], box, t=t, z=z)


def _copy_labels(labels: Planes, layer: LabelLayer, paired: Mapping[int, int], report: Callable[[int], None]) -> None:
    for done, (t, of_labels) in enumerate(paired.items(), 1):
        for z in range(labels.shape[2]):
            write_frame(layer, checked_labels(labels.plane(of_labels, 0, z), of_labels, labels.path), t=t, z=z)
        report(done)


def _check_all(labels: Planes, paired: Mapping[int, int]) -> None:
    """Read all labels once, so that a destination is not replaced for labels that will be refused."""
    for of_labels in paired.values():
        for z in range(labels.shape[2]):
            checked_labels(labels.plane(of_labels, 0, z), of_labels, labels.path)


def import_planes(
    images: Planes, destination: str, *, labels: Planes | None = None, **options: Unpack[ImportOptions]
) -> NgffImage:
    """Copy images, and labels of some or all of their frames, into a new OME-Zarr image.

    Parameters
    ----------
    images : Planes
        What becomes the image; frames that do not exist stay empty.
    destination : str
        URL of the new image.
    labels : Planes, optional
        Instance labels, which become a label layer whose metadata list the annotated frames.
    **options
        See `ImportOptions`.

    Returns
    -------
    NgffImage
        The image.

    Raises
    ------
    ExistsError
        If the destination is occupied.
    InputError
        If labels do not fit the images or are no whole numbers from 0; nothing is left behind then.
    StoreError
        If the destination cannot be written.
    """
    progress = options.get("on_progress", silent)
    paired = {} if labels is None else pairs(images, labels)
    if labels is not None:
        _check_all(labels, paired)
    writer = _writer(images, destination, options)
    try:
        _copy(images, writer, lambda done: progress("import", done, len(images.frames)))
        writer.finish(images.frames)
        image = open_image(writer.url, storage_options=writer.storage_options)
        if labels is not None:
            name, frames = options.get("layer", "truth"), sorted(paired)
            layer = stage_labels(image, name, planes_z=image.size("z"), metadata={"frames": frames})
            _copy_labels(labels, layer, paired, lambda done: progress("import labels", done, len(paired)))
            publish_labels(layer)
    except BaseException:
        writer.remove()
        raise
    return image

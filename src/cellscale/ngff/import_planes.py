"""Import of planes into a new OME-Zarr image with its labels; a failed import leaves nothing behind."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypedDict, Unpack

from numpy.typing import NDArray

from cellscale.errors import InputError
from cellscale.ngff.image import ImageWriter, NgffImage, create_image, open_image, unfinished_image
from cellscale.ngff.import_labels import Classes, Planes, check_labels, instance_labels, numbered_pieces, pairs
from cellscale.ngff.labels import LabelLayer, discard_labels, publish_labels, stage_labels
from cellscale.ngff.names import check_layer_name
from cellscale.ngff.pyramids import downsample
from cellscale.progress import Progress, silent

log = logging.getLogger("cellscale")


class ImportOptions(TypedDict, total=False):
    """Options of an import."""

    name: str
    """Name of the image in its metadata [default: that of its URL]."""
    layer: str
    """Name of the label layer [default: "truth"]."""
    classes: Classes
    """Handling of masks in which most numbers have several pieces, such as 0 and 255: "number" makes each piece a cell,
    "keep" keeps the numbers [default: refuse them]."""
    pixel_size_um: float | tuple[float, float] | None
    """Side of a pixel, or its height and width, µm [default: what the source says]."""
    z_step_um: float | None
    """Distance of two slices, µm [default: what the source says]."""
    frame_interval_s: float | None
    """Time between two frames, s [default: what the source says]."""
    origin: Mapping[str, str] | None
    """Origin of the planes, kept in the metadata of the image, or of the collection."""
    ome_zarr_version: str
    """NGFF version, 0.4 or 0.5 [default: "0.5"]."""
    overwrite: bool
    """Replace an existing Zarr store."""
    storage_options: Mapping[str, Any] | None
    """For fsspec."""
    on_progress: Progress
    """Called with step, planes done and planes in all."""


_FLAGS = {"pixel_size_um": "--pixel-size", "z_step_um": "--z-step", "frame_interval_s": "--frame-interval"}
"""Options that state a size, by its name."""


def _log_unknown_units(images: Planes, options: ImportOptions) -> None:
    """Say which sizes are dropped because their units are not known, unless the options state them."""
    for name, unit in images.calibration.unknown_units.items():
        if options.get(name) is None:
            log.warning(
                "%s states its %s in %r, which is not a known unit; the image has none. State it with %s.",
                *(images.path, name.rpartition("_")[0].replace("_", " "), unit, _FLAGS[name]),
            )


def _writer(images: Planes, destination: str, options: ImportOptions) -> ImageWriter:
    t, c, z, _, _ = images.shape
    known = images.calibration
    _log_unknown_units(images, options)
    # Not `or`: a size of 0 is refused below, not replaced by what the file says.
    given: dict[str, Any] = {name: getattr(known, name) for name in _FLAGS}
    given |= {name: value for name in _FLAGS if (value := options.get(name)) is not None}
    size = given.pop("pixel_size_um")
    writer = create_image(
        destination,
        shape_tczyx=images.shape,
        dtype=images.dtype,
        axes="t" + "c" * (c > 1) + "z" * (z > 1) + "yx",
        overwrite=options.get("overwrite", False),
        version=options.get("ome_zarr_version", "0.5"),
        name=options.get("name", ""),
        pixel_size_um=size if isinstance(size, tuple) or size is None else (size, size),
        **given,
        channels=known.channels if len(known.channels) == c else (),
        storage_options=options.get("storage_options"),
    )
    frames = {} if len(images.frames) == t else {"frames": list(images.frames)}
    origin = options.get("origin")
    return replace(writer, metadata={**frames, **({"origin": dict(origin)} if origin else {})})


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


def _copy_labels(
    labels: Planes, layer: LabelLayer, paired: Mapping[int, int], *, number: bool, report: Callable[[int], None]
) -> None:
    for done, (t, of_labels) in enumerate(paired.items(), 1):
        for z in range(labels.shape[2]):
            plane = instance_labels(labels.plane(of_labels, 0, z), of_labels, labels.path)
            write_frame(layer, numbered_pieces(plane) if number else plane, t=t, z=z)
        report(done)


def import_planes(
    images: Planes, destination: str, *, labels: Planes | None = None, **options: Unpack[ImportOptions]
) -> NgffImage:
    """Copy images, and labels of some or all of their frames, into a new OME-Zarr image.

    Parameters
    ----------
    images : Planes
        Planes of the image; frames that do not exist stay empty.
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
        If labels do not fit the images or are not integers from 0; nothing is left behind then.
    StoreError
        If the destination cannot be written.
    """
    progress = options.get("on_progress", silent)
    classes, name = options.get("classes"), check_layer_name(options.get("layer", "truth"))
    paired = {} if labels is None else pairs(images, labels)
    if labels is not None:
        check_labels(labels, paired.values(), classes)
        if classes == "number" and labels.shape[2] > 1:
            raise InputError(f"{labels.path} has {labels.shape[2]} slices; pieces are numbered in single slices only.")
    writer = _writer(images, destination, options)
    try:
        _copy(images, writer, lambda done: progress("import", done, len(images.frames)))
        writer.coarsen(images.frames)
        layer = None
        if labels is not None:
            layer = staged_with(writer, name, frames=sorted(paired))
            _copy_labels(
                labels,
                layer,
                paired,
                number=classes == "number",
                report=lambda done: progress("import labels", done, len(paired)),
            )
        return published_with(writer, layer, frames=images.frames)
    except BaseException:
        abandon(writer, name)
        raise


def write_layer(  # noqa: PLR0913
    image: NgffImage,
    labels: Planes,
    name: str,
    *,
    written: Sequence[int],
    annotated: Sequence[int],
    overwrite: bool = False,
    replaces: str | None = None,
    on_progress: Progress = silent,
) -> LabelLayer:
    """Write labels as a layer of an existing image; only a complete layer becomes visible.

    Parameters
    ----------
    image : NgffImage
        The image.
    labels : Planes
        Instance labels.
    name : str
        Name of the layer.
    written : sequence of int
        Frame of the image for each time point of the labels, ascending.
    annotated : sequence of int
        The frames that the layer names as annotated.
    overwrite : bool
        Replace a layer of this name.
    replaces : str, optional
        The only attempt whose layer may be replaced; None: any.
    on_progress : callable
        Called with step, done and total.

    Raises
    ------
    ExistsError
        If there is a layer of this name that must not be replaced.
    InputError
        If labels do not fit the image, or are not integers from 0.
    """
    expected = (len(written), 1, *(image.size(axis) for axis in "zyx"))
    if labels.shape != expected:
        raise InputError(f"{labels.path} is {labels.shape} (t, c, z, y, x); {image.url} needs labels of {expected}.")
    metadata = {"frames": list(annotated)}
    layer = stage_labels(image, name, planes_z=image.size("z"), metadata=metadata, overwrite=overwrite)
    try:
        paired = {t: place for place, t in enumerate(written)}
        _copy_labels(
            labels, layer, paired, number=False, report=lambda done: on_progress("save labels", done, len(paired))
        )
        publish_labels(layer, overwrite=overwrite, replaces=replaces)
    except BaseException:
        discard_labels(image.url, name, layer.attempt or "", storage_options=image.storage_options)
        raise
    return layer


def staged_with(writer: ImageWriter, name: str, *, frames: Sequence[int]) -> LabelLayer:
    """Stage a label layer of an image that is still being made; its frames are those that have labels."""
    return stage_labels(
        unfinished_image(writer),
        name,
        planes_z=writer.size("z"),
        metadata={"frames": list(frames)},
        attempt=writer.attempt,
        overwrite=writer.overwrite,
    )


def published_with(writer: ImageWriter, layer: LabelLayer | None, *, frames: Sequence[int] | None = None) -> NgffImage:
    """Publish an image whose levels are written, then its layer; then delete the data that they replace."""
    replaced = writer.publish(frames)
    if layer is not None:
        publish_labels(layer, overwrite=writer.overwrite)
    replaced.delete()
    return open_image(writer.url, storage_options=writer.storage_options)


def abandon(writer: ImageWriter, name: str) -> None:
    """Delete the unpublished data of an image and its layer."""
    discard_labels(writer.url, name, writer.attempt, storage_options=writer.storage_options)
    writer.remove()

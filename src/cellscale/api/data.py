"""The Python API to make images: import and synthesize."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Unpack, overload

from cellscale import sources
from cellscale.ngff.collections import import_collection
from cellscale.ngff.frame_ranges import ranges
from cellscale.ngff.image import NgffImage
from cellscale.ngff.import_blocks import import_blocks
from cellscale.ngff.import_planes import ImportOptions, import_planes
from cellscale.progress import Progress, silent
from cellscale.settings.frame_range import Frames
from cellscale.sources.synthetic import Scene
from cellscale.storage.urls import Location, check_apart, url_of

log = logging.getLogger("cellscale")


def _opened(
    source: str, masks: str | None, axes: str | None, frames: Frames, series: sources.Series
) -> list[tuple[sources.Source, sources.Source | None]]:
    """Images and the masks of each."""
    images = sources.open_sources(source, axes=axes, frames=frames, series=series)
    if masks is None:
        return [(image, None) for image in images]
    each: sources.Series = None if series is None else "all"
    found = sources.open_sources(masks, axes=axes, frames=frames, labels=True, series=each)
    if series is None:
        return [(images[0], found[0])]
    numbers = range(len(images)) if series == "all" else [series]
    return list(zip(images, sources.matched(images, found, numbers), strict=True))


def _log_gaps(images: Sequence[sources.Source]) -> None:
    """Say which frames a file describes and does not have."""
    for image in images:
        gaps = sorted(set(range(image.shape[0])) - set(image.frames))
        if gaps and not image.numbered:
            where = f"{image.path} lacks the frames {ranges(gaps)} (half-open)"
            log.warning("%s; they stay empty, and the image lists the others as its frames.", where)


@overload
def import_images(
    source: Location,
    destination: Location,
    *,
    masks: Location | None = None,
    series: Literal["all"],
    axes: str | None = None,
    frames: Frames = None,
    **options: Unpack[ImportOptions],
) -> tuple[NgffImage, ...]: ...


@overload
def import_images(
    source: Location,
    destination: Location,
    *,
    masks: Location | None = None,
    series: int | None = None,
    axes: str | None = None,
    frames: Frames = None,
    **options: Unpack[ImportOptions],
) -> NgffImage: ...


def import_images(
    source: Location,
    destination: Location,
    *,
    masks: Location | None = None,
    series: sources.Series = None,
    axes: str | None = None,
    frames: Frames = None,
    **options: Unpack[ImportOptions],
) -> NgffImage | tuple[NgffImage, ...]:
    """Import images, and instance labels where given, into a new OME-Zarr image or a collection of images.

    Parameters
    ----------
    source : str or path
        A TIFF stack, a set of OME-TIFF files, a folder of TIFFs, a CTC folder, npz or npy; with the extra `bioio`, a
        microscope's file such as nd2, lif or czi.
    destination : str or path
        URL of the image to make.
    masks : str
        Instance masks of the same frames, in any of these forms; frames without a mask stay empty and unlisted.
    series : int or "all"
        Which image of a source that holds several: one by its number, or all as a collection, whose images are
        destination/0, destination/1, …; of a folder, each file is an image [default: the only image; the frames of a
        folder are one].
    axes : str
        Meaning of the source's axes, e.g. "tyx" [default: from the source; else 3-D arrays are t, y, x].
    frames : tuple of int
        Half-open range of frames.
    **options
        See `cellscale.ngff.import_planes.ImportOptions`.

    Returns
    -------
    NgffImage or tuple of NgffImage
        The image; with `series="all"`, the images of the collection.

    Raises
    ------
    CellscaleError
        For sources that cannot be read whole, several images without `series`, masks that are not instance labels, or
        an existing destination.

    Examples
    --------
    >>> import numpy as np
    >>> import cellscale
    >>> np.save("frames.npy", np.zeros((2, 64, 64), np.uint16))
    >>> np.save("masks.npy", np.ones((2, 64, 64), np.uint16))
    >>> image = cellscale.import_images("frames.npy", "imported.zarr", masks="masks.npy", pixel_size_um=0.65)
    >>> image.pixel_size_um()
    (0.65, 0.65)
    """
    source, destination = url_of(source, "source"), url_of(destination, "destination")
    masks = None if masks is None else url_of(masks, "masks")
    for read in (source, masks):
        if read:
            check_apart(read, destination)
    found = _opened(source, masks, axes, frames, series)
    images = [image for image, _ in found]
    _log_gaps(images)
    options.setdefault("origin", sources.origin_of(images, source, chosen=(series, axes, frames)))
    if series == "all":
        return import_collection(found, destination, **options)
    image, labels = found[0]
    return import_planes(image, destination, labels=labels, **options)


def synthesize(
    destination: Location,
    *,
    shape: tuple[int, int, int],
    cells: int,
    look: Literal["fluorescence", "brightfield"] = "fluorescence",
    seed: int = 0,
    ome_zarr_version: str = "0.5",
    landmarks: bool = False,
    overwrite: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    on_progress: Progress = silent,
) -> NgffImage:
    """Write a synthetic time-lapse of touching, moving, dividing cells with exact labels in the layer "truth".

    Parameters
    ----------
    destination : str or path
        URL of the image to make.
    shape : tuple of int
        Frames, height and width, px.
    cells : int
        Number of cells at the first frame.
    look : {"fluorescence", "brightfield"}
        Kind of microscopy.
    seed : int
        Seed of all random numbers.
    ome_zarr_version : {"0.5", "0.4"}
        Version to write.
    landmarks : bool
        Add combs, corner diagonals and cells larger than a tile.
    overwrite : bool
        Replace an existing destination.
    storage_options : mapping
        Options for fsspec, for the destination.
    on_progress : callable
        Called with step, done and total.

    Returns
    -------
    NgffImage
        The image.

    Examples
    --------
    >>> import cellscale
    >>> image = cellscale.synthesize("movie.zarr", shape=(3, 96, 96), cells=6)
    >>> image.axes, image.levels[0].shape
    (('t', 'y', 'x'), (3, 96, 96))
    """
    scene = Scene(shape=shape, cells=cells, look=look, seed=seed, landmarks=landmarks)
    return import_blocks(
        scene,
        url_of(destination, "destination"),
        version=ome_zarr_version,
        pixel_size_um=(0.5, 0.5),
        frame_interval_s=300.0,
        overwrite=overwrite,
        storage_options=storage_options,
        on_progress=on_progress,
    )

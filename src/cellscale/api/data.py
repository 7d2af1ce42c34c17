"""The Python API of making images: imported from other files, or synthesized."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from cellscale import sources
from cellscale.ngff.frame_ranges import Frames
from cellscale.ngff.image import NgffImage
from cellscale.ngff.import_blocks import import_blocks
from cellscale.ngff.import_planes import import_planes
from cellscale.progress import Progress, silent
from cellscale.sources.synthetic import Scene


def import_images(
    source: str,
    destination: str,
    *,
    masks: str | None = None,
    layer: str = "truth",
    pixel_size_um: float | None = None,
    frame_interval_s: float | None = None,
    ome_zarr_version: str = "0.5",
    frames: Frames = None,
    axes: str | None = None,
    overwrite: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    on_progress: Progress = silent,
) -> NgffImage:
    """Import images, and instance labels where given, into a new OME-Zarr image.

    Parameters
    ----------
    source : str
        A TIFF stack, a folder of TIFFs, a CTC folder, npz or npy.
    destination : str
        URL of the image to make.
    masks : str
        Instance masks of the same frames, in any of these forms; frames without a mask stay empty and unlisted.
    layer : str
        Name of the label layer.
    pixel_size_um : float
        Width and height of a pixel, µm.
    frame_interval_s : float
        Time between two frames, s.
    ome_zarr_version : {"0.5", "0.4"}
        Version to write.
    frames : tuple of int
        Half-open range of frames.
    axes : str
        Meaning of the source's axes, e.g. "tyx"; without it, 3-D arrays are t, y, x.
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

    Raises
    ------
    CellscaleError
        For sources that cannot be read, labels that are no instance labels, or an existing destination.

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
    images_source = sources.open_source(source, axes=axes, frames=frames)
    of_labels = axes.lower().replace("c", "") if axes else None
    labels_source = sources.open_source(masks, axes=of_labels, frames=frames, labels=True) if masks else None
    return import_planes(
        images_source,
        destination,
        labels=labels_source,
        layer=layer,
        pixel_size_um=None if pixel_size_um is None else (pixel_size_um, pixel_size_um),
        frame_interval_s=frame_interval_s,
        version=ome_zarr_version,
        overwrite=overwrite,
        storage_options=storage_options,
        on_progress=on_progress,
    )


def synthesize(
    destination: str,
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
    destination : str
        URL of the image to make.
    shape : tuple of int
        Frames, height and width, px.
    cells : int
        Number of cells at the first frame.
    look : {"fluorescence", "brightfield"}
        What the microscope shows.
    seed : int
        All randomness follows from it.
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
        destination,
        version=ome_zarr_version,
        pixel_size_um=(0.5, 0.5),
        frame_interval_s=300.0,
        overwrite=overwrite,
        storage_options=storage_options,
        on_progress=on_progress,
    )

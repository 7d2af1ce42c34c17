"""Prepare an image for segmentation: flat-field, background, noise and drift, frame by frame."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellscale.errors import InputError
from cellscale.ngff.image import NgffImage, open_image
from cellscale.ngff.writer import create_image
from cellscale.preparation import filters
from cellscale.progress import Progress, silent
from cellscale.storage.urls import check_apart
from cellscale.types import Box

FLAT_FIELD_FRAMES = 31
"""Greatest number of frames whose median estimates a flat-field."""


def prepare(
    image: str,
    output: str,
    *,
    flat_field_um: float | None = None,
    dark: float = 0.0,
    background_um: float | None = None,
    median_px: int = 0,
    gaussian_px: float = 0.0,
    drift: bool = False,
    project_z: bool = False,
    chunk_px: int = 1024,
    overwrite: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    on_progress: Progress = silent,
) -> str:
    """Write an image whose shading, background, noise and drift are corrected, as another OME-Zarr image of float32.

    Memory holds one plane at a time, and several for the median of a flat-field. The result does not depend on
    `chunk_px`. The filters are recorded in the image's attributes under `cellscale`.

    Parameters
    ----------
    image : str
        URL of the image.
    output : str
        URL of the image to write.
    flat_field_um : float
        Estimate a flat-field from the median over time, smoothed by a Gaussian of this standard deviation, µm; None: no
        flat-field.
    dark : float
        Intensity of the camera without light, subtracted first.
    background_um : float
        Subtract the result of a Gaussian of this standard deviation, µm; None: no background.
    median_px : int
        Side of a median filter, px; 0: none.
    gaussian_px : float
        Standard deviation of a Gaussian against noise, px; 0: none.
    drift : bool
        Move each frame so that it lies on the one before, by phase correlation of the first channel.
    project_z : bool
        Take the maximum over all slices first.
    chunk_px : int
        Side of the chunks in which planes are computed.
    overwrite : bool
        Replace an image at `output`.
    storage_options : mapping
        Options for fsspec.
    on_progress : callable
        Called with step, done and total.

    Returns
    -------
    str
        URL of the new image.

    Raises
    ------
    CellscaleError
        For an image that does not exist, an image without a pixel size where µm are given, numbers that are not valid,
        or an output that exists or is the image.

    Examples
    --------
    >>> import cellscale
    >>> url = cellscale.prepare("movie.zarr", "prepared.zarr", median_px=3, drift=True)
    >>> cellscale.open_image(url).shape == cellscale.open_image("movie.zarr").shape
    True
    """
    check_apart(image, output)
    _check({"flat_field_um": flat_field_um, "background_um": background_um, "chunk_px": chunk_px}, above=0.0)
    _check({"median_px": median_px, "gaussian_px": gaussian_px}, above=-1e-9)
    if not np.isfinite(dark):
        raise InputError(f"dark = {dark} is not valid; expected a finite number.")
    source = open_image(image, storage_options=storage_options)
    steps = filters.Steps(
        dark=dark,
        background_px=_pixels(source, background_um),
        median_px=median_px,
        gaussian_px=gaussian_px,
    )
    made: dict[str, Any] = {
        "flat_field_um": flat_field_um,
        "dark": dark,
        "background_um": background_um,
        "median_px": median_px,
    }
    made |= {"gaussian_px": gaussian_px, "drift": drift, "project_z": project_z, "source": source.url}
    axes = tuple(axis for axis in source.axes if axis != "z" or not project_z)
    depth = 1 if project_z else source.size("z")
    shape = (source.size("t"), source.size("c"), depth, source.size("y"), source.size("x"))
    ordered = tuple(axis for axis in "tczyx" if axis in axes)
    writer = create_image(
        output,
        shape_tczyx=shape,
        dtype=np.float32,
        axes=ordered,
        overwrite=overwrite,
        version=source.version,
        pixel_size_um=source.pixel_size_um(),
        z_step_um=None if project_z else source.z_step_um(),
        frame_interval_s=source.frame_interval_s(),
        channels=source.channels,
        storage_options=storage_options,
    )
    with dataclasses.replace(writer, metadata={"preparation": made}) as target:
        flats = _flat_fields(source, depth, project_z, steps, _pixels(source, flat_field_um), chunk_px)
        moved, before = (0.0, 0.0), None
        for t in range(shape[0]):
            for c, z in np.ndindex(shape[1:3]):
                done = dataclasses.replace(steps, flat=flats.get((c, z)))
                plane = filters.prepared(_plane(source, t, c, z, project_z), done, chunk_px=chunk_px)
                if drift and (c, z) == (0, 0):
                    # Computed once, for its drift and to be moved.
                    plane = plane.persist()
                    now = plane.compute()
                    step = (0.0, 0.0) if before is None else filters.drift(before, now)
                    moved, before = (moved[0] + step[0], moved[1] + step[1]), now
                target.write(filters.shifted(plane, moved).compute().astype(np.float32), t=t, c=c, z=z)
            on_progress("prepare", t + 1, shape[0])
    return target.url


def _check(values: Mapping[str, float | None], *, above: float) -> None:
    for name, value in values.items():
        if value is not None and not (np.isfinite(value) and value > above):
            raise InputError(f"{name} = {value} is not valid; expected a positive number, or None.")


def _pixels(image: NgffImage, size_um: float | None) -> tuple[float, float] | None:
    """A size in px along y and x."""
    if size_um is None:
        return None
    pixel = image.pixel_size_um()
    if pixel is None:
        raise InputError(f"{image.url} has no pixel size in µm, which sizes in µm need. Import it with --pixel-size.")
    return size_um / pixel[0], size_um / pixel[1]


def _plane(image: NgffImage, t: int, c: int, z: int, project_z: bool) -> NDArray[Any]:
    box = Box(0, 0, image.size("y"), image.size("x"))
    plane: NDArray[Any] = image.read(box, t=t, z="max" if project_z else z, channels=[c])[0]
    return plane


def _flat_fields(
    image: NgffImage,
    depth: int,
    project_z: bool,
    steps: filters.Steps,
    sigma_px: tuple[float, float] | None,
    chunk_px: int,
) -> dict[tuple[int, int], NDArray[np.float64]]:
    """Flat-field of each channel and slice, from frames evenly spaced in time."""
    if sigma_px is None:
        return {}
    frames = np.unique(np.linspace(0, image.size("t") - 1, FLAT_FIELD_FRAMES).round().astype(int))
    found = {}
    for c, z in np.ndindex(image.size("c"), depth):
        median = np.median([_plane(image, int(t), c, z, project_z) for t in frames], axis=0).astype(np.float64)
        median -= steps.dark
        found[c, z] = filters.flat_field(median, sigma_px, chunk_px=chunk_px)
    return found

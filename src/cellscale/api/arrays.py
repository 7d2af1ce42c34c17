"""Arrays of NumPy, dask and xarray: segment them, and write them as OME-Zarr images and label layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any, Literal, Unpack

import dask.array as da
import numpy as np
import xarray as xr
from dask.delayed import delayed
from numpy.typing import NDArray

from cellscale import sources
from cellscale.api.segmentation import segment
from cellscale.errors import InputError
from cellscale.models.model import Model
from cellscale.ngff.image import NgffImage, open_image
from cellscale.ngff.import_planes import ImportOptions, import_planes, write_layer
from cellscale.ngff.labels import LabelLayer, open_labels
from cellscale.progress import Progress, silent
from cellscale.sources.stored import Stored
from cellscale.storage.urls import Location, url_of
from cellscale.types import AnyArray, Box, Calibration

ZMode = Literal["slices", "max_projection"]


def segment_array(
    array: AnyArray,
    *,
    model: Model,
    axes: str | None = None,
    channels: str | Sequence[str | int] | None = None,
    z_mode: ZMode = "slices",
    settings: Mapping[str, Any] | None = None,
    on_progress: Progress = silent,
) -> AnyArray:
    """Segment an array; the labels are those that `segment` writes for a stored image with the same pixels.

    The pixels go through a temporary store on this machine (TMPDIR), without Ray. Of a dask array, or an xarray array
    of one, the result is lazy as well: each time point is segmented on demand and held in memory.

    Parameters
    ----------
    array : numpy.ndarray, dask.array.Array or xarray.DataArray
        Pixels of 2 to 5 dimensions.
    model : Model
        A trained model, e.g. of `load_model`.
    axes : str
        Meaning of the dimensions in their order, of t, c, z, y, x, e.g. "tczyx"; None: the names of an xarray array's
        dimensions; else two dimensions are y, x, three are t, y, x, and up to four channels may be the last axis.
    channels : str or sequence
        Channels by number or name, in the model's order; None: the first ones.
    z_mode : {"slices", "max_projection"}
        Segment each slice, or the maximum over all slices.
    settings : mapping
        Single settings by name, e.g. {"window_size": 4096}.
    on_progress : callable
        Called with step, done and total; not for lazy arrays.

    Returns
    -------
    array of the same kind, uint32
        Labels from 1 in each time point, 0 for background, with the array's axes except c (and z for a projection); an
        xarray result has their coordinates.

    Raises
    ------
    InputError
        For something that is not an array of numbers, dimensions that need `axes`, channels that do not fit, or the
        settings `unique_ids` and `frames` of a lazy array.

    Examples
    --------
    >>> import numpy as np
    >>> import cellscale
    >>> array = np.asarray(cellscale.open_image("movie.zarr"))
    >>> labels = cellscale.load_model("nuclei").segment(array, axes="tyx")
    >>> labels.shape, labels.dtype
    ((3, 96, 96), dtype('uint32'))
    """
    stored = sources.array_image(array, axes)
    options = {"channels": channels, "z_mode": z_mode, "settings": dict(settings or {})}
    pixels = array.data if isinstance(array, xr.DataArray) else array
    dropped = {"c", "z"} if z_mode == "max_projection" else {"c"}
    kept = [axis for axis in stored.axes if axis not in dropped]
    labels: Any
    if isinstance(pixels, da.Array):
        _check_frame_by_frame(settings or {})
        labels = _lazy(model, pixels, stored, kept, options)
    else:
        labels = _arranged(_segmented(model, stored, on_progress, options), kept)
    if not isinstance(array, xr.DataArray):
        return labels  # type: ignore[no-any-return]
    return _labelled(labels, array, [dim for dim, axis in zip(array.dims, stored.axes, strict=True) if axis in kept])


def _labelled(labels: Any, array: xr.DataArray, dims: Sequence[Any]) -> xr.DataArray:
    """Labels with these dimensions of an array and the coordinates that lie along them."""
    coords = {name: values for name, values in array.coords.items() if {*values.dims} <= {*dims}}
    return xr.DataArray(labels, dims=dims, coords=coords, name="labels")


def _segmented(model: Model, stored: Stored, on_progress: Progress, options: Mapping[str, Any]) -> NDArray[np.uint32]:
    """Labels of an image, (t, z, y, x), computed through a temporary store."""
    with TemporaryDirectory(prefix="cellscale-") as folder:
        image = import_planes(sources.stack(stored), f"{folder}/image.zarr")
        segment(image.url, model=model, backend="serial", on_progress=on_progress, **options)
        return _read(open_labels(image.url, "cells"))


def _read(layer: LabelLayer) -> NDArray[np.uint32]:
    """All labels of the finest level, (t, z, y, x)."""
    made = np.empty([layer.size(axis) for axis in "tzyx"], np.uint32)
    for t, z in np.ndindex(made.shape[:2]):
        made[t, z] = layer.read(Box.of(made.shape), t=t, z=z)
    return made


def _arranged(labels: NDArray[np.uint32], axes: Sequence[str]) -> NDArray[np.uint32]:
    """Labels (t, z, y, x) with these axes in this order; the others have length 1."""
    index = tuple(slice(None) if axis in axes else 0 for axis in "tzyx")
    left = [axis for axis in "tzyx" if axis in axes]
    return labels[index].transpose([left.index(axis) for axis in axes])


def _frame(
    model: Model, axes: str, known: Calibration, kept: Sequence[str], options: Mapping[str, Any], pixels: Any
) -> NDArray[np.uint32]:
    """Labels of one time point, whose t axis has length 1."""
    stored = replace(sources.array_image(np.asarray(pixels), axes), calibration=known)
    return _arranged(_segmented(model, stored, silent, options), kept)


def _check_frame_by_frame(given: Mapping[str, Any]) -> None:
    """Refuse settings that look at several frames: those of a lazy array are segmented one by one."""
    wrong = [name for name in ("unique_ids", "frames") if given.get(name) not in (None, False)]
    if wrong:
        raise InputError(
            f"Setting {wrong[0]!r} is given for a lazy array, whose frames are segmented one by one; expected an array "
            "in memory. Call its compute() first, or choose the frames by an index."
        )


def _lazy(model: Model, pixels: da.Array, stored: Stored, kept: Sequence[str], options: Mapping[str, Any]) -> da.Array:
    """Labels whose time points are computed one by one: labels of a frame depend on no other frame."""
    work: Any = delayed(partial(_frame, model, stored.axes, stored.calibration, kept, options), pure=False)
    shape = tuple(1 if axis == "t" else stored.size(axis) for axis in kept)
    at = stored.axes.find("t")
    frames = [pixels] if at < 0 else [pixels[(slice(None),) * at + (slice(t, t + 1),)] for t in range(stored.size("t"))]
    made = [da.from_delayed(work(frame), shape=shape, dtype=np.uint32) for frame in frames]
    lazy: da.Array = da.concatenate(made, axis=kept.index("t")) if at >= 0 else made[0]
    return lazy


def save_image(array: Any, url: Location, *, axes: str | None = None, **options: Unpack[ImportOptions]) -> NgffImage:
    """Write an array as a new OME-Zarr image, plane by plane.

    Parameters
    ----------
    array : numpy.ndarray, dask.array.Array or xarray.DataArray
        Pixels of 2 to 5 dimensions; of an xarray array, coordinates with units give pixel size and time interval, and
        those of c the names of the channels.
    url : str or path
        URL of the image to make.
    axes : str
        Meaning of the dimensions in their order, see `segment_array`.
    **options
        See `cellscale.ngff.import_planes.ImportOptions`.

    Returns
    -------
    NgffImage
        The image.

    Raises
    ------
    CellscaleError
        For something that is not an array of numbers, dimensions that need `axes`, or an existing destination.

    Examples
    --------
    >>> import numpy as np
    >>> import cellscale
    >>> image = cellscale.save_image(np.zeros((2, 64, 64), np.uint16), "saved.zarr", pixel_size_um=0.65)
    >>> image.axes, image.pixel_size_um()
    (('t', 'y', 'x'), (0.65, 0.65))
    """
    return import_planes(sources.stack(sources.array_image(array, axes)), url_of(url, "image"), **options)


def save_labels(
    labels: Any,
    image: Location,
    layer: str,
    *,
    frames: Sequence[int] | None = None,
    axes: str | None = None,
    overwrite: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    on_progress: Progress = silent,
) -> str:
    """Write an array of instance labels as a label layer of an image, with its pyramid.

    Parameters
    ----------
    labels : numpy.ndarray, dask.array.Array or xarray.DataArray
        Integers from 0 to 2³² − 1, with the image's slices, rows and columns.
    image : str or path
        URL of the image.
    layer : str
        Name of the layer.
    frames : sequence of int
        Annotated frames of the image, ascending. The labels have one time point for each of them, or one for each
        frame of the image: then all are written. Training and evaluation use the annotated ones only; None: all frames.
    axes : str
        Meaning of the dimensions in their order, of t, z, y, x; None: the names of an xarray array's dimensions; else
        those of the image without its channels, if there are as many, or y, x or t, y, x.
    overwrite : bool
        Replace an existing layer, when the new one is complete.
    storage_options : mapping
        Options for fsspec.
    on_progress : callable
        Called with step, done and total.

    Returns
    -------
    str
        URL of the layer.

    Raises
    ------
    ExistsError
        If the layer exists and `overwrite` is not set.
    InputError
        If labels and image do not fit, or are not instance labels.

    Examples
    --------
    >>> import numpy as np
    >>> import cellscale
    >>> labels = np.ones((96, 96), np.uint16)
    >>> url = cellscale.save_labels(labels, "movie.zarr", "corrected", frames=[1])
    >>> int(cellscale.open_labels("movie.zarr", "corrected").isel(t=1).max())
    1
    """
    opened = open_image(url_of(image, "image"), storage_options=storage_options)
    axes = axes or _axes_like(opened, labels)
    planes = sources.stack(sources.array_image(labels, axes, what="the array of labels"))
    written, annotated = _places(opened, planes.shape[0], frames)
    return write_layer(
        opened, planes, layer, written=written, annotated=annotated, overwrite=overwrite, on_progress=on_progress
    ).url


def _axes_like(image: NgffImage, labels: Any) -> str | None:
    """The image's axes without its channels, or without the time of one frame, if an array of labels has as many."""
    if hasattr(labels, "dims"):
        return None
    of_image = "".join(axis for axis in image.axes if axis != "c")
    single = {of_image.replace("t", "")} if image.size("t") == 1 else set()
    return next((axes for axes in {of_image} | single if getattr(labels, "ndim", 0) == len(axes)), None)


def _places(image: NgffImage, count: int, frames: Sequence[int] | None) -> tuple[range | list[int], list[int]]:
    """Frames of the image that the time points of the labels belong to, and those that are annotated."""
    total = image.size("t")
    annotated = list(range(total)) if frames is None else [int(t) for t in frames]
    if not annotated or annotated != sorted(set(annotated)) or not 0 <= annotated[0] <= annotated[-1] < total:
        raise InputError(
            f"Frames {annotated} are not valid; expected ascending numbers below {total}, frames of {image.url}."
        )
    if count not in (total, len(annotated)):
        raise InputError(
            f"The labels have {count} time points, {image.url} has {total} frames, of which {len(annotated)} are named "
            "with frames=; expected one time point for each of these, or for each frame."
        )
    return (range(total) if count == total else annotated), annotated

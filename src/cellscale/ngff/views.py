"""Lazy views for analysis: labelled arrays with physical coordinates, computed chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from cellscale.errors import StoreError
from cellscale.ngff import array_io
from cellscale.ngff.image import NgffImage, open_image
from cellscale.ngff.labels import LabelLayer, open_labels
from cellscale.ngff.metadata import Level
from cellscale.ngff.stores import Store, joined
from cellscale.storage.errors import advice, failures
from cellscale.storage.urls import Location, url_of
from cellscale.units import unit_s, unit_um


@dataclass(frozen=True, kw_only=True)
class StoredArray:
    """An array with the interface that dask needs, opened for each read; its document is read once."""

    store: Store
    path: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    document: str | None = field(default=None, repr=False)
    """See `Level.document`."""
    replaceable: bool = False
    """Whether others may replace the array while it is read."""

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        """Read an index, in the machine's byte order."""
        absent: set[str] = set()
        with self.store.array(self.path, document=self.document, absent=absent) as array:
            try:
                values = np.asarray(array[index]).astype(self.dtype, copy=False)
            except failures() as error:
                where = f"{joined(self.store.url, self.path)}, {index}"
                raise StoreError(f"Cannot read {where}: {error}. {advice(error, self.store.url)}") from error
        if self.replaceable or absent:
            array_io.check_still_there(self.store, self.path)
        return values


def _coordinates(
    axes: Sequence[str], units: Sequence[str | None], level: Level
) -> dict[str, tuple[str, Any, dict[str, str]]]:
    """Positions of the pixels: µm and s where the units are known, else in the stored units."""
    made = {}
    for at, axis in enumerate(axes):
        if axis == "c":
            continue
        unit_size, name = (unit_s, "s") if axis == "t" else (unit_um, "µm")
        unit = units[at]
        factor = unit_size(unit or "")
        values = (np.arange(level.shape[at]) * level.scale[at] + level.translation[at]) * (factor or 1.0)
        shown = name if factor else unit
        made[axis] = (axis, values, {"units": shown} if shown else {})
    return made


def view_of(source: NgffImage | LabelLayer, level: int) -> xr.DataArray:
    """A level of an opened image or label layer, lazily, with physical coordinates."""
    array_io.check_range("Level", level, len(source.levels), url=source.url)
    found = source.levels[level]
    with array_io.opened(source.store, found) as array:
        chunks, dtype = array_io.object_shape(array), np.dtype(array.dtype).newbyteorder("=")
    replaceable = isinstance(source, LabelLayer) and source.published
    stored = StoredArray(
        store=source.store,
        path=found.path,
        shape=found.shape,
        dtype=dtype,
        document=found.document,
        replaceable=replaceable,
    )
    lazily: Callable[..., Any] = da.from_array
    pixels = lazily(stored, chunks=chunks, name=False, meta=np.empty((0,) * stored.ndim, dtype))
    coordinates = _coordinates(source.axes, source.units, found)
    attributes = {"url": source.url, "level": level, "ngff_version": source.version, "path": found.path}
    name = source.url.rsplit("/", 1)[-1]
    return xr.DataArray(pixels, dims=source.axes, coords=coordinates, attrs=attributes, name=name)


def open_image_view(url: Location, *, level: int = 0, storage_options: Mapping[str, Any] | None = None) -> xr.DataArray:
    """Open an image lazily.

    Parameters
    ----------
    url : str or path
        Any fsspec URL of an OME-Zarr 0.4 or 0.5 image.
    level : int
        Level of the pyramid, 0 is the finest.
    storage_options : mapping, optional
        For fsspec.

    Returns
    -------
    xarray.DataArray
        Dimensions as stored; t in s and z, y, x in µm where the image has such units, c with the channels' names.

    Raises
    ------
    CellscaleError
        As `open_image` does; MissingError for a level that does not exist.

    Examples
    --------
    >>> import cellscale
    >>> image = cellscale.open_image("movie.zarr")
    >>> image.dims, image.shape
    (('t', 'y', 'x'), (3, 96, 96))
    >>> image.y.attrs["units"]
    'µm'
    """
    image = open_image(url_of(url, "image"), storage_options=storage_options)
    view = view_of(image, level)
    return view.assign_coords(c=list(image.channels)) if "c" in image.axes else view


def open_labels_view(
    url: Location, name: str, *, level: int = 0, storage_options: Mapping[str, Any] | None = None
) -> xr.DataArray:
    """Open a published label layer lazily.

    Parameters
    ----------
    url : str or path
        The image or store that holds the layer.
    name : str
        Name of the layer.
    level : int
        Level of the pyramid, 0 is the finest.
    storage_options : mapping, optional
        For fsspec.

    Returns
    -------
    xarray.DataArray
        Dimensions as stored, coordinates as the image's.

    Raises
    ------
    CellscaleError
        As `open_labels` does; MissingError for a level that does not exist.

    Examples
    --------
    >>> import cellscale
    >>> labels = cellscale.open_labels("movie.zarr", "truth")
    >>> labels.dtype, int(labels.isel(t=0).max())
    (dtype('uint32'), 6)
    """
    layer = open_labels(url_of(url, "image"), name, storage_options=storage_options)
    return view_of(layer, level)

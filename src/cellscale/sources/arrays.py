"""Arrays in memory, lazy dask arrays and labelled xarray arrays as images.

dask and xarray take a second to import. Their arrays exist only where the caller has imported them.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cellscale.errors import InputError
from cellscale.sources.stored import AXES, Stored, from_array
from cellscale.storage.pixel_types import pixel_type
from cellscale.types import Calibration
from cellscale.units import positive, unit_s, unit_um, unknown_unit

if TYPE_CHECKING:
    import xarray as xr

_UNEVEN = 1e-6
"""Relative deviation beyond which coordinates have no common step."""


def _step(array: xr.DataArray, axis: str) -> float | None:
    """Even step of an axis's coordinates, in µm or s; None without coordinates, or a unit of them."""
    if axis not in array.coords or array.sizes[axis] < 2:
        return None
    values = np.asarray(array.coords[axis].values)
    if values.dtype.kind not in "uif":
        return None
    steps = np.diff(values.astype(np.float64))
    unit = (unit_s if axis == "t" else unit_um)(str(array.coords[axis].attrs.get("units", "")))
    if unit is None or not np.allclose(steps, steps.mean(), rtol=_UNEVEN, atol=0):
        return None
    return positive(f"{steps.mean() * unit:.12g}")  # coordinates are multiples of the step, rounded


def _unknown_unit(array: xr.DataArray, axis: str) -> str | None:
    """Unit of an axis's coordinates that is not known; None for any other axis."""
    unit = str(array.coords[axis].attrs.get("units", "")) if axis in array.coords else ""
    return unknown_unit(1, unit, unit_s if axis == "t" else unit_um)


def _calibration(array: xr.DataArray) -> Calibration:
    """Physical sizes and channel names that the coordinates state."""
    height, width = _step(array, "y"), _step(array, "x")
    names = array.coords["c"].values.tolist() if "c" in array.coords and "c" in array.dims else ()
    known = Calibration(
        pixel_size_um=None if height is None or width is None else (height, width),
        z_step_um=_step(array, "z"),
        frame_interval_s=_step(array, "t"),
        channels=tuple(map(str, names)),
    )
    units = {axis: _unknown_unit(array, axis) for axis in "tzyx"}
    return known.with_unknown_units(
        {"pixel_size_um": units["y"] or units["x"], "z_step_um": units["z"], "frame_interval_s": units["t"]}
    )


def _is_a(array: Any, module: str, name: str) -> bool:
    """Whether an array is of a class of a library that may not be imported."""
    return module in sys.modules and isinstance(array, getattr(sys.modules[module], name))


def _check_known(pixels: Any, what: str) -> None:
    """Raise InputError for pixels that are masked out, and for lazy arrays whose shape is not known."""
    if isinstance(pixels, np.ma.MaskedArray) and np.ma.is_masked(pixels):
        raise InputError(
            f"{what} has {int(np.ma.getmaskarray(pixels).sum())} masked pixels; expected a value for each. "
            "Give them one, e.g. with array.filled(0)."
        )
    if np.isnan(pixels.shape).any():  # dask has nan for a length that it does not know
        raise InputError(
            f"{what} has the shape {pixels.shape}; expected known lengths. Call its compute_chunk_sizes() first."
        )


def array_image(array: Any, axes: str | None = None, *, what: str = "the array") -> Stored:
    """Describe a NumPy, dask or xarray array as an image; a lazy array is computed plane by plane.

    Parameters
    ----------
    array : numpy.ndarray, dask.array.Array or xarray.DataArray
        Pixels of 2 to 5 dimensions.
    axes : str, optional
        Meaning of the dimensions in their order, e.g. "tczyx"; None: the names of an xarray array's dimensions; else
        two dimensions are y, x, three are t, y, x, and up to four channels may be the last axis.
    what : str
        Words for the array, for messages.

    Raises
    ------
    InputError
        For something that is not an array of numbers, or dimensions that need `axes`.
    """
    labelled = array if _is_a(array, "xarray", "DataArray") else None
    pixels = array.data if labelled is not None else array
    if not (isinstance(pixels, np.ndarray) or _is_a(pixels, "dask.array", "Array")):
        raise InputError(f"{what} is {type(array).__name__}; expected an array of NumPy, dask or xarray.")
    _check_known(pixels, what)
    pixel_type(pixels.dtype, what)
    given = [axes.lower()] if axes else []
    if labelled is not None and not axes:
        given = ["".join(map(str, labelled.dims))]
        if set(given[0]) - set(AXES) or len(given[0]) != pixels.ndim:
            raise InputError(
                f"{what} has the dimensions {', '.join(map(str, labelled.dims))}; expected names among t, c, z, y, x. "
                'Rename them, or say what they are: axes="tyx".'
            )
    found = from_array(pixels, given, what)
    if 0 in found.shape:
        raise InputError(f"{what} has no pixels: its shape is {found.shape}.")
    if labelled is None:
        return found
    renamed = labelled.rename({old: new for old, new in zip(labelled.dims, found.axes, strict=True) if old != new})
    return replace(found, calibration=_calibration(renamed))

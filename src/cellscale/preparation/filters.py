"""Preparation of a frame: filters of its pixels, as one lazy graph for each plane.

The filters are those of dask-image, whose results are the same bytes for every chunking; everything else is computed
pixel by pixel in float64. Shifts are whole multiples of 1/8 px: in binary numbers they add up without rounding, so that
interpolation does not depend on the chunk either.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
from dask_image.ndfilters import gaussian_filter, median_filter
from dask_image.ndinterp import affine_transform
from numpy.typing import NDArray
from scipy import ndimage
from skimage.registration import phase_cross_correlation

SHIFT_STEPS = 8
"""Shifts are multiples of this part of a pixel."""
LEAST_FLAT = 0.01
"""Least value of a flat-field, whose mean is 1: dark corners are not raised without bound."""


@dataclass(frozen=True, kw_only=True)
class Steps:
    """Filters of a plane, applied in this order: dark frame, flat-field, background, noise."""

    dark: NDArray[np.float64] | float = 0.0
    """Intensity without light, subtracted: a number or (y, x)."""
    flat: NDArray[np.float64] | None = None
    """(y, x) by which the plane is divided; None: nothing."""
    background_px: tuple[float, float] | None = None
    """Standard deviation of the Gaussian whose result is subtracted, or width of the median filter, px along y and x;
    None: no background."""
    background_filter: str = "gaussian"
    """Estimator of the background: "gaussian" or "median"."""
    median_px: int = 0
    """Side of the median filter against noise, px, an odd number; 0: none."""
    gaussian_px: float = 0.0
    """Standard deviation of the Gaussian against noise, px; 0: none."""


def prepared(plane: NDArray[Any], steps: Steps, *, chunk_px: int) -> da.Array:
    """Return a plane after all steps, lazily.

    Parameters
    ----------
    plane : array, (y, x)
        Intensities.
    steps : Steps
        Filters to apply.
    chunk_px : int
        Side of the chunks; the result does not depend on it.

    Returns
    -------
    dask array, float64, (y, x)
        The prepared plane.
    """
    lazy: da.Array = da.from_array(plane, chunks=(chunk_px, chunk_px)).astype(np.float64)
    lazy = lazy - (da.from_array(steps.dark, chunks=lazy.chunks) if isinstance(steps.dark, np.ndarray) else steps.dark)
    if steps.flat is not None:
        lazy = lazy / da.from_array(steps.flat, chunks=lazy.chunks)
    if steps.background_px is not None:
        lazy = lazy - _background(lazy, steps.background_px, steps.background_filter)
    if steps.median_px:
        lazy = median_filter(lazy, size=steps.median_px, mode="nearest")
    if steps.gaussian_px:
        lazy = _gaussian(lazy, (steps.gaussian_px, steps.gaussian_px))
    return lazy


def _background(plane: da.Array, size_px: tuple[float, float], how: str) -> da.Array:
    """Estimate what varies slowly over the plane."""
    if how == "gaussian":
        return _gaussian(plane, size_px)
    # The largest odd number of pixels within the size, so that the window lies evenly around each pixel.
    inside = [int(min(size, side)) for size, side in zip(size_px, plane.shape, strict=True)]
    height, width = (max(1, number - 1 + number % 2) for number in inside)
    smooth: da.Array = median_filter(plane, size=(height, width), mode="nearest")
    return smooth


def _gaussian(plane: da.Array, sigma_px: tuple[float, float]) -> da.Array:
    """Filter with a Gaussian; one wider than the plane, which dask-image refuses, is SciPy's on the whole plane."""
    if max(4 * sigma + 1 - side for sigma, side in zip(sigma_px, plane.shape, strict=True)) < 0:
        near: da.Array = gaussian_filter(plane, sigma_px, mode="nearest")
        return near
    wide: da.Array = plane.rechunk(-1).map_blocks(ndimage.gaussian_filter, sigma_px, mode="nearest", dtype=plane.dtype)
    return wide


def flat_field(median: NDArray[np.float64], sigma_px: tuple[float, float], *, chunk_px: int) -> NDArray[np.float64]:
    """Estimate a flat-field from the median over the frames of a time-lapse.

    Parameters
    ----------
    median : array, (y, x)
        Median over frames, without the dark frame.
    sigma_px : tuple of float
        Standard deviation of the Gaussian that smooths it, px along y and x.
    chunk_px : int
        Side of the chunks; the result does not depend on it.

    Returns
    -------
    float64 array, (y, x)
        Mean 1; pixels below a hundredth of the mean are held there.
    """
    smooth = _gaussian(da.from_array(median, chunks=(chunk_px, chunk_px)), sigma_px).compute()
    mean = float(smooth.mean())
    return np.maximum(smooth / mean, LEAST_FLAT) if mean > 0 else np.ones_like(smooth)


def drift(before: NDArray[Any], now: NDArray[Any]) -> tuple[float, float]:
    """Return by how many px (y, x) a plane must be moved to lie on the one before, by phase correlation."""
    shift, _, _ = phase_cross_correlation(before, now, upsample_factor=SHIFT_STEPS)
    y, x = (round(float(value) * SHIFT_STEPS) / SHIFT_STEPS for value in shift)
    return y, x


def shifted(plane: NDArray[Any], shift: tuple[float, float], *, chunk_px: int) -> da.Array:
    """Move a plane by (y, x) px, multiples of 1/8 px; linear between pixels, the nearest one beyond the edge."""
    lazy: da.Array = da.from_array(plane, chunks=(chunk_px, chunk_px))
    if shift == (0.0, 0.0):
        return lazy
    offset = [-shift[0], -shift[1]]
    moved: da.Array = affine_transform(lazy, np.eye(2), offset, order=1, output_chunks=lazy.chunksize, mode="nearest")
    return moved

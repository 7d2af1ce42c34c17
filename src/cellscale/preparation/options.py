"""Steps that correct the frames of an image before it is segmented: one value, with one docstring a field."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, get_args

import numpy as np
from numpy.typing import NDArray

from cellscale.errors import InputError
from cellscale.storage.urls import Location

Projection = Literal["max", "mean", "min", "median"]
BackgroundFilter = Literal["gaussian", "median"]


class PreparationKeywords(TypedDict, total=False):
    """Keyword arguments of `cellscale.prepare`; `PreparationOptions` says what each means."""

    flat_field: Location | NDArray[Any] | None
    flat_field_um: float | None
    dark: float | Location | NDArray[Any]
    background_um: float | None
    background_filter: BackgroundFilter
    median_px: int
    gaussian_px: float
    drift: bool
    z_projection: Projection | None
    chunk_px: int


@dataclass(frozen=True, kw_only=True)
class PreparationOptions:
    """Steps of a preparation, in their order: projection, dark frame, flat-field, background, noise, drift."""

    flat_field: Location | NDArray[Any] | None = None
    """An evenly lit field to divide by, an image file or array: (y, x), or (c, y, x) with a plane for each channel.
    Several frames or slices count as their median. The dark frame is subtracted and its mean becomes 1."""
    flat_field_um: float | None = None
    """Estimate the flat-field from the median over time, smoothed by a Gaussian of this standard deviation, µm."""
    dark: float | Location | NDArray[Any] = 0.0
    """Intensity of the camera without light, subtracted first: a number, or an image as for `flat_field`."""
    background_um: float | None = None
    """Subtract the background: a Gaussian of this standard deviation, or a median filter of this width, µm."""
    background_filter: BackgroundFilter = "gaussian"
    """Estimator of the background."""
    median_px: int = 0
    """Side of a median filter against noise, px, an odd number; 0: none."""
    gaussian_px: float = 0.0
    """Standard deviation of a Gaussian against noise, px; 0: none."""
    drift: bool = False
    """Move each frame so that it lies on the one before, by phase correlation of the first channel."""
    z_projection: Projection | None = None
    """Replace the slices by their maximum, mean, minimum or median."""
    chunk_px: int = 1024
    """Side of the chunks in which a plane is computed; the result does not depend on it."""

    def __post_init__(self) -> None:
        """Check the numbers and choices."""
        positive = {"flat_field_um": self.flat_field_um, "background_um": self.background_um, "chunk_px": self.chunk_px}
        from_zero = {"median_px": self.median_px, "gaussian_px": self.gaussian_px}
        for name, value in (positive | from_zero).items():
            least = "0 or a positive" if name in from_zero else "a positive"
            if value is not None and not (np.isfinite(value) and (value > 0 or (value == 0 and name in from_zero))):
                raise InputError(f"{name} = {value} is not valid; expected {least} number.")
        if self.median_px and self.median_px % 2 != 1:
            raise InputError(
                f"median_px = {self.median_px} is not valid; expected 0 or an odd whole number: an even window moves "
                "the image by half a pixel."
            )
        choices = {
            "z_projection": (self.z_projection, (*get_args(Projection), None)),
            "background_filter": (self.background_filter, get_args(BackgroundFilter)),
        }
        for name, (choice, known) in choices.items():
            if choice not in known:
                raise InputError(f"{name} = {choice!r} is not valid; expected one of {', '.join(map(str, known))}.")
        if self.flat_field is not None and self.flat_field_um is not None:
            raise InputError("flat_field and flat_field_um exclude each other: a flat-field is given or estimated.")

    def noted(self) -> dict[str, Any]:
        """Return the options as values of JSON; arrays are named by their shapes."""
        values = dataclasses.asdict(self)
        del values["chunk_px"]
        return {name: _noted(value) for name, value in values.items()}


def _noted(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return f"array of shape {value.shape}"
    return value if value is None or isinstance(value, int | float | str) else str(value)

"""The intensity mapping of all windows of a frame, from the histogram of the whole frame.

The histogram is exact, and the mapping depends only on it: no tile, window or worker changes it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cellscale.errors import InputError
from cellscale.types import Box, Image

BINS = 65_536
"""Bins of a histogram: every value of an integer type up to 16 bits has its own."""
PIECE = 2**20
"""Pixels counted at once."""
_FINEST = float(np.finfo(np.float64).tiny)
"""Smallest width of a bin."""
LIMITS = (-1.0, 3.0)
"""Mapped intensities are clipped to this range, so that hot pixels cannot upset a network."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Bins of a histogram: value v falls into bin floor((v − start) / width)."""

    start: float = 0.0
    width: float = 1.0

    @classmethod
    def of(cls, dtype: np.dtype[np.generic], low: float, high: float) -> Scale:
        """Bins of width 1 where the values between `low` and `high` fit them, else 65,536 between `low` and `high`."""
        whole = np.issubdtype(dtype, np.integer) or dtype == np.bool_
        if whole and high - low < BINS:
            return cls(start=float(low if low < 0 or high >= BINS else 0))
        return cls(start=float(low), width=max((float(high) - float(low)) / (BINS - 1), _FINEST))

    def bins(self, image: Image) -> NDArray[np.int64]:
        """Bin of each pixel, clipped to 0 … 65,535."""
        values = (image.astype(np.float64) - self.start) / self.width
        return np.clip(values, 0, BINS - 1).astype(np.int64)

    def histogram(self, image: Image) -> NDArray[np.int64]:
        """Exact counts for each bin, (65536,)."""
        parts = np.array_split(image.ravel(), -(-image.size // PIECE) or 1)
        counts: NDArray[np.int64] = np.sum([np.bincount(self.bins(part), minlength=BINS) for part in parts], axis=0)
        return counts


def scale_of_type(dtype: np.dtype[Any]) -> Scale | None:
    """The bins of types whose every value has one, whatever a frame's range; None for others."""
    return Scale.of(dtype, 0.0, float(np.iinfo(dtype).max)) if dtype in (np.uint8, np.uint16) else None


def scales_of(dtype: np.dtype[Any], read: Iterable[tuple[Box, Image]], place: str) -> list[Scale]:
    """Find the bins of each channel of a frame from its range.

    Parameters
    ----------
    dtype : dtype
        The image's.
    read : iterable of (Box, Image)
        Boxes that cover the frame, at least one, with their pixels (c, y, x); one is held at a time.
    place : str
        The frame, for messages.

    Raises
    ------
    InputError
        If a pixel is not a finite number, or double precision does not hold the range of the values.
    """
    lows, highs = [], []
    for box, image in read:
        if dtype.kind == "f" and not np.isfinite(image).all():
            _, row, column = np.argwhere(~np.isfinite(image))[0].tolist()
            raise InputError(
                f"Pixel (y {box.y0 + row}, x {box.x0 + column}) of {place} is not a finite number. Replace it, "
                "or choose other frames."
            )
        lows.append(image.min(axis=(1, 2)))
        highs.append(image.max(axis=(1, 2)))
    ends = zip(np.min(lows, axis=0).tolist(), np.max(highs, axis=0).tolist(), strict=True)
    return [_held(Scale.of(dtype, float(low), float(high)), low, high, place) for low, high in ends]


def _held(scale: Scale, low: float, high: float, place: str) -> Scale:
    """Return the bins of values from `low` to `high` unless their range is too large or too small for them."""
    span, wrong = float(high) - float(low), ""
    if not np.isfinite(span):
        wrong = "a range that double precision does not hold; divide the pixels by a constant"
    elif 0 < span < _FINEST * (BINS - 1):
        wrong = "a range too small for double precision; multiply the pixels by a constant"
    if wrong:
        raise InputError(f"The values of {place} lie between {low} and {high}, {wrong}.")
    return scale


@dataclass(frozen=True, kw_only=True)
class Mapping:
    """Intensity to network input: linear between two values, or through a table over the histogram's bins."""

    low: float
    high: float
    table: NDArray[np.float32] | None = None
    scale: Scale = Scale()

    def __call__(self, image: Image) -> NDArray[np.float32]:
        """Map intensities to float32, `low` to 0 and `high` to 1, clipped to −1 … 3; any shape."""
        if self.table is not None:
            return self.table[self.scale.bins(image)]
        span = self.high - self.low
        span = span if span > 0 else float(np.finfo(np.float32).tiny)
        mapped: NDArray[np.float32] = np.clip((image.astype(np.float64) - self.low) / span, *LIMITS).astype(np.float32)
        return mapped


@dataclass(frozen=True, kw_only=True)
class Intensity:
    """The rule of a frame: percentiles to 0 and 1, or histogram equalisation."""

    rule: Literal["percentiles", "equalise"] = "percentiles"
    """Rule that derives the intensity mapping from the histogram of a frame."""
    low: float = 1.0
    """Percentile that becomes 0."""
    high: float = 99.0
    """Percentile that becomes 1."""

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= 100:
            raise InputError(
                f"Settings 'intensity.low' and 'intensity.high' are {self.low} and {self.high}; "
                "expected percentiles, 0 ≤ low < high ≤ 100."
            )

    def fit(self, histogram: NDArray[np.int64], scale: Scale) -> Mapping:
        """Return the mapping of a frame with this histogram, (65536,); a frame of one value maps to 0."""
        total = int(histogram.sum())
        if total == 0:
            raise InputError("A frame without pixels has no intensity mapping.")
        counts = np.cumsum(histogram)
        low, high = (int(np.searchsorted(counts, max(1.0, percent / 100 * total))) for percent in (self.low, self.high))
        values = [scale.start + scale.width * bin_ for bin_ in (low, max(high, low + 1))]
        if self.rule == "percentiles":
            return Mapping(low=values[0], high=values[1])
        # The darkest value that occurs becomes 0, the brightest 1.
        first = int(counts[np.flatnonzero(histogram)[0]])
        table = ((counts - first) / max(1, total - first)).clip(0, 1).astype(np.float32)
        return Mapping(low=values[0], high=values[1], table=table, scale=scale)

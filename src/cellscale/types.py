"""Shared types: images, label images, boxes, predictions, fragments.

Pixels are addressed (y, x), half-open, in integers, from the frame's upper left corner.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import dask.array as da
    import xarray as xr

AnyArray = TypeVar("AnyArray", "NDArray[Any]", "da.Array", "xr.DataArray")
"""An array of NumPy, dask or xarray."""
Image: TypeAlias = NDArray[Any]
"""Intensities, (y, x) or (c, y, x), any integer or float type."""
Labels: TypeAlias = NDArray[np.uint32]
"""Instance labels, (y, x): 0 is background, every other number one cell."""
Mask: TypeAlias = NDArray[np.bool_]
"""A set of pixels, (y, x)."""
Whole: TypeAlias = Literal["exact", "windowed", "tiled"]
"""Labels depend on the whole frame alone (exact), on the windows too (windowed), or on the tiles as well (tiled)."""
Table: TypeAlias = Mapping[str, NDArray[np.int64]]
"""Columns of equal length by name."""
StoredMaps: TypeAlias = Mapping[str, NDArray[np.uint8]]
"""Predictions as they are stored and decoded: round(255 p), (y, x), by name."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Physical sizes of an image and the names of its channels, as far as they are known."""

    pixel_size_um: tuple[float, float] | None = None
    """Height and width of a pixel, µm."""
    z_step_um: float | None = None
    """Distance of two slices, µm."""
    frame_interval_s: float | None = None
    """Time between two frames, s."""
    channels: tuple[str, ...] = ()
    """Names of the channels; empty where they have none."""
    unknown_units: Mapping[str, str] = field(default_factory=dict)
    """Units as the source spells them, by the name of the size above that is None because they are not known."""

    def with_unknown_units(self, units: Mapping[str, str | None]) -> Calibration:
        """Return the calibration with the units, by name of the size, of those sizes that it does not have."""
        found = {name: unit for name, unit in units.items() if unit is not None and getattr(self, name) is None}
        return replace(self, unknown_units=found)


@dataclass(frozen=True, order=True)
class Box:
    """A rectangle of pixels: rows y0 to y1 − 1, columns x0 to x1 − 1."""

    y0: int
    x0: int
    y1: int
    x1: int

    @classmethod
    def of(cls, shape: tuple[int, ...]) -> Box:
        """The box of a whole array; its last two axes are (y, x)."""
        return cls(0, 0, shape[-2], shape[-1])

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in px."""
        return self.y1 - self.y0, self.x1 - self.x0

    @property
    def area(self) -> int:
        """Number of pixels; 0 for an empty or inverted box."""
        return max(0, self.y1 - self.y0) * max(0, self.x1 - self.x0)

    @property
    def slices(self) -> tuple[slice, slice]:
        """The index of the box in a (y, x) array."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    def grow(self, by: int) -> Box:
        """Move every side outwards by `by` px; nothing is clipped."""
        return Box(self.y0 - by, self.x0 - by, self.y1 + by, self.x1 + by)

    def clip(self, to: Box) -> Box:
        """The common part of two boxes; its area is 0 where there is none."""
        return Box(max(self.y0, to.y0), max(self.x0, to.x0), min(self.y1, to.y1), min(self.x1, to.x1))

    def hull(self, other: Box) -> Box:
        """The smallest box around both."""
        return Box(min(self.y0, other.y0), min(self.x0, other.x0), max(self.y1, other.y1), max(self.x1, other.x1))

    def within(self, outer: Box) -> Box:
        """The same pixels in the coordinates of `outer`."""
        return Box(self.y0 - outer.y0, self.x0 - outer.x0, self.y1 - outer.y0, self.x1 - outer.x0)


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """Instances that networks propose in a region, n of them; stored instead of maps."""

    shape: tuple[int, int]
    """Height and width of the region, px."""
    boxes: NDArray[np.int32]
    """(n, 4): y0, x0, y1, x1 in the region, half-open, px; they may reach beyond it."""
    anchors: NDArray[np.int32]
    """(n, 2): (y, x) of the first pixel of the box's part in the frame, in the region's coordinates."""
    scores: NDArray[np.uint16]
    """(n,): round(65535 p) that it is a cell."""
    masks: NDArray[np.uint8]
    """(n, m, m): round(255 p) of the cells of a grid over the box."""
    reached: Mapping[str, int] = field(default_factory=dict)
    """Number of times that each limit of the networks was reached, by name."""

    def __len__(self) -> int:
        return len(self.boxes)

    def some(self, chosen: NDArray[Any]) -> Candidates:
        """Select candidates by number or by a mask."""
        parts = {name: getattr(self, name)[chosen] for name in ("boxes", "anchors", "scores", "masks")}
        return replace(self, **parts)

    def within(self, box: Box) -> Candidates:
        """Select the candidates whose boxes have a pixel in a box, in its coordinates."""
        y0, x0, y1, x1 = self.boxes.T
        found = self.some((y0 < box.y1) & (x0 < box.x1) & (y1 > box.y0) & (x1 > box.x0))
        corner = np.array([box.y0, box.x0], np.int32)
        return replace(found, shape=box.shape, boxes=found.boxes - np.tile(corner, 2), anchors=found.anchors - corner)


Prediction: TypeAlias = StoredMaps | Candidates
"""Stored prediction of a window, a tile's surroundings or a frame, and decoded."""


def shape_of(prediction: Prediction) -> tuple[int, int]:
    """Height and width of the region, px."""
    if isinstance(prediction, Candidates):
        return prediction.shape
    height, width = next(iter(prediction.values())).shape
    return height, width


def part_of(prediction: Prediction, box: Box) -> Prediction:
    """Part of a prediction in a box of its region."""
    if isinstance(prediction, Candidates):
        return prediction.within(box)
    return {name: np.ascontiguousarray(values[box.slices]) for name, values in prediction.items()}


@dataclass(frozen=True, kw_only=True)
class Fragments:
    """Fragments that decoding found in the valid box of a tile."""

    labels: NDArray[np.int32]
    """(y, x) of the valid box: 0 is background; equal numbers 1 … n are connected by links inside the box."""
    relief: NDArray[np.uint8] | None = None
    """(y, x) of the valid box, or None. With a relief, fragments have their least height, and the table of adjacent
    fragments has the length of the common border and its lowest saddle; pixels of height 255 belong to no border."""
    probability: NDArray[np.uint8] | None = None
    """(y, x) of the valid box, 0 … 255, or None. With it, fragments have its sum, from which an object's mean follows,
    and its greatest value."""
    anchors: NDArray[np.int64] | None = None
    """(n, 2), (y, x) of the anchor pixel of each fragment from the valid box's first pixel, or None. With anchors,
    fragments of one anchor are one object, wherever they are; an anchor may lie outside the box, but not outside the
    frame."""
    flags: Table = field(default_factory=dict)
    """0 or 1 for each fragment by name: `cut` (the object would have exceeded its extent) or `unconverged`. An object
    has the flags of its fragments."""


@dataclass(frozen=True, kw_only=True)
class Reach:
    """Radii within which prediction and decoding of a method depend on their surroundings."""

    multiple: int = 1
    """Window sizes are multiples of this, px."""
    reach: int = 0
    """Radius of the receptive field of a prediction, px, of all networks in series."""
    decode_reach: int
    """Radius of the part of the maps that decides the foreground and the links of a pixel, px."""
    link: int
    """Greatest distance between two pixels that decoding links directly, px, at least 1."""

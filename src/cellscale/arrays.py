"""Shared words: what an image, a label image and a box are.

Pixels are addressed (y, x), half-open, in whole numbers, from the frame's upper left corner.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Image: TypeAlias = NDArray[Any]
"""Intensities, (y, x) or (c, y, x), any integer or float type."""
Labels: TypeAlias = NDArray[np.uint32]
"""Instance labels, (y, x): 0 is background, every other number one cell."""
Mask: TypeAlias = NDArray[np.bool_]
"""A set of pixels, (y, x)."""
Table: TypeAlias = Mapping[str, NDArray[np.int64]]
"""Columns of equal length by name."""
StoredMaps: TypeAlias = Mapping[str, NDArray[np.uint8]]
"""Predictions as they are stored and decoded: round(255 p), (y, x), by name."""


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

    def within(self, outer: Box) -> Box:
        """The same pixels in the coordinates of `outer`."""
        return Box(self.y0 - outer.y0, self.x0 - outer.x0, self.y1 - outer.y0, self.x1 - outer.x0)


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """What a tile's decoding found in its valid box."""

    labels: NDArray[np.int32]
    """(y, x) of the valid box: 0 is background; equal numbers 1 … n are tied by true links inside the box."""
    relief: NDArray[np.uint8] | None = None
    """(y, x) of the valid box, or None. With a relief, pieces have their least height, and the table of adjacent pieces
    has the length of the common border and its lowest saddle; pixels of height 255 belong to no border."""
    anchors: NDArray[np.int64] | None = None
    """(n, 2), (y, x) of the anchor pixel of each piece from the valid box's first pixel, or None. With anchors, pieces
    of one anchor are one object, wherever they are; an anchor may lie outside the box, but not outside the frame."""
    flags: Table = field(default_factory=dict)
    """0 or 1 for each piece by name: `cut` (the object would have exceeded its extent) or `unconverged`. An object has
    the flags of its pieces."""

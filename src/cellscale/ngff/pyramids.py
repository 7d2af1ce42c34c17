"""Coarser levels: labels keep one pixel of each block, images take the mean.

The pixel that is kept depends only on the shapes of two neighbouring levels, never on the box that is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cellscale.ngff.metadata import Level
from cellscale.types import Box, Image, Labels


class Layer(Protocol):
    """A pyramid whose planes can be read and written."""

    @property
    def axes(self) -> tuple[str, ...]:
        """Axes as stored."""
        ...

    @property
    def levels(self) -> tuple[Level, ...]:
        """Levels from the finest."""
        ...

    def read(self, box: Box, *, t: int = 0, z: int = 0, level: int = 0) -> Labels:
        """Read (y, x)."""
        ...

    def write(self, labels: NDArray[Any], box: Box, *, t: int = 0, z: int = 0, level: int = 0) -> int:
        """Write (y, x); return the number of stored objects."""
        ...


def size_of(axes: Sequence[str], level: Level, axis: str) -> int:
    """Length of an axis at a level; 1 for a missing axis."""
    return level.shape[list(axes).index(axis)] if axis in axes else 1


def kept(before: int, after: int) -> NDArray[np.int64]:
    """Indices, of `before` pixels, that the `after` pixels of the next level keep.

    They are multiples of the factor f where `after` is before / f, rounded down or up (511 → 255 or 256: f = 2), and
    evenly spaced where there is no such factor.
    """
    for factor in (before // after, -(-before // after)):
        if factor and after in (before // factor, -(-before // factor)):
            return np.arange(after) * factor
    return np.arange(after) * before // after


def _from_finest(layer: Layer, level: int, axis: str, index: int) -> tuple[int, int] | None:
    """Index at the level before and at this level of what is `index` at level 0; None if a level drops it."""
    before = now = index
    for finer, coarser in zip(layer.levels[:level], layer.levels[1 : level + 1], strict=True):
        before = now
        indices = kept(size_of(layer.axes, finer, axis), size_of(layer.axes, coarser, axis))
        found = np.flatnonzero(indices == before)
        if not found.size:
            return None
        now = int(found[0])
    return before, now


def downsample(layer: Layer, level: int, box: Box, *, t: int = 0, z: int = 0) -> int:
    """Write a box of a level of labels from the level before: pixel (f·y, f·x) is kept.

    Parameters
    ----------
    layer : Layer
        The level before must be complete.
    level : int
        From 1.
    box : Box
        In px of this level; whole chunks or shards.
    t, z : int
        Frame and slice of level 0. Nothing is written for a slice that the level does not keep.

    Returns
    -------
    int
        Number of stored objects; those that hold only background are not stored.
    """
    frame, plane = _from_finest(layer, level, "t", t), _from_finest(layer, level, "z", z)
    if frame is None or plane is None:
        return 0
    finer, coarser = layer.levels[level - 1], layer.levels[level]
    rows, columns = (kept(size_of(layer.axes, finer, axis), size_of(layer.axes, coarser, axis)) for axis in "yx")
    rows, columns = rows[box.y0 : box.y1], columns[box.x0 : box.x1]
    source = Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)
    labels = layer.read(source, t=frame[0], z=plane[0], level=level - 1)
    return layer.write(labels[np.ix_(rows - rows[0], columns - columns[0])], box, t=frame[1], z=plane[1], level=level)


def halved(shape: tuple[int, int]) -> tuple[int, int]:
    """Shape of the next level of an image, rounded up."""
    return -(-shape[0] // 2), -(-shape[1] // 2)


def level_count(shape: tuple[int, int], longest: int = 512) -> int:
    """Number of levels until both sides are at most `longest` px."""
    count = 1
    while max(shape) > longest:
        shape, count = halved(shape), count + 1
    return count


def mean_of_blocks(image: Image) -> Image:
    """Mean of 2 × 2 blocks of (y, x), rounded half up for integers; an odd last row or column counts twice."""
    padded = np.pad(image, [(0, side % 2) for side in image.shape], mode="edge")
    whole = np.issubdtype(image.dtype, np.integer) or image.dtype == np.bool_
    wide = padded.astype(np.int64 if whole else np.float64)
    total = wide[::2, ::2] + wide[1::2, ::2] + wide[::2, 1::2] + wide[1::2, 1::2]
    return ((total + 2) // 4 if whole else total / 4).astype(image.dtype)

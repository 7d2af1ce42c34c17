"""Coarser levels: labels keep one pixel of each block, images take the mean.

The pixel that is kept depends only on the shapes of two neighbouring levels, never on the box that is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from cellscale.ngff.array_io import SHARD_PX, stored_sides
from cellscale.ngff.metadata import Level
from cellscale.storage.together import together
from cellscale.types import Box, Image, Labels


class Pyramid(Protocol):
    """Axes and levels of a pyramid."""

    @property
    def axes(self) -> tuple[str, ...]:
        """Axes as stored."""
        ...

    @property
    def levels(self) -> tuple[Level, ...]:
        """Levels from the finest."""
        ...


class Layer(Pyramid, Protocol):
    """A pyramid whose planes can be read and written."""

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


def _from_finest(layer: Pyramid, level: int, axis: str, index: int) -> tuple[int, int] | None:
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


class Part(NamedTuple):
    """Pixels of one frame and slice of a level that follow from a box of the level before."""

    level: int
    box: Box
    """In px of the level."""
    t: int
    z: int
    kept: tuple[NDArray[np.int64], NDArray[np.int64]] | None
    """Rows and columns of the part before that are kept; None for the first part."""


def parts_of(layer: Pyramid, box: Box, *, t: int, z: int, level: int = 0, count: int = 1) -> Iterator[Part]:
    """Yield a box of a level, then the parts of the next levels that it determines, of `count` levels at most.

    Parameters
    ----------
    layer : Pyramid
        The layer.
    box : Box
        In px of the level.
    t, z : int
        Frame and slice of level 0; the parts end before a level that does not keep them.
    level, count : int
        First level, and number of levels.
    """
    found = None
    for number in range(level, level + count):
        frame, plane = _from_finest(layer, number, "t", t), _from_finest(layer, number, "z", z)
        if number > level:
            rows, columns = _kept_between(layer, number)
            (y0, y1), (x0, x1) = np.searchsorted(rows, (box.y0, box.y1)), np.searchsorted(columns, (box.x0, box.x1))
            found = rows[y0:y1] - box.y0, columns[x0:x1] - box.x0
            box = Box(int(y0), int(x0), int(y1), int(x1))
        if frame is None or plane is None or not box.area:
            return
        yield Part(level=number, box=box, t=frame[1], z=plane[1], kept=found)


def _kept_between(layer: Pyramid, level: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of the level before that a level keeps."""
    finer, coarser = layer.levels[level - 1], layer.levels[level]
    rows, columns = (kept(size_of(layer.axes, finer, axis), size_of(layer.axes, coarser, axis)) for axis in "yx")
    return rows, columns


def levels_together(axes: Sequence[str], levels: Sequence[Level], version: str) -> int:
    """Count the levels, from the finest, of which each box of the publication grid determines whole stored objects.

    These levels can be written from the pixels of one box at a time, without reading a level back.

    Parameters
    ----------
    axes : sequence of str
        Axes of the layer.
    levels : sequence of Level
        Its levels from the finest.
    version : str
        Its NGFF version, on which the size of stored objects depends.
    """
    cuts = {axis: np.arange(SHARD_PX, size_of(axes, levels[0], axis), SHARD_PX) for axis in "yx"}
    for number, (finer, coarser) in enumerate(pairwise(levels), 1):
        sides = stored_sides(axes, coarser.shape, np.dtype(np.uint32), version)
        for axis, places in cuts.items():
            cuts[axis] = np.searchsorted(kept(size_of(axes, finer, axis), size_of(axes, coarser, axis)), places)
            if (cuts[axis] % sides[axis]).any():
                return number
    return len(levels)


def write_levels(layer: Layer, labels: Labels, box: Box, *, t: int = 0, z: int = 0, count: int) -> list[int]:
    """Write a box of the finest level, and from its pixels the parts of the next levels that it determines.

    Parameters
    ----------
    layer : Layer
        The layer.
    labels : uint32 array, (y, x)
        Labels of the box.
    box : Box
        Whole chunks or shards.
    t, z : int
        Frame and slice of the finest level.
    count : int
        Number of levels, at most `levels_together`.

    Returns
    -------
    list of int
        Number of stored objects of each of these levels.
    """
    writes: list[Callable[[], int]] = []
    for part in parts_of(layer, box, t=t, z=z, count=count):
        labels = labels if part.kept is None else labels[np.ix_(*part.kept)]
        writes.append(partial(layer.write, labels, part.box, t=part.t, z=part.z, level=part.level))
    stored = together(writes)
    return stored + [0] * (count - len(stored))


def finer_box(layer: Pyramid, level: int, box: Box) -> Box:
    """The pixels of the level before, from the first to the last, from which a box of a level follows."""
    rows, columns = _kept_between(layer, level)
    rows, columns = rows[box.y0 : box.y1], columns[box.x0 : box.x1]
    return Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)


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
    rows, columns = _kept_between(layer, level)
    source = finer_box(layer, level, box)
    labels = layer.read(source, t=frame[0], z=plane[0], level=level - 1)
    places = np.ix_(rows[box.y0 : box.y1] - source.y0, columns[box.x0 : box.x1] - source.x0)
    return layer.write(labels[places], box, t=frame[1], z=plane[1], level=level)


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

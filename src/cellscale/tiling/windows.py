"""Windows: the inputs of the networks. Each pixel of a frame lies in the core of one window and is predicted once.

All windows of a run have one shape: a core with a halo of the receptive field on both sides, or the whole axis where
the axis is shorter. A window at the frame's border is moved inwards until it ends there. A pixel near the border thus
has the same surroundings as in one window over the whole frame: the frame, its mirror image up to a multiple of the
pooling, and the networks' own padding beyond. Elsewhere, a window ends farther from its core than the receptive field.

Methods whose labels depend on their windows get a mirrored halo around the frame as well, in one window or in many, so
that the networks see whole cells at the border instead of padding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cellscale.errors import InputError
from cellscale.types import Box, Reach, Whole


def _rounded_up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


@dataclass(frozen=True, kw_only=True)
class _Axis:
    """Windows along one axis."""

    count: int
    size: int
    """Side of a window, px."""
    low: int
    """First pixel of the first window; the image is mirrored below 0."""
    high: int
    """End of the last window, px."""

    def start(self, wanted: int) -> int:
        """First pixel of a window, moved so that it stays between `low` and `high`."""
        return min(max(wanted, self.low), self.high - self.size)


@dataclass(frozen=True, kw_only=True)
class Windows:
    """The windows of a frame, numbered row by row."""

    shape: tuple[int, int]
    """Height and width of the frame, px."""
    core: int
    """Side of a core, px, a multiple of `multiple`."""
    multiple: int
    """Window sides are multiples of this (the networks' pooling), px."""
    reach: int
    """Receptive field of the networks, one side, px."""
    framed: bool = False
    """Whether windows reach a halo beyond the frame."""

    def __post_init__(self) -> None:
        if self.core < 1 or self.core % self.multiple:
            raise InputError(f"A window core of {self.core} px is not a multiple of {self.multiple} px.")

    @property
    def halo(self) -> int:
        """The reach rounded up to a multiple, px."""
        return _rounded_up(self.reach, self.multiple)

    def _axis(self, n: int) -> _Axis:
        """Windows along an axis of n px."""
        beyond = self.halo if self.framed else 0
        low, high = -beyond, _rounded_up(n, self.multiple) + beyond
        size = min(self.core + 2 * self.halo, high - low)
        return _Axis(count=1 if size == high - low else -(-n // self.core), size=size, low=low, high=high)

    def cuts(self, axis: int) -> range:
        """The first row (axis 0) or column (1) of each core but the first, px."""
        n = self.shape[axis]
        return range(self.core, n if self._axis(n).count > 1 else 0, self.core)

    @property
    def window_shape(self) -> tuple[int, int]:
        """Height and width of every window, px."""
        return self._axis(self.shape[0]).size, self._axis(self.shape[1]).size

    @property
    def rows(self) -> int:
        """Number of rows of windows."""
        return self._axis(self.shape[0]).count

    @property
    def columns(self) -> int:
        """Number of windows in a row."""
        return self._axis(self.shape[1]).count

    def __len__(self) -> int:
        return self.rows * self.columns

    def core_box(self, window: int) -> Box:
        """The pixels whose prediction is taken from this window."""
        (y0, y1), (x0, x1) = (self._core(axis, number) for axis, number in enumerate(divmod(window, self.columns)))
        return Box(y0, x0, y1, x1)

    def _core(self, axis: int, number: int) -> tuple[int, int]:
        last = number == len(self.cuts(axis))
        return number * self.core, self.shape[axis] if last else (number + 1) * self.core

    def window_box(self, window: int) -> Box:
        """The pixels that the window covers; it may reach beyond the frame, where the image is mirrored."""
        core, rows, columns = self.core_box(window), self._axis(self.shape[0]), self._axis(self.shape[1])
        y, x = rows.start(core.y0 - self.halo), columns.start(core.x0 - self.halo)
        return Box(y, x, y + rows.size, x + columns.size)

    def touching(self, box: Box) -> list[int]:
        """Numbers of the windows whose cores have a pixel in `box`."""
        inside = box.clip(Box.of(self.shape))
        rows, columns = self._touching(0, inside.y0, inside.y1), self._touching(1, inside.x0, inside.x1)
        return [row * self.columns + column for row in rows for column in columns]

    def _touching(self, axis: int, start: int, stop: int) -> range:
        last = len(self.cuts(axis))
        return range(min(start // self.core, last), min((stop - 1) // self.core, last) + 1)


class Seen(Protocol):
    """The interface of a method that windows need."""

    @property
    def reaches(self) -> Reach:
        """Multiple of the sides of windows, and radius of the receptive field."""
        ...

    @property
    def whole(self) -> Whole:
        """Whether windows change nothing, or labels depend on them."""
        ...


def windows_of(method: Seen, shape: tuple[int, int], core: int) -> Windows:
    """The windows of a method over frames (y, x), with cores of at least `core` px."""
    multiple, framed = method.reaches.multiple, method.whole == "windowed"
    return Windows(
        shape=shape, core=_rounded_up(core, multiple), multiple=multiple, reach=method.reaches.reach, framed=framed
    )


def cut(image: NDArray[np.float32], box: Box) -> NDArray[np.float32]:
    """A box of an image (c, y, x), mirrored beyond it."""
    height, width = image.shape[1:]
    rows, columns = mirrored(box.y0, box.y1, height), mirrored(box.x0, box.x1, width)
    return np.ascontiguousarray(image[:, rows[:, None], columns])


def mirrored(start: int, stop: int, n: int) -> NDArray[np.int64]:
    """Indices start … stop − 1 of an axis of n px, reflected at its ends without repeating them: int64, 0 … n − 1."""
    period = max(1, 2 * (n - 1))
    index = np.abs(np.arange(start, stop)) % period
    return np.minimum(index, period - index) if n > 1 else np.zeros(stop - start, np.int64)

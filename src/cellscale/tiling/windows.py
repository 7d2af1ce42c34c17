"""Windows: what the networks see at once. Each pixel of a frame lies in the core of one window and is predicted once.

All windows of a run have one shape. An axis that is longer than a core is read with a halo of the receptive field on
both sides, mirrored beyond the image; an axis that fits into one core is read once, mirrored up to a multiple of the
pooling. Methods whose labels depend on their windows have a halo there, too: cells at the frame's border then look the
same through one window and through many.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from cellscale.errors import InputError
from cellscale.types import Box


def _rounded_up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


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
    """Whether an axis that fits into one core has a halo, too."""

    def __post_init__(self) -> None:
        if self.core < 1 or self.core % self.multiple:
            raise InputError(f"A window core of {self.core} px is not a multiple of {self.multiple} px.")

    @property
    def halo(self) -> int:
        """The reach rounded up to a multiple, px."""
        return _rounded_up(self.reach, self.multiple)

    def _axis(self, n: int) -> tuple[int, int, int]:
        """Number of windows, size of a window and halo along an axis of n px."""
        if n <= self.core:
            halo = self.halo if self.framed else 0
            return 1, _rounded_up(n, self.multiple) + 2 * halo, halo
        return -(-n // self.core), self.core + 2 * self.halo, self.halo

    @property
    def window_shape(self) -> tuple[int, int]:
        """Height and width of every window, px."""
        return self._axis(self.shape[0])[1], self._axis(self.shape[1])[1]

    @property
    def columns(self) -> int:
        """Number of windows in a row."""
        return self._axis(self.shape[1])[0]

    def __len__(self) -> int:
        return self._axis(self.shape[0])[0] * self.columns

    def core_box(self, window: int) -> Box:
        """The pixels whose prediction is taken from this window."""
        row, column = divmod(window, self.columns)
        y, x = row * self.core, column * self.core
        return Box(y, x, y + self.core, x + self.core).clip(Box.of(self.shape))

    def window_box(self, window: int) -> Box:
        """The pixels that the window covers; it may reach beyond the frame, where the image is mirrored."""
        core = self.core_box(window)
        (_, height, halo_y), (_, width, halo_x) = self._axis(self.shape[0]), self._axis(self.shape[1])
        y, x = core.y0 - halo_y, core.x0 - halo_x
        return Box(y, x, y + height, x + width)

    def touching(self, box: Box) -> list[int]:
        """Numbers of the windows whose cores have a pixel in `box`."""
        inside = box.clip(Box.of(self.shape))
        rows = range(inside.y0 // self.core, (inside.y1 - 1) // self.core + 1)
        columns = range(inside.x0 // self.core, (inside.x1 - 1) // self.core + 1)
        return [row * self.columns + column for row in rows for column in columns]


class Seen(Protocol):
    """The part of a method that windows need."""

    @property
    def multiple(self) -> int:
        """Window sides are multiples of this, px."""
        ...

    @property
    def reach(self) -> int:
        """How far a prediction looks, one side, px."""
        ...

    @property
    def whole(self) -> Literal["exact", "windowed"]:
        """Whether windows change nothing, or labels depend on them."""
        ...


def windows_of(method: Seen, shape: tuple[int, int], core: int) -> Windows:
    """The windows of a method over frames (y, x), with cores of at least `core` px."""
    multiple, framed = method.multiple, method.whole == "windowed"
    return Windows(shape=shape, core=_rounded_up(core, multiple), multiple=multiple, reach=method.reach, framed=framed)


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

"""Tiles: the units of decoding and writing. Their cores partition the frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cellscale.errors import InputError
from cellscale.types import Box


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A partition of a frame into square cores, numbered row by row; the last of a row or column are smaller."""

    shape: tuple[int, int]
    """Height and width of the frame, px."""
    size: int
    """Side of a core, px."""

    def __post_init__(self) -> None:
        if self.size < 1 or min(self.shape) < 1:
            raise InputError(f"Tiles of {self.size} px on a frame of {self.shape} px: both must be at least 1 px.")

    @property
    def rows(self) -> int:
        """Number of rows of tiles."""
        return -(-self.shape[0] // self.size)

    @property
    def columns(self) -> int:
        """Number of tiles in a row."""
        return -(-self.shape[1] // self.size)

    def __len__(self) -> int:
        return self.rows * self.columns

    def core(self, tile: int) -> Box:
        """The pixels that tile number `tile` owns."""
        row, column = divmod(tile, self.columns)
        box = Box(row * self.size, column * self.size, (row + 1) * self.size, (column + 1) * self.size)
        return box.clip(Box.of(self.shape))

    def valid(self, tile: int, link: int) -> Box:
        """The core and every pixel within `link` of it, clipped to the frame."""
        return self.core(tile).grow(link).clip(Box.of(self.shape))

    def read(self, tile: int, link: int, reach: int) -> Box:
        """Box of the maps that decoding the tile needs: the core ⊕ (reach + link), clipped to the frame."""
        return self.core(tile).grow(link + reach).clip(Box.of(self.shape))

    def touching(self, box: Box) -> Iterator[int]:
        """Numbers of the tiles whose cores have a pixel in `box`, ascending."""
        inside = box.clip(Box.of(self.shape))
        if inside.area:
            for row in range(inside.y0 // self.size, (inside.y1 - 1) // self.size + 1):
                for column in range(inside.x0 // self.size, (inside.x1 - 1) // self.size + 1):
                    yield row * self.columns + column

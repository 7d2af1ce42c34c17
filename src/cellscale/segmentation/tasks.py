"""Units of work and the tasks that they are bundled into."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

Unit: TypeAlias = tuple[int, ...]
"""Coordinates of a work item: a plane; a plane and a window, tile or shard."""


BUNDLE = 64
"""Most units in one task: a record is read whole for each of its units."""
KINDS = {"predict": "window", "decode": "tile", "row_groups": "row group", "tables": "row group"}
"""Kind of the units of a step, where they are not shards."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """A part of a run: units of work, bundled into tasks; each task writes one record.

    The units of a task are a block: neighbours share what they read, and a block has more of them than a row.
    """

    name: str
    planes: int
    """Number of planes."""
    units_yx: tuple[int, int] | None = None
    """Rows and columns of windows, tiles or shards in each plane; None: the planes are the units."""
    block: tuple[int, int, int]
    """Planes, rows and columns of units in one task."""
    unit_px: int
    """Pixels of a unit; of the largest one where they differ."""

    @property
    def kind(self) -> str:
        """Kind of a unit: a frame, or one window, tile or shard of it."""
        return KINDS.get(self.name, "shard") if self.units_yx else "frame"

    @property
    def _sizes(self) -> tuple[int, int, int]:
        return (self.planes, *(self.units_yx or (1, 1)))

    @property
    def _blocks(self) -> tuple[int, int, int]:
        planes, rows, columns = (-(-size // side) for size, side in zip(self._sizes, self.block, strict=True))
        return planes, rows, columns

    def __len__(self) -> int:
        """Number of tasks."""
        return math.prod(self._blocks)

    def _ranges(self, place: Sequence[int]) -> list[range]:
        """Planes, rows and columns of units of the task at a place among the blocks."""
        sides = zip(place, self.block, self._sizes, strict=True)
        return [range(i * side, min((i + 1) * side, size)) for i, side, size in sides]

    def units(self, task: int) -> list[Unit]:
        """The units of a task: plane by plane, row by row."""
        planes, rows, columns = self._ranges([int(i) for i in np.unravel_index(task, self._blocks)])
        if self.units_yx is None:
            return [(plane,) for plane in planes]
        return [(plane, row * self.units_yx[1] + column) for plane in planes for row in rows for column in columns]

    def place(self, unit: Unit) -> tuple[int, int]:
        """The task of a unit, and the unit's position in it."""
        plane, row, column = (*unit, 0, 0) if self.units_yx is None else (unit[0], *divmod(unit[1], self.units_yx[1]))
        block = [i // side for i, side in zip((plane, row, column), self.block, strict=True)]
        planes, rows, columns = self._ranges(block)
        position = ((plane - planes.start) * len(rows) + row - rows.start) * len(columns) + column - columns.start
        return int(np.ravel_multi_index(block, self._blocks)), position

    def record_name(self, task: int, position: int | None = None) -> str:
        """Name of a task's record, or of the record of one of its units that was tried alone."""
        return f"{self.name}/{task:07d}" + ("" if position is None else f"-{position:05d}")


def block_of(count: int, units_yx: tuple[int, int], planes: int) -> tuple[int, int, int]:
    """Planes, rows and columns of a block of at most `count` units, nearly square; whole planes if there is room."""
    rows, columns = units_yx
    count = min(max(1, count), BUNDLE)
    if rows * columns <= count:
        return min(planes, count // (rows * columns)), rows, columns
    width = min(columns, math.isqrt(count))
    height = min(rows, count // width)
    width = min(columns, count // height)
    # Five columns in blocks of at most four are three and two, not four and one.
    return 1, -(-rows // -(-rows // height)), -(-columns // -(-columns // width))

"""Steps of a run, their work items and tasks, and the names of the records that tasks write.

A step has one work item for each plane, or for each window, tile, row group or shard of each plane, numbered in raster
order. Work items are bundled into tasks by blocks: neighbours share what they read, and a block has more of them than a
row. A task leaves one completion record in the folder of its step. If it fails, each of its work items is tried alone
and leaves a record of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, TypeAlias

import numpy as np

WorkItem: TypeAlias = tuple[int, ...]
"""Coordinates of a work item: a plane; a plane and a window, tile, row group or shard."""


class StepName(StrEnum):
    """Kinds of steps: those of a segmentation in their order, then those of a tracking run."""

    INTENSITY = "intensity"
    PREDICT = "predict"
    DECODE = "decode"
    ROW_GROUPS = "row_groups"
    JOIN = "join"
    SLICE_TABLES = "slice_tables"
    SLICE_LINKS = "slice_links"
    PUBLISH = "publish"
    TABLES = "tables"
    OBJECTS = "objects"
    LINKS = "links"
    GAPS = "gaps"
    DIVISIONS = "divisions"
    NUMBERS = "numbers"


_PARTS = {
    StepName.PREDICT: "window",
    StepName.DECODE: "tile",
    StepName.ROW_GROUPS: "row group",
    StepName.TABLES: "row group",
}
"""Parts of a plane that are work items of a step, where they are not shards."""
ABOUT_THE_LAYER = frozenset({StepName.PUBLISH, StepName.TABLES})
"""Steps whose records are about the arrays of a layer: they are void with other arrays."""


def step_of_folder(folder: str) -> StepName | None:
    """The step whose records lie in a folder of the run, or None for other folders and files."""
    return next((step for step in StepName if step.value == folder.partition("-")[0]), None)


class RecordName(NamedTuple):
    """Name of a completion record."""

    step: str
    """Name of the step, and of the folder of its records."""
    task: int
    """Number of the task."""
    position: int | None = None
    """Position in the task of a work item that was tried alone; None: the record is the whole task's."""

    @property
    def file(self) -> str:
        """Name of the object in the folder of the step."""
        return f"{self.task:07d}" if self.position is None else f"{self.task:07d}-{self.position:05d}"

    @property
    def path(self) -> str:
        """Name of the object in the folder of the run."""
        return f"{self.step}/{self.file}"


class Task(NamedTuple):
    """Work items that are executed together, and the name of their record."""

    record: RecordName
    items: list[WorkItem]

    def alone(self) -> list[Task]:
        """One task for each work item."""
        return [Task(self.record._replace(position=position), [item]) for position, item in enumerate(self.items)]


@dataclass(frozen=True, kw_only=True)
class Step:
    """A part of a run: work items, bundled into tasks."""

    kind: StepName
    index: int | None = None
    """Distinguishes steps of one kind: the level that is published, or the frames of the gaps that are closed."""
    planes: int
    """Number of planes."""
    items_yx: tuple[int, int] | None = None
    """Rows and columns of windows, tiles, row groups or shards in each plane; None: the planes are the work items."""
    block: tuple[int, int, int]
    """Planes, rows and columns of work items in one task."""
    item_px: int
    """Pixels of a work item; of the largest one where they differ."""

    @property
    def name(self) -> str:
        """Name of the step in reports, and of the folder of its records."""
        return self.kind.value if self.index is None else f"{self.kind}-{self.index}"

    @property
    def item_kind(self) -> str:
        """Kind of a work item: a frame, or one window, tile, row group or shard of it."""
        return _PARTS.get(self.kind, "shard") if self.items_yx else "frame"

    @property
    def _sizes(self) -> tuple[int, int, int]:
        return (self.planes, *(self.items_yx or (1, 1)))

    @property
    def _blocks(self) -> tuple[int, int, int]:
        planes, rows, columns = (-(-size // side) for size, side in zip(self._sizes, self.block, strict=True))
        return planes, rows, columns

    def _ranges(self, place: Sequence[int]) -> list[range]:
        """Planes, rows and columns of work items of the task at a place among the blocks."""
        sides = zip(place, self.block, self._sizes, strict=True)
        return [range(i * side, min((i + 1) * side, size)) for i, side, size in sides]

    def __len__(self) -> int:
        """Number of tasks."""
        return math.prod(self._blocks)

    def record_name(self, number: int) -> RecordName:
        """Name of a task's record."""
        return RecordName(self.name, number)

    def task(self, number: int) -> Task:
        """A task: its work items, plane by plane and row by row, and the name of its record."""
        planes, rows, columns = self._ranges([int(i) for i in np.unravel_index(number, self._blocks)])
        items: list[WorkItem] = [(plane,) for plane in planes]
        if self.items_yx is not None:
            wide = self.items_yx[1]
            items = [(plane, row * wide + column) for plane in planes for row in rows for column in columns]
        return Task(self.record_name(number), items)

    def task_of(self, item: WorkItem) -> tuple[int, int]:
        """Number of the task of a work item, and the item's position in it."""
        plane, row, column = (*item, 0, 0) if self.items_yx is None else (item[0], *divmod(item[1], self.items_yx[1]))
        block = [i // side for i, side in zip((plane, row, column), self.block, strict=True)]
        planes, rows, columns = self._ranges(block)
        position = ((plane - planes.start) * len(rows) + row - rows.start) * len(columns) + column - columns.start
        return int(np.ravel_multi_index(block, self._blocks)), position

    def records_of(self, item: WorkItem) -> tuple[RecordName, RecordName]:
        """Names of the records that may hold a work item: the record of its task, and its own if it was tried alone."""
        number, position = self.task_of(item)
        whole = self.record_name(number)
        return whole, whole._replace(position=position)


def block_of(count: int, items_yx: tuple[int, int], planes: int) -> tuple[int, int, int]:
    """Planes, rows and columns of a block of at most `count` work items, nearly square; whole planes if they fit."""
    rows, columns = items_yx
    count = max(1, count)
    if rows * columns <= count:
        return min(planes, count // (rows * columns)), rows, columns
    width = min(columns, math.isqrt(count))
    height = min(rows, count // width)
    width = min(columns, count // height)
    # Five columns in blocks of at most four are three and two, not four and one.
    return 1, -(-rows // -(-rows // height)), -(-columns // -(-columns // width))

"""Join: merge the fragments of a plane's tiles into cells, numbered in raster order, through the slices of a frame.

Row groups are joined in parallel, then one task for each plane sweeps over its row groups. No task holds the fragments
of more than two row groups: a cell's label follows from the first pixels of the cells of its group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellscale.errors import RunError
from cellscale.kernels.tables import FLAGS, concatenated
from cellscale.segmentation.decode import FRAGMENTS, unpacked
from cellscale.segmentation.memory import kept
from cellscale.segmentation.plan import Run
from cellscale.segmentation.records import (
    WORK_ITEMS,
    Arrays,
    Records,
    compressed,
    decompressed,
    get,
    items_name,
    put,
    table_columns,
    table_in,
)
from cellscale.segmentation.work_items import RecordName, WorkItem
from cellscale.storage.together import behind
from cellscale.tiling.ring_rule import TileRecord
from cellscale.tiling.row_groups import MergeDecision, RowGroup, Rows, join_row_group, labels_of, sweep
from cellscale.types import Box, Labels, Table

MOST_CELLS = int(np.iinfo(np.uint32).max)
WRITES = 4
"""Objects of decisions that are written at once, each held in memory meanwhile."""
BUNDLE_BYTES = 2**22
"""Least size of an object of decisions, compressed, but for the last one of a task."""


def _flat(value: RowGroup | MergeDecision) -> Arrays:
    """The arrays and tables of a value as columns of a record."""
    arrays: Arrays = {}
    for field in fields(value):
        inner = getattr(value, field.name)
        arrays |= table_columns(field.name, inner) if isinstance(inner, dict) else {field.name: inner}
    return arrays


def _of_item(*item: int) -> str:
    """Name of the table in which a record keeps the columns of one work item."""
    return "/".join(map(str, item))


class Joined:
    """Records of a run's tiles and row groups; the most recent ones are kept in memory."""

    def __init__(self, run: Run) -> None:
        """Read nothing yet."""
        self.run, self.records = run, Records(run.scratch)
        self._decoded = kept(self._unpacked, 4)

    def _unpacked(self, name: RecordName) -> dict[tuple[int, int], TileRecord]:
        made = unpacked(self.records.named(name), self.run.grid, self.run.method.reaches.link)
        return {(plane, tile.tile): tile for plane, tile in made}

    def tile(self, plane: int, tile: int) -> TileRecord:
        """Record that decoding wrote for a tile."""
        item = (plane,) if self.run.fused else (plane, tile)
        return self._decoded(self.records.name(self.run.decode, item))[plane, tile]

    def row_group(self, plane: int, group: int) -> RowGroup:
        """A row group of tiles, joined."""
        record = self.records.of(self.run.join_row_groups, (plane, group))
        arrays = table_in(record, _of_item(plane, group))
        return RowGroup(
            offsets=arrays["offsets"],
            objects=arrays["objects"],
            nodes=table_in(arrays, "nodes"),
            edges=table_in(arrays, "edges"),
            below=arrays["below"],
        )

    def join_columns(self, plane: int) -> Arrays:
        """Columns that the join has recorded of a plane."""
        return table_in(self.records.of(self.run.join, (plane,)), _of_item(plane))


def join_row_groups(run: Run, items: Sequence[WorkItem]) -> Arrays:
    """Join the tiles of row groups (plane, group)."""
    joined, arrays = Joined(run), dict[str, NDArray[np.generic]]()
    for plane, group in items:
        tiles = (*run.row_groups.tiles(group), *run.row_groups.at_top(group + 1))
        made = join_row_group({tile: joined.tile(plane, tile) for tile in tiles}, run.row_groups, group)
        arrays |= table_columns(_of_item(plane, group), _flat(made))
    return arrays


def join(run: Run, items: Sequence[WorkItem]) -> Arrays:
    """Sweep over the row groups of planes.

    The record of a plane has the number of cells that begin in each row group, the row groups after which its objects
    and cells were final (`places`), the number of the task's scratch object that holds the decision after each row
    group (`objects`), and the number of cells with each flag.
    """
    joined, arrays = Joined(run), dict[str, NDArray[np.generic]]()
    with behind(WRITES) as later:
        bundles = _Bundles(run, items, later)
        for (plane,) in items:
            arrays |= table_columns(_of_item(plane), _swept(run, joined, plane, bundles))
        bundles.write()
    run.scratch.flush(cells_name(items, number) for number in range(bundles.count))
    return arrays


class _Bundles:
    """Writes the decisions of a task while its sweeps go on, small ones together as one object."""

    def __init__(self, run: Run, items: Sequence[WorkItem], later: Callable[[Callable[[], None]], Any]) -> None:
        """Write nothing yet; `later` starts a write."""
        self._scratch, self._items, self._later = run.scratch, items, later
        self._held = dict[str, NDArray[np.uint8]]()
        self.count = 0
        """Number of objects that are written, or being written."""

    def add(self, plane: int, after: int, decision: MergeDecision) -> int:
        """Add the decision after a row group of a plane; return the number of its object."""
        number = self.count
        self._held[_of_item(plane, after)] = compressed(_flat(decision))
        if sum(one.nbytes for one in self._held.values()) >= BUNDLE_BYTES:
            self.write()
        return number

    def write(self) -> None:
        """Start to write what was added since the last write."""
        if self._held:
            self._later(partial(put, self._scratch, cells_name(self._items, self.count), self._held, flush=False))
            self._held, self.count = {}, self.count + 1


def _swept(run: Run, joined: Joined, plane: int, bundles: _Bundles) -> Arrays:
    """Sweep over the row groups of a plane."""
    row_groups = (joined.row_group(plane, group) for group in range(len(run.row_groups)))
    counts, flags, places = np.zeros(len(run.row_groups), np.int64), dict.fromkeys(FLAGS, 0), []
    objects = []
    for after, decision in enumerate(sweep(row_groups, run.method.merge_objects)):
        objects.append(bundles.add(plane, after, decision))
        begun = run.row_groups.of_pixel(decision.cells["first"])
        np.add.at(counts, begun, 1)
        flags = {flag: n + int(decision.cells.get(flag, np.zeros(1)).sum()) for flag, n in flags.items()}
        places += [(group, after) for group in np.unique([after, *decision.row_groups, *begun]).tolist()]
    columns = {"counts": counts, "places": np.array(places, np.int64).reshape(-1, 2)}
    columns["objects"] = np.array(objects, np.int64)
    return columns | {flag: np.array([n]) for flag, n in flags.items()}


def cells_name(items: Sequence[WorkItem], number: int) -> str:
    """Name of a scratch object with decisions of the task of these planes."""
    return f"{items_name('cells', items)}/{number:06d}"


class Numbering:
    """Labels of a run's cells, read on demand."""

    def __init__(self, run: Run, earlier: Rows) -> None:
        """Read nothing yet; `earlier` is the result of `cells_before`."""
        self.run, self.joined, self._earlier = run, Joined(run), earlier
        self._bundle = lru_cache(maxsize=4)(partial(get, run.scratch))
        self._decision = kept(self._decision_of, 4)
        self._cells = kept(self._cells_of, 4)
        self._labels = kept(self._labels_of, 4)

    def before(self, plane: int, group: int) -> int:
        """Number of the frame's cells in earlier slices, and in this one above a group."""
        counts = self.joined.join_columns(plane)["counts"]
        return int(self._earlier[plane] + counts[:group].sum())

    def load(self, plane: int, box: Box) -> None:
        """Read at once what the labels of a box of a plane follow from."""
        run, tiles = self.run, list(self.run.grid.touching(box))
        groups = {run.row_groups.of_tile(tile) for tile in tiles}
        records = [(run.join, (plane,)), *((run.join_row_groups, (plane, group)) for group in groups)]
        items = [(plane,)] if run.fused else [(plane, tile) for tile in tiles]
        self.joined.records.load(records, [(run.decode, FRAGMENTS, item) for item in items])

    def _decision_of(self, plane: int, after: int) -> Arrays:
        """Decision about what is final after a row group."""
        step, number = self.run.join, int(self.joined.join_columns(plane)["objects"][after])
        record = self.joined.records.name(step, (plane,))
        name = cells_name(step.task(record.task).items if record.position is None else [(plane,)], number)
        return decompressed(self._bundle(name)[_of_item(plane, after)], f"{self.run.scratch.url}/{name}")

    def _places(self, plane: int, group: int) -> list[int]:
        places = self.joined.join_columns(plane)["places"]
        return [int(after) for after in places[places[:, 0] == group, 1]]

    def cells(self, plane: int, group: int) -> Table:
        """Cells that begin in a row group, one row each, in the order of their labels."""
        return self._cells(plane, group)

    def _cells_of(self, plane: int, group: int) -> Table:
        parts = []
        for after in self._places(plane, group):
            cells = table_in(self._decision(plane, after), "cells")
            here = self.run.row_groups.of_pixel(cells["first"]) == group
            parts.append({name: column[here] for name, column in cells.items()})
        joined = concatenated(parts)
        order = np.argsort(joined.get("first", np.zeros(0, np.int64)))
        return {name: column[order] for name, column in joined.items()}

    def _labels_of(self, plane: int, group: int) -> NDArray[np.uint32]:
        """The label of each fragment of a group."""
        joined = self.joined.row_group(plane, group)
        firsts = np.full(len(joined.nodes["area"]), -1, np.int64)
        for after in self._places(plane, group):
            decision = self._decision(plane, after)
            here = decision["row_groups"] == group
            firsts[decision["numbers"][here]] = decision["firsts"][here]
        labels = np.zeros(len(firsts), np.uint32)
        begun = np.where(firsts >= 0, self.run.row_groups.of_pixel(firsts), -1)
        for other in np.unique(begun[begun >= 0]).tolist():
            here, known = begun == other, self.cells(plane, other)["first"]
            labels[here] = labels_of(firsts[here], known, self.before(plane, other))
        return labels[joined.objects]

    def labels(self, plane: int, box: Box) -> Labels:
        """Labels of a box of a plane, (y, x)."""
        grid, labels = self.run.grid, np.zeros(box.shape, np.uint32)
        for tile in grid.touching(box):
            core = grid.core(tile)
            part = core.clip(box)
            fragments = self.joined.records.stored(self.run.decode, FRAGMENTS, plane, tile)["fragments"]
            labels[part.within(box).slices] = self.table(plane, tile)[fragments[part.within(core).slices]]
        return labels

    def table(self, plane: int, tile: int) -> NDArray[np.uint32]:
        """Lookup from the fragment numbers 0 … n of a tile to labels."""
        group = self.run.row_groups.of_tile(tile)
        place = tile - self.run.row_groups.tiles(group).start
        start, stop = self.joined.row_group(plane, group).offsets[place : place + 2]
        return np.concatenate([np.zeros(1, np.uint32), self._labels(plane, group)[start:stop]])


def cells_before(run: Run, records: Iterable[Arrays], *, through_frames: bool) -> Rows:
    """Count the cells that are numbered before those of each plane.

    Labels are numbered through the slices of a frame, or through all frames.

    Parameters
    ----------
    run : Run
        The run.
    records : iterable of Arrays
        All records of the join.
    through_frames : bool
        Whether labels are numbered through all frames.

    Returns
    -------
    int64 array, (planes,)

    Raises
    ------
    RunError
        If a frame, or with `through_frames` all of them, has more cells than uint32 has labels.
    """
    cells = np.zeros(len(run.planes), np.int64)
    for plane, columns in _planes(records):
        cells[plane] = columns["counts"].sum()
    # Planes are in the order of frames, then slices: sums over all planes before, less those of earlier frames.
    before = np.cumsum(cells) - cells
    _, first, frame = np.unique([t for t, _ in run.planes], return_index=True, return_inverse=True)
    earlier: Rows = before if through_frames else before - before[first][frame]
    most = int(np.argmax(earlier + cells))
    if earlier[most] + cells[most] > MOST_CELLS:
        where = "All frames together have" if through_frames else f"Frame {run.planes[most][0]} has"
        raise RunError(f"{where} {earlier[most] + cells[most]} cells; uint32 labels end at {MOST_CELLS}.")
    return earlier


def counted(records: Iterable[Arrays]) -> tuple[int, dict[str, int]]:
    """Return the number of cells over all planes, and of those with each flag, from the records of the join."""
    cells, flagged = 0, dict.fromkeys(FLAGS, 0)
    for _, columns in _planes(records):
        cells += int(columns["counts"].sum())
        flagged = {flag: n + int(columns[flag].sum()) for flag, n in flagged.items()}
    return cells, {flag: n for flag, n in flagged.items() if n}


def _planes(records: Iterable[Arrays]) -> Iterator[tuple[int, Arrays]]:
    """Each plane of records of the join, with its columns."""
    for record in records:
        for plane in record[WORK_ITEMS][:, 0].tolist():
            yield plane, table_in(record, _of_item(plane))

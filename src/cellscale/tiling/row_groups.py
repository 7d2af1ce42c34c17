"""Row groups: the tiles of a frame joined row by row, so that no process holds the cells of a whole frame.

A row group is a few rows of tiles, at least `span` px high, so that its fragments are tied only to those of the row
groups directly above and below: by the ring rule, or by equal anchors. Each group is joined by itself; a sweep from the
first to the last merges objects that cross their borders. Objects that are connected by ties or common borders are
decided together, as soon as none of them reaches the next group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from cellscale.kernels.tables import concatenated, reduced, summed_pairs
from cellscale.kernels.unions import merge
from cellscale.tiling.ring_rule import TileRecord, ties
from cellscale.tiling.tiles import Grid
from cellscale.types import Table

Rows: TypeAlias = NDArray[np.int64]
MergeObjects: TypeAlias = Callable[[Table, Table], Rows]
"""`Method.merge_objects`; what it decides about objects without a common border does not depend on one another."""


@dataclass(frozen=True, kw_only=True)
class RowGroups:
    """The row groups of a frame."""

    grid: Grid
    link: int
    """Greatest distance between two pixels that decoding links directly, px."""
    span: int
    """Greatest distance between the tiles of two fragments that can be tied directly, px, at least `link`."""
    least_px: int = 1
    """A row group has enough rows of tiles to hold at least this number of pixels."""

    @property
    def tile_rows(self) -> int:
        """Rows of tiles in a row group; the last one may have fewer."""
        return max(-(-self.span // self.grid.size), -(-self.least_px // (self.grid.size * self.grid.shape[1])))

    def __len__(self) -> int:
        return (self.grid.rows + self.tile_rows - 1) // self.tile_rows

    def tiles(self, group: int) -> range:
        """Numbers of the row group's tiles; none for a row group below the last."""
        size = self.tile_rows * self.grid.columns
        return range(min(group * size, len(self.grid)), min((group + 1) * size, len(self.grid)))

    def at_top(self, group: int) -> range:
        """Numbers of the row group's tiles whose fragments may be tied to the row group above."""
        rows = -(-self.span // self.grid.size)
        return self.tiles(group)[: rows * self.grid.columns]

    def of_tile(self, tile: int) -> int:
        """The row group of a tile."""
        return tile // (self.tile_rows * self.grid.columns)

    def of_pixel(self, index: Rows) -> Rows:
        """The row groups of pixels y · width + x."""
        return index // (self.grid.shape[1] * self.tile_rows * self.grid.size)


@dataclass(frozen=True, kw_only=True)
class RowGroup:
    """The tiles of a group, joined."""

    offsets: Rows
    """(tiles + 1,): fragments of its tile i are rows offsets[i] … offsets[i + 1] − 1 of `objects`."""
    objects: Rows
    """(fragments,): the object of each fragment, 0 … n − 1."""
    nodes: Table
    """One row for each object."""
    edges: Table
    """One row for each pair of objects with a common border."""
    below: Rows
    """(m, 2): objects, and the rows of the fragments of the row group below that they are tied to."""


@dataclass(frozen=True, kw_only=True)
class _Tiles:
    """Some tiles with their records; `starts` are the rows of their first fragments, and the number of all."""

    numbers: range
    records: Sequence[TileRecord]
    starts: Rows

    @classmethod
    def of(cls, numbers: range, records: Mapping[int, TileRecord]) -> _Tiles:
        """Choose the records of these tiles."""
        chosen = [records[tile] for tile in numbers]
        starts = np.concatenate([np.zeros(1, np.int64), np.cumsum([made.count for made in chosen], dtype=np.int64)])
        return cls(numbers=numbers, records=chosen, starts=starts)

    @property
    def nodes(self) -> Table:
        """One row for each fragment."""
        return concatenated([made.nodes for made in self.records]) if self.records else {}


def _tied(row_groups: RowGroups, tiles: _Tiles, owners: _Tiles) -> Rows:
    """All pairs of fragments that rings of `tiles` tie to cores of `owners`: rows of either, (m, 2)."""
    pairs = [np.zeros((0, 2), np.int64)]
    for made, start in zip(tiles.records, tiles.starts, strict=False):
        for owner in row_groups.grid.touching(row_groups.grid.valid(made.tile, row_groups.link)):
            if owner != made.tile and owner in owners.numbers:
                place = owner - owners.numbers.start
                found = ties(made, owners.records[place], row_groups.grid, row_groups.link)
                pairs.append(found + np.array([start, owners.starts[place]]))
    return np.concatenate(pairs)


def _same_anchors(nodes: Table, others: Table) -> Rows:
    """All pairs of rows with equal anchors, (m, 2), of tables that have any."""
    if not {"anchor"} <= nodes.keys() & others.keys():
        return np.zeros((0, 2), np.int64)
    order = np.argsort(others["anchor"], kind="stable")
    known = others["anchor"][order]
    start, stop = (np.searchsorted(known, nodes["anchor"], side=side) for side in ("left", "right"))
    mine = np.repeat(np.arange(len(start)), stop - start)
    theirs = np.arange(len(mine)) - np.repeat(np.cumsum(stop - start) - stop, stop - start)
    return np.stack([mine, order[theirs]], axis=1)


def join_row_group(records: Mapping[int, TileRecord], row_groups: RowGroups, group: int) -> RowGroup:
    """Merge the fragments of a row group's tiles, by ties or by anchors.

    Parameters
    ----------
    records : mapping of int to TileRecord
        Records of the row group's tiles, and of those at the top of the row group below.
    row_groups : RowGroups
        All row groups of the frame.
    group : int
        Number of the group.

    Raises
    ------
    RunError
        If two tiles disagree on the foreground or the anchor of a pixel.
    """
    tiles, under = (_Tiles.of(numbers, records) for numbers in (row_groups.tiles(group), row_groups.at_top(group + 1)))
    fragments = tiles.nodes
    pairs = np.concatenate([_tied(row_groups, tiles, tiles), _same_anchors(fragments, fragments)])
    ids, objects = np.unique(merge(int(tiles.starts[-1]), pairs), return_inverse=True)
    edges = [
        {**made.edges, **{end: objects[made.edges[end] - 1 + start] for end in ("a", "b")}}
        for made, start in zip(tiles.records, tiles.starts, strict=False)
    ]
    below = [
        _tied(row_groups, tiles, under),
        _tied(row_groups, under, tiles)[:, ::-1],
        _same_anchors(fragments, under.nodes),
    ]
    across = np.concatenate(below)
    return RowGroup(
        offsets=tiles.starts,
        objects=objects,
        nodes=reduced(fragments, objects, len(ids)),
        edges=summed_pairs(concatenated(edges)),
        below=np.unique(np.stack([objects[across[:, 0]], across[:, 1]], axis=1), axis=0),
    )


@dataclass(frozen=True, kw_only=True)
class MergeDecision:
    """Objects that are final after one more row group."""

    row_groups: Rows
    """(k,): the row group of each object of a group."""
    numbers: Rows
    """(k,): its number there."""
    firsts: Rows
    """(k,): the first pixel of its cell, y · width + x; −1: dropped."""
    cells: Table
    """One row for each cell, in the order of their first pixels."""


@dataclass(frozen=True, kw_only=True)
class _Open:
    """Objects that reach the next row group, and all objects connected to them."""

    nodes: Table
    edges: Table
    row_groups: Rows
    numbers: Rows
    of: Rows
    """(k,): the row of `nodes` that object `numbers` of group `row_groups` belongs to."""
    below: Rows
    """(m, 2): rows of `nodes`, and rows of the fragments of the next group."""


def sweep(row_groups: Iterable[RowGroup], merge_objects: MergeObjects) -> Iterator[MergeDecision]:
    """Merge objects across row groups, from the first to the last; after each, yield the objects that are final.

    Parameters
    ----------
    row_groups : iterable of RowGroup
        In order; one at a time is held, with the objects that are not final yet.
    merge_objects : callable
        `Method.merge_objects`.
    """
    none = np.zeros(0, np.int64)
    held = _Open(nodes={}, edges={}, row_groups=none, numbers=none, of=none, below=none.reshape(0, 2))
    for number, group in enumerate(row_groups):
        objects = _added(held, group, number)
        finalized = ~_still_open(objects)
        yield _decide(objects, finalized, merge_objects)
        held = _rest(objects, ~finalized)


def _added(held: _Open, group: RowGroup, number: int) -> _Open:
    """Add a row group's objects to those that are held; merge those that are tied."""
    before, count = len(held.nodes.get("area", ())), len(group.nodes["area"])
    pairs = np.stack([held.below[:, 0], group.objects[held.below[:, 1]] + before], axis=1)
    ids, of = np.unique(merge(before + count, pairs), return_inverse=True)
    nodes = concatenated([held.nodes, group.nodes]) if before else group.nodes
    moved = {**group.edges, **{end: group.edges[end] + before for end in ("a", "b")}}
    edges = concatenated([held.edges, moved]) if before else moved
    return _Open(
        nodes=reduced(nodes, of, len(ids)),
        edges=summed_pairs({**edges, "a": of[edges["a"]], "b": of[edges["b"]]}),
        row_groups=np.concatenate([held.row_groups, np.full(count, number, np.int64)]),
        numbers=np.concatenate([held.numbers, np.arange(count)]),
        of=np.concatenate([of[held.of], of[before:]]),
        below=np.stack([of[group.below[:, 0] + before], group.below[:, 1]], axis=1),
    )


def _still_open(objects: _Open) -> NDArray[np.bool_]:
    """Mark the objects (n,) that are connected to one that is tied to the next group."""
    groups = merge(len(objects.nodes["area"]), np.stack([objects.edges["a"], objects.edges["b"]], axis=1))
    reaching = np.zeros(len(groups), bool)
    reaching[groups[objects.below[:, 0]]] = True
    return reaching[groups]


def _part(objects: _Open, kept: NDArray[np.bool_]) -> tuple[Table, Table, Rows]:
    """Nodes and edges of some objects, and their new numbers; no edge leads from them to others."""
    renumbered = np.cumsum(kept) - 1
    edges = {name: column[kept[objects.edges["a"]]] for name, column in objects.edges.items()}
    edges |= {end: renumbered[edges[end]] for end in ("a", "b")}
    return {name: column[kept] for name, column in objects.nodes.items()}, edges, renumbered


def _decide(objects: _Open, finalized: NDArray[np.bool_], merge_objects: MergeObjects) -> MergeDecision:
    nodes, edges, renumbered = _part(objects, finalized)
    targets = merge_objects(nodes, edges)
    kept = np.flatnonzero(targets >= 0)
    ids, groups = np.unique(targets[kept], return_inverse=True)
    cells = reduced({name: column[kept] for name, column in nodes.items()}, groups, len(ids))
    firsts = np.full(len(targets), -1, np.int64)
    firsts[kept] = cells["first"][groups]
    order, members = np.argsort(cells["first"]), finalized[objects.of]
    return MergeDecision(
        row_groups=objects.row_groups[members],
        numbers=objects.numbers[members],
        firsts=firsts[renumbered[objects.of[members]]],
        cells={name: column[order] for name, column in cells.items()},
    )


def _rest(objects: _Open, kept: NDArray[np.bool_]) -> _Open:
    nodes, edges, renumbered = _part(objects, kept)
    members = kept[objects.of]
    return _Open(
        nodes=nodes,
        edges=edges,
        row_groups=objects.row_groups[members],
        numbers=objects.numbers[members],
        of=renumbered[objects.of[members]],
        below=np.stack([renumbered[objects.below[:, 0]], objects.below[:, 1]], axis=1),
    )


def labels_of(firsts: Rows, known: Rows, before: int = 0) -> NDArray[np.uint32]:
    """Labels of objects by the first pixels of their cells; 0 where that is −1: dropped.

    Parameters
    ----------
    firsts : int64 array, (n,)
        First pixel of each object's cell, or −1.
    known : int64 array, (cells,)
        First pixels of successive cells, ascending, with all of `firsts` among them.
    before : int
        Number of the frame's cells before these.
    """
    ranks = np.searchsorted(known, firsts) + 1 + before
    labels: NDArray[np.uint32] = np.where(firsts >= 0, ranks, 0).astype(np.uint32)
    return labels

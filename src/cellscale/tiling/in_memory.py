"""Decoding of a frame in memory, at once or by tiles: the reference for every run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cellscale.kernels.tables import concatenated
from cellscale.tiling.ring_rule import TileRecord, record
from cellscale.tiling.row_groups import MergeObjects, RowGroups, join_row_group, labels_of, sweep
from cellscale.tiling.tiles import Grid
from cellscale.types import Box, Fragments, Labels, Prediction, Reach, Table, part_of, shape_of


class Decoder(Protocol):
    """The interface of a method that tiles need."""

    @property
    def reaches(self) -> Reach:
        """Radii of decoding."""
        ...

    def decode(self, prediction: Any, valid: Box, /) -> Fragments:
        """Fragments of the valid box from the prediction of a wider region."""
        ...

    def merge_objects(self, nodes: Table, edges: Table) -> NDArray[np.int64]:
        """The object that each object joins, or −1: dropped."""
        ...


@dataclass(frozen=True, kw_only=True)
class Cells:
    """The cells of a frame."""

    offsets: NDArray[np.int64]
    """(tiles + 1,): fragments of tile i are rows offsets[i] … offsets[i + 1] − 1 of `finals`."""
    finals: NDArray[np.uint32]
    """The label of each fragment; 0: dropped."""
    objects: Table
    """One row for each label 1 … n, in this order."""

    def table(self, tile: int) -> NDArray[np.uint32]:
        """Lookup from the fragment numbers 0 … n of a tile to labels."""
        return np.concatenate([np.zeros(1, np.uint32), self.finals[self.offsets[tile] : self.offsets[tile + 1]]])


def join(records: Sequence[TileRecord], row_groups: RowGroups, merge_objects: MergeObjects) -> Cells:
    """Merge the fragments of all tiles of a frame by their ties or their anchors, decide about the objects and number
    the cells.

    Parameters
    ----------
    records : sequence of TileRecord
        One for each tile, in the order of the grid.
    row_groups : RowGroups
        Row groups of all tiles.
    merge_objects : callable
        `Method.merge_objects`.

    Returns
    -------
    Cells
        Labels are ranks from 1 in the raster order of the cells' first pixels.

    Raises
    ------
    RunError
        If two tiles disagree on the foreground or the anchor of a pixel.
    """
    joined = [join_row_group(dict(enumerate(records)), row_groups, group) for group in range(len(row_groups))]
    firsts = [np.full(len(group.nodes["area"]), -1, np.int64) for group in joined]
    decisions = list(sweep(joined, merge_objects))
    for part in decisions:
        for group in np.unique(part.row_groups):
            here = part.row_groups == group
            firsts[group][part.numbers[here]] = part.firsts[here]
    cells = concatenated([part.cells for part in decisions])
    order = np.argsort(cells["first"])
    labels = [labels_of(found, cells["first"][order]) for found in firsts]
    return Cells(
        offsets=np.concatenate([np.zeros(1, np.int64), np.cumsum([made.count for made in records], dtype=np.int64)]),
        finals=np.concatenate([of[group.objects] for of, group in zip(labels, joined, strict=True)]),
        objects={name: column[order] for name, column in cells.items()},
    )


def whole_frame(method: Decoder, prediction: Prediction) -> Labels:
    """Decode a frame at once: the labels that every tiling must give."""
    return tiled_frame(method, prediction, max(shape_of(prediction)))


def tiled_frame(method: Decoder, prediction: Prediction, size: int) -> Labels:
    """Decode a frame by tiles of `size` px and join them, in memory: uint32, (y, x)."""
    grid, reaches = Grid(shape=shape_of(prediction), size=size), method.reaches
    cores, records = [], []
    for tile in range(len(grid)):
        read = grid.read(tile, reaches.link, reaches.decode_reach)
        fragments = method.decode(part_of(prediction, read), grid.valid(tile, reaches.link).within(read))
        owned, made = record(fragments, grid, tile, reaches.link)
        cores.append(owned)
        records.append(made)
    row_groups = RowGroups(grid=grid, link=reaches.link, span=reaches.link + reaches.decode_reach)
    cells = join(records, row_groups, method.merge_objects)
    labels = np.zeros(grid.shape, np.uint32)
    for tile, owned in enumerate(cores):
        labels[grid.core(tile).slices] = cells.table(tile)[owned]
    return labels

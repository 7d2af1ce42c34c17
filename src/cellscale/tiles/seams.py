"""The ring rule: from the pieces of tiles to the cells of a frame, the same for any tiling.

A tile forms pieces of its valid box (core ⊕ link) from exact pixels and true links only. Every pixel of the ring
(valid box without core) ties the tile's piece to the owner's piece. Sound: equal numbers in a valid box mean a path of
true links. Complete: every link between two cores is seen in a ring. Decisions about whole objects are taken after
that, once. Pieces with anchors need no ring: equal anchors are one object; the ring is then a check.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cellscale.arrays import Box, Labels, Pieces, Prediction, Table, part_of, shape_of
from cellscale.errors import RunError
from cellscale.kernels.tables import reduced, summed_pairs, tables_of
from cellscale.kernels.unions import merge, ranks
from cellscale.tiles.grid import Grid

Bands: TypeAlias = tuple[NDArray[np.int32], ...]
"""Top, bottom, left and right."""
Unite: TypeAlias = Callable[[Table, Table], NDArray[np.int64]]
"""`Method.unite`."""


class Decoder(Protocol):
    """The part of a method that tiles need."""

    @property
    def decode_reach(self) -> int:
        """How far the foreground and the links of a pixel look into the maps, one side, px."""
        ...

    @property
    def link(self) -> int:
        """Longest distance between two pixels that decoding ties directly, px, at least 1."""
        ...

    def decode(self, prediction: Any, valid: Box, /) -> Pieces:
        """Pieces of the valid box from the prediction of a wider region."""
        ...

    def unite(self, nodes: Table, edges: Table) -> NDArray[np.int64]:
        """The object that each object joins, or −1: dropped."""
        ...


@dataclass(frozen=True, kw_only=True)
class TileRecord:
    """What is kept of a decoded tile beside its pixels."""

    tile: int
    """Number in the grid."""
    count: int
    """Number of pieces of the valid box."""
    ring: Bands
    """Pieces of the valid box outside the core: top and bottom over its whole width, left and right beside the core."""
    rim: Bands
    """Pieces of the core within `link` px of each side, each over the core's whole length."""
    nodes: Table
    """One row for each piece: what `piece_table` measures, and further columns that add up."""
    edges: Table
    """One row for each pair of adjacent pieces; empty without a relief."""


@dataclass(frozen=True, kw_only=True)
class Cells:
    """The cells of a frame."""

    offsets: NDArray[np.int64]
    """(tiles + 1,): pieces of tile i are rows offsets[i] … offsets[i + 1] − 1 of `finals`."""
    finals: NDArray[np.uint32]
    """The label of each piece; 0: dropped."""
    objects: Table
    """One row for each label 1 … n, in this order."""

    def table(self, tile: int) -> NDArray[np.uint32]:
        """Lookup from the piece numbers 0 … n of a tile to labels."""
        return np.concatenate([np.zeros(1, np.uint32), self.finals[self.offsets[tile] : self.offsets[tile + 1]]])


def _bands(labels: NDArray[np.int32], core: Box) -> Bands:
    """The parts of a (y, x) array above, below, left and right of a box in it."""
    return (
        labels[: core.y0],
        labels[core.y1 :],
        labels[core.y0 : core.y1, : core.x0],
        labels[core.y0 : core.y1, core.x1 :],
    )


def record(pieces: Pieces, grid: Grid, tile: int, link: int) -> tuple[NDArray[np.int32], TileRecord]:
    """Divide the pieces of a valid box into the core's pixels, int32 (y, x), and the record of the tile."""
    core, valid = grid.core(tile), grid.valid(tile, link)
    inner = core.within(valid)
    owned = np.ascontiguousarray(pieces.labels[inner.slices])
    nodes, edges = tables_of(pieces, inner, origin=(core.y0, core.x0), width=grid.shape[1])
    made = TileRecord(
        tile=tile,
        count=len(nodes["area"]),
        ring=_bands(pieces.labels, inner),
        rim=(owned[:link], owned[-link:], owned[:, :link], owned[:, -link:]),
        nodes={**nodes, **_own(pieces, grid, valid)},
        edges=edges,
    )
    return owned, made


def _own(pieces: Pieces, grid: Grid, valid: Box) -> Table:
    """What the method says of its pieces: flags, and the raster index of the anchor in the frame."""
    if pieces.anchors is None:
        return pieces.flags
    y, x = pieces.anchors.astype(np.int64).reshape(-1, 2).T
    return {**pieces.flags, "anchor": (y + valid.y0) * grid.shape[1] + x + valid.x0}


def _side(box: Box, core: Box) -> int:
    """Which band of `core` a box outside it lies in: 0 above, 1 below, 2 left, 3 right."""
    if box.y1 <= core.y0:
        return 0
    if box.y0 >= core.y1:
        return 1
    return 2 if box.x1 <= core.x0 else 3


def _ring_part(made: TileRecord, grid: Grid, link: int, box: Box) -> NDArray[np.int32]:
    """What the tile saw in a box of its ring that lies in one other core."""
    core, valid = grid.core(made.tile), grid.valid(made.tile, link)
    origins = (
        Box(valid.y0, valid.x0, 0, 0),
        Box(core.y1, valid.x0, 0, 0),
        Box(core.y0, valid.x0, 0, 0),
        Box(core.y0, core.x1, 0, 0),
    )
    side = _side(box, core)
    return made.ring[side][box.within(origins[side]).slices]


def _rim_part(made: TileRecord, grid: Grid, link: int, box: Box, seen_from: Box) -> NDArray[np.int32]:
    """What the owner of a box says of it; `seen_from` is the core beside which the box lies."""
    core = grid.core(made.tile)
    rows, columns = max(core.y0, core.y1 - link), max(core.x0, core.x1 - link)
    origins = (
        Box(core.y0, core.x0, 0, 0),
        Box(rows, core.x0, 0, 0),
        Box(core.y0, core.x0, 0, 0),
        Box(core.y0, columns, 0, 0),
    )
    side = _side(seen_from, core)
    return made.rim[side][box.within(origins[side]).slices]


def _ties(records: Sequence[TileRecord], offsets: NDArray[np.int64], grid: Grid, link: int) -> NDArray[np.int64]:
    """All pairs of pieces that a pixel of a ring ties together, as rows of `finals`: int64, (m, 2)."""
    pairs = [np.zeros((0, 2), np.int64)]
    for made in records:
        valid, core = grid.valid(made.tile, link), grid.core(made.tile)
        for owner in grid.touching(valid):
            if owner != made.tile:
                box = valid.clip(grid.core(owner))
                mine = _ring_part(made, grid, link, box).ravel()
                theirs = _rim_part(records[owner], grid, link, box, core).ravel()
                if ((mine > 0) != (theirs > 0)).any():
                    raise RunError(
                        f"Tiles {made.tile} and {owner} disagree on the foreground of {box}: "
                        "the method's decode_reach or link is too small for its decoding."
                    )
                keys = np.unique(mine[mine > 0].astype(np.int64) << 32 | theirs[mine > 0])
                ends = [(keys >> 32) - 1 + offsets[made.tile], (keys & 0xFFFFFFFF) - 1 + offsets[owner]]
                pairs.append(np.stack(ends, axis=1))
    return np.concatenate(pairs)


def _objects(nodes: Table, ties: NDArray[np.int64], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of each piece's object: by equal anchors, or else by the ties of the rings; (pieces,)."""
    if "anchor" not in nodes:
        return np.unique(merge(int(offsets[-1]), ties), return_inverse=True)[1]
    anchors = nodes["anchor"]
    wrong = np.flatnonzero(anchors[ties[:, 0]] != anchors[ties[:, 1]])
    if len(wrong):
        tiles = np.searchsorted(offsets, ties[wrong[0]], side="right") - 1
        raise RunError(
            f"Tiles {tiles[0]} and {tiles[1]} give a pixel to objects with the anchors {anchors[ties[wrong[0]]]} "
            "(raster indices): the method's decode_reach is too small for its decoding."
        )
    return np.unique(anchors, return_inverse=True)[1]


def _columns(tables: Sequence[Table]) -> dict[str, NDArray[np.int64]]:
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


def join(records: Sequence[TileRecord], grid: Grid, link: int, unite: Unite) -> Cells:
    """Unite the pieces of all tiles of a frame by their ties or their anchors, judge the objects and number the cells.

    Parameters
    ----------
    records : sequence of TileRecord
        One for each tile, in the order of the grid.
    grid : Grid
        The tiles.
    link : int
        Longest distance between two pixels that the decoding ties, px.
    unite : callable
        `Method.unite`.

    Returns
    -------
    Cells
        Labels are ranks from 1 in the raster order of the cells' first pixels.

    Raises
    ------
    RunError
        If two tiles disagree on the foreground or the anchor of a pixel, or a frame has more cells than uint32 holds.
    """
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum([made.count for made in records], dtype=np.int64)])
    pieces = _columns([made.nodes for made in records])
    objects_of = _objects(pieces, _ties(records, offsets, grid, link), offsets)
    nodes = reduced(pieces, objects_of, int(objects_of.max(initial=-1)) + 1)
    edges = [
        {**made.edges, **{end: objects_of[made.edges[end] - 1 + offsets[made.tile]] for end in ("a", "b")}}
        for made in records
    ]
    targets = unite(nodes, summed_pairs(_columns(edges)))
    return _numbered(nodes, targets, offsets, objects_of)


def _numbered(
    nodes: Table, targets: NDArray[np.int64], offsets: NDArray[np.int64], objects_of: NDArray[np.int64]
) -> Cells:
    kept = np.flatnonzero(targets >= 0)
    ids, groups = np.unique(targets[kept], return_inverse=True)
    if len(ids) > np.iinfo(np.uint32).max:
        raise RunError(f"A frame has {len(ids)} cells; uint32 labels end at {np.iinfo(np.uint32).max}.")
    cells = reduced({name: column[kept] for name, column in nodes.items()}, groups, len(ids))
    rank = ranks(cells["first"])
    labels = np.zeros(len(targets), np.uint32)
    labels[kept] = rank[groups]
    order = np.argsort(rank)
    return Cells(
        offsets=offsets, finals=labels[objects_of], objects={name: column[order] for name, column in cells.items()}
    )


def whole_frame(method: Decoder, prediction: Prediction) -> Labels:
    """Decode a frame at once: the labels that every tiling must give."""
    return tiled_frame(method, prediction, max(shape_of(prediction)))


def tiled_frame(method: Decoder, prediction: Prediction, size: int) -> Labels:
    """Decode a frame by tiles of `size` px and join them, in memory: uint32, (y, x)."""
    grid = Grid(shape=shape_of(prediction), size=size)
    cores, records = [], []
    for tile in range(len(grid)):
        read = grid.read(tile, method.link, method.decode_reach)
        pieces = method.decode(part_of(prediction, read), grid.valid(tile, method.link).within(read))
        owned, made = record(pieces, grid, tile, method.link)
        cores.append(owned)
        records.append(made)
    cells = join(records, grid, method.link, method.unite)
    labels = np.zeros(grid.shape, np.uint32)
    for tile, owned in enumerate(cores):
        labels[grid.core(tile).slices] = cells.table(tile)[owned]
    return labels

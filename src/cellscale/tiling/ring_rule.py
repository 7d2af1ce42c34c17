"""The ring rule: from the pieces of tiles to the cells of a frame, the same for any tiling.

A tile forms pieces of its valid box (core ⊕ link) from exact pixels and true links only. Every pixel of the ring
(valid box without core) ties the tile's piece to the owner's piece. Sound: equal numbers in a valid box mean a path of
true links. Complete: every link between two cores is seen in a ring. Decisions about whole objects are taken after
that, once. Pieces with anchors need no ring: equal anchors are one object; the ring is then a check.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from cellscale.errors import RunError
from cellscale.kernels.tables import tables_of
from cellscale.tiling.tiles import Grid
from cellscale.types import Box, Pieces, Table

Bands: TypeAlias = tuple[NDArray[np.int32], ...]
"""Top, bottom, left and right."""
UNKNOWN = -1
"""Stands in the ring and rim of a tile that could not be decoded; its neighbours are joined without it."""


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


def _bands(labels: NDArray[np.int32], core: Box) -> Bands:
    """The parts of a (y, x) array above, below, left and right of a box in it."""
    rows = slice(core.y0, core.y1)
    return _copies(labels[: core.y0], labels[core.y1 :], labels[rows, : core.x0], labels[rows, core.x1 :])


def _copies(*bands: NDArray[np.int32]) -> Bands:
    """Four bands without the arrays that they were cut from, since a task keeps those of many tiles."""
    above, below, left, right = (band.copy() for band in bands)
    return above, below, left, right


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
        rim=_copies(owned[:link], owned[-link:], owned[:, :link], owned[:, -link:]),
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


def ties(made: TileRecord, other: TileRecord, grid: Grid, link: int) -> NDArray[np.int64]:
    """Pairs of pieces that a pixel of the tile's ring in the other's core ties together: int64, (m, 2), from 0.

    Raises
    ------
    RunError
        If the tiles disagree on the foreground or the anchor of a pixel.
    """
    core = grid.core(made.tile)
    box = grid.valid(made.tile, link).clip(grid.core(other.tile))
    mine = _ring_part(made, grid, link, box).ravel()
    theirs = _rim_part(other, grid, link, box, core).ravel()
    known = (mine != UNKNOWN) & (theirs != UNKNOWN)
    mine, theirs = mine[known], theirs[known]
    keys = np.unique(mine[mine > 0].astype(np.int64) << 32 | theirs[mine > 0])
    tied = np.stack([(keys >> 32) - 1, (keys & 0xFFFFFFFF) - 1], axis=1)
    if ((mine > 0) != (theirs > 0)).any() or not _same_anchors(made, other, tied):
        raise RunError(
            f"Tiles {made.tile} and {other.tile} disagree on the foreground or the anchors of {box}: "
            "the method's decode_reach or link is too small for its decoding."
        )
    return tied


def _same_anchors(made: TileRecord, other: TileRecord, tied: NDArray[np.int64]) -> bool:
    if "anchor" not in made.nodes:
        return True
    return np.array_equal(made.nodes["anchor"][tied[:, 0]], other.nodes["anchor"][tied[:, 1]])

"""The ring rule: from the fragments of tiles to the objects of a frame, the same for any tiling.

Terms. Tiles partition a frame into cores. The valid box of a tile is its core grown by `link` px. Its ring, or overlap
band, is the valid box without the core; every ring pixel inside the frame lies in the core of another tile, its owner.
Decoding links foreground pixels at most `link` px apart, and the objects of a frame are the connected components of all
links. A tile reads `decode_reach` px around its valid box, so it finds there exactly the foreground pixels and the
links that decoding the whole frame would find. Its fragments are the components of the links with both ends in the
valid box.

The rule: for every pixel of a ring, merge the tile's fragment with the owner's fragment at that pixel (a tie).

It merges nothing that does not belong together. Two pixels of one fragment are connected by a path of links, and a tie
merges two fragments that share a pixel. So all pixels of a merged object are connected by links in the frame.

It misses nothing. Take a link between p and q. If both lie in one core, they are in one fragment of that tile.
Otherwise let p lie in the core of tile A and q in that of tile B. q is at most `link` px from p, so it is in the valid
box of A, with the whole link: A has p and q in one fragment, and q is a ring pixel of A. The tie at q merges that
fragment of A with the fragment of B that has q. By induction along a path of links, all pixels of an object are merged,
however many tiles it crosses.

The rule has no threshold and no limit on the size of an object, and nothing depends on where the cores end. Decisions
about whole objects (sizes, borders, markers) are made once, after the fragments are merged, from tables that add up
over tiles. It follows that the tile and the owner agree on the foreground of every ring pixel. This is checked, because
a method whose `decode_reach` or `link` is too small breaks it.

Fragments with anchors are merged by equal anchors instead; for them the ring is only a check.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from cellscale.errors import RunError
from cellscale.kernels.tables import tables_of
from cellscale.tiling.tiles import Grid
from cellscale.types import Box, Fragments, Table

Bands: TypeAlias = tuple[NDArray[np.int32], ...]
"""Arrays (y, x) of fragments above, below, left and right of a box."""
UNKNOWN = -1
"""Value of the overlap and border bands of a tile that could not be decoded; its neighbours are joined without it."""


@dataclass(frozen=True, kw_only=True)
class TileRecord:
    """Data that joining the tiles needs of a decoded tile."""

    tile: int
    """Number in the grid."""
    count: int
    """Number of fragments of the valid box."""
    overlap: Bands
    """Fragments of the valid box outside the core: top and bottom over its whole width, left and right in its rows."""
    border: Bands
    """Fragments of the core within `link` px of each side, each over the core's whole length."""
    nodes: Table
    """One row for each fragment: the columns of `fragment_table`, and further columns that add up."""
    edges: Table
    """One row for each pair of adjacent fragments; empty without a relief."""


def _bands(labels: NDArray[np.int32], core: Box) -> Bands:
    """The parts of a (y, x) array above, below, left and right of a box in it."""
    rows = slice(core.y0, core.y1)
    return _copies(labels[: core.y0], labels[core.y1 :], labels[rows, : core.x0], labels[rows, core.x1 :])


def _copies(*bands: NDArray[np.int32]) -> Bands:
    """Four bands without the arrays that they were cut from, since a task keeps those of many tiles."""
    above, below, left, right = (band.copy() for band in bands)
    return above, below, left, right


def record(fragments: Fragments, grid: Grid, tile: int, link: int) -> tuple[NDArray[np.int32], TileRecord]:
    """Divide the fragments of a valid box into the core's pixels, int32 (y, x), and the record of the tile.

    With a core of (h, w) px inside the frame, the overlap bands are (link, w + 2 link) above and below and (h, link)
    left and right, cut off at the frame; the border bands are (link, w) and (h, link).
    """
    core, valid = grid.core(tile), grid.valid(tile, link)
    inner = core.within(valid)
    owned = np.ascontiguousarray(fragments.labels[inner.slices])
    nodes, edges = tables_of(fragments, inner, origin=(core.y0, core.x0), width=grid.shape[1])
    made = TileRecord(
        tile=tile,
        count=len(nodes["area"]),
        overlap=_bands(fragments.labels, inner),
        border=_copies(owned[:link], owned[-link:], owned[:, :link], owned[:, -link:]),
        nodes={**nodes, **_own(fragments, grid, valid)},
        edges=edges,
    )
    return owned, made


def _own(fragments: Fragments, grid: Grid, valid: Box) -> Table:
    """Columns that the method adds for its fragments: flags, and the raster index of the anchor in the frame."""
    if fragments.anchors is None:
        return fragments.flags
    y, x = fragments.anchors.astype(np.int64).reshape(-1, 2).T
    return {**fragments.flags, "anchor": (y + valid.y0) * grid.shape[1] + x + valid.x0}


def _side(box: Box, core: Box) -> int:
    """Band of `core` in which a box outside it lies: 0 above, 1 below, 2 left, 3 right."""
    if box.y1 <= core.y0:
        return 0
    if box.y0 >= core.y1:
        return 1
    return 2 if box.x1 <= core.x0 else 3


def _overlap_part(made: TileRecord, grid: Grid, link: int, box: Box) -> NDArray[np.int32]:
    """Fragments (y, x) of the tile in a box of its ring that lies in one other core."""
    core, valid = grid.core(made.tile), grid.valid(made.tile, link)
    # First pixel of each band in the frame, in the order of `Bands`: above, below, left, right.
    origins = (
        Box(valid.y0, valid.x0, 0, 0),
        Box(core.y1, valid.x0, 0, 0),
        Box(core.y0, valid.x0, 0, 0),
        Box(core.y0, core.x1, 0, 0),
    )
    side = _side(box, core)
    return made.overlap[side][box.within(origins[side]).slices]


def _border_part(made: TileRecord, grid: Grid, link: int, box: Box, seen_from: Box) -> NDArray[np.int32]:
    """Fragments (y, x) of the owner in a box that lies in the ring of another tile, whose core is `seen_from`."""
    core = grid.core(made.tile)
    rows, columns = max(core.y0, core.y1 - link), max(core.x0, core.x1 - link)
    origins = (
        Box(core.y0, core.x0, 0, 0),
        Box(rows, core.x0, 0, 0),
        Box(core.y0, core.x0, 0, 0),
        Box(core.y0, columns, 0, 0),
    )
    side = _side(seen_from, core)
    return made.border[side][box.within(origins[side]).slices]


def ties(made: TileRecord, other: TileRecord, grid: Grid, link: int) -> NDArray[np.int64]:
    """Find the pairs of fragments that share a pixel of the tile's ring in the other's core: int64, (m, 2), from 0.

    Raises
    ------
    RunError
        If the tiles disagree on the foreground or the anchor of a pixel.
    """
    core = grid.core(made.tile)
    box = grid.valid(made.tile, link).clip(grid.core(other.tile))
    mine = _overlap_part(made, grid, link, box).ravel()
    theirs = _border_part(other, grid, link, box, core).ravel()
    known = (mine != UNKNOWN) & (theirs != UNKNOWN)
    mine, theirs = mine[known], theirs[known]
    # Both numbers are positive int32: a pair packs into one int64, and equal pairs are found by one sort.
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

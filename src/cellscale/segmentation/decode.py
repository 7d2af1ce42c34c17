"""Decode: compute the fragments of each tile from stored maps.

A tile reads its core ⊕ (decode_reach + link), writes its core's fragment numbers as one scratch object and leaves a
record of its overlap band, its border bands and its tables. Where a frame is one window, prediction and decoding are
one task with the same rounding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from cellscale.errors import RunError
from cellscale.kernels.exact_sums import exact_sums
from cellscale.kernels.tables import concatenated
from cellscale.methods.protocol import Networks
from cellscale.segmentation.object_table import intensity_prefix
from cellscale.segmentation.plan import Records, Run
from cellscale.segmentation.predict import limits, maps_name, predictions_of, reached_in
from cellscale.segmentation.prefetch import prefetch
from cellscale.segmentation.records import FAILED_REGION, Arrays, get, put, table_columns, table_in
from cellscale.segmentation.source import read_checked, reference_of
from cellscale.segmentation.work_items import WorkItem
from cellscale.tiling.candidates import from_arrays, gathered
from cellscale.tiling.ring_rule import TileRecord, record
from cellscale.tiling.tiles import Grid
from cellscale.types import Box, Image, Prediction, part_of

NODES, EDGES = "nodes", "edges"
"""Tables of a record: fragments, and pairs of adjacent fragments."""


def fragments_name(plane: int, tile: int) -> str:
    """Name of the scratch object of a core's fragment numbers."""
    return f"fragments/{plane:06d}/{tile:06d}"


def _assembled(run: Run, plane: int, box: Box, stored: Callable[[int, int], Arrays]) -> Prediction:
    """Assemble the prediction of a box from those of its windows."""
    if not run.method.maps:
        near = run.windows.touching(box.grow(run.windows.halo))
        parts = [from_arrays(stored(plane, window), run.grid.shape) for window in near]
        return gathered([part.within(box) for part in parts], box.shape)
    maps = {name: np.zeros(box.shape, np.uint8) for name in run.method.maps}
    for window in run.windows.touching(box):
        core = run.windows.core_box(window)
        part = core.clip(box)
        for name, values in stored(plane, window).items():
            maps[name][part.within(box).slices] = values[part.within(core).slices]
    return maps


def decoded(run: Run, plane: int, tile: int, prediction: Prediction, box: Box, image: Image) -> TileRecord:
    """Decode one tile from the prediction of a box around it; write its fragments, unflushed, and return its record.

    `image` is all channels of the tile's core, (c, y, x).
    """
    link = run.method.reaches.link
    fragments = run.method.decode(prediction, run.grid.valid(tile, link).within(box))
    owned, made = record(fragments, run.grid, tile, link)
    sums = {
        f"{intensity_prefix(c)}{name}": column
        for c, values in enumerate(image)
        for name, column in exact_sums(owned, made.count, values).items()
    }
    put(run.scratch, fragments_name(plane, tile), {"fragments": owned}, flush=False)
    return TileRecord(
        tile=tile,
        count=made.count,
        overlap=made.overlap,
        border=made.border,
        nodes={**made.nodes, **sums},
        edges=made.edges,
    )


def _fused(run: Run, networks: Networks, items: Sequence[WorkItem]) -> Arrays:
    made, reached, records = [], Counter[str](), Records(run.scratch)
    for (plane, _), found in predictions_of(run, networks, [(plane, 0) for (plane,) in items]):
        reached += reached_in(found)
        reference = reference_of(run, plane, records)
        for tile in range(len(run.grid)):
            box = run.grid.read(tile, run.method.reaches.link, run.method.reaches.decode_reach)
            image = read_checked(run, plane, run.grid.core(tile), reference)
            made.append((plane, decoded(run, plane, tile, part_of(found, box), box, image)))
    return _recorded(run, made) | limits(reached)


def _from_scratch(run: Run, items: Sequence[WorkItem]) -> Arrays:
    @lru_cache(maxsize=9)
    def stored(plane: int, window: int) -> Arrays:
        found = get(run.scratch, maps_name(plane, window))
        if FAILED_REGION in found:
            raise RunError(f"Window {window}, which this tile reads, could not be predicted: {found[FAILED_REGION]}")
        return found

    boxes = {tile: run.grid.read(tile, run.method.reaches.link, run.method.reaches.decode_reach) for _, tile in items}
    parts = prefetch(_assembled(run, plane, boxes[tile], stored) for plane, tile in items)
    made, records = [], Records(run.scratch)
    for (plane, tile), part in zip(items, parts, strict=True):
        image = read_checked(run, plane, run.grid.core(tile), reference_of(run, plane, records))
        made.append((plane, decoded(run, plane, tile, part, boxes[tile], image)))
    return _recorded(run, made)


def _recorded(run: Run, made: Sequence[tuple[int, TileRecord]]) -> Arrays:
    """Columns of the record of tiles whose fragments are on the disk."""
    run.scratch.flush(fragments_name(plane, tile.tile) for plane, tile in made)
    return packed(made)


def decode(run: Run, networks: Networks, items: Sequence[WorkItem]) -> Arrays:
    """Decode tiles (plane, tile), or predict and decode whole planes; return the records as flat arrays."""
    return _fused(run, networks, items) if run.fused else _from_scratch(run, items)


def packed(made: Sequence[tuple[int, TileRecord]]) -> Arrays:
    """Records as flat arrays; the shapes of the bands follow from the grid."""
    tiles = [tile for _, tile in made]
    bands = [band.ravel() for tile in tiles for band in (*tile.overlap, *tile.border)]
    arrays: Arrays = {
        "tiles": np.array([(plane, tile.tile, tile.count, len(tile.edges["a"])) for plane, tile in made], np.int64),
        "bands": np.concatenate(bands),
    }
    arrays |= table_columns(NODES, concatenated([tile.nodes for tile in tiles]))
    return arrays | table_columns(EDGES, concatenated([tile.edges for tile in tiles]))


def _band_shapes(grid: Grid, tile: int, link: int) -> list[tuple[int, int]]:
    core, valid = grid.core(tile), grid.valid(tile, link)
    height, width = core.shape
    rows, columns = min(link, height), min(link, width)
    return [
        (core.y0 - valid.y0, valid.shape[1]),
        (valid.y1 - core.y1, valid.shape[1]),
        (height, core.x0 - valid.x0),
        (height, valid.x1 - core.x1),
        (rows, width),
        (rows, width),
        (height, columns),
        (height, columns),
    ]


def unpacked(arrays: Arrays, grid: Grid, link: int) -> list[tuple[int, TileRecord]]:
    """Records (plane, tile record) from flat arrays."""
    made, band, node, edge = [], 0, 0, 0
    all_nodes, all_edges = table_in(arrays, NODES), table_in(arrays, EDGES)
    for plane, tile, count, edges in arrays["tiles"].tolist():
        bands = []
        for shape in _band_shapes(grid, tile, link):
            size = shape[0] * shape[1]
            bands.append(arrays["bands"][band : band + size].reshape(shape))
            band += size
        record = TileRecord(
            tile=tile,
            count=count,
            overlap=tuple(bands[:4]),
            border=tuple(bands[4:]),
            nodes={name: column[node : node + count] for name, column in all_nodes.items()},
            edges={name: column[edge : edge + edges] for name, column in all_edges.items()},
        )
        node, edge = node + count, edge + edges
        made.append((plane, record))
    return made

"""Decode: compute the fragments of each tile from stored maps.

A tile reads its core ⊕ (decode_reach + link). A task writes the fragment numbers of its tiles' cores as one scratch
object and leaves a record of their overlap bands, border bands and tables. Where a frame is one window, prediction and
decoding are one task with the same rounding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from cellscale.errors import RunError
from cellscale.kernels.exact_sums import exact_sums
from cellscale.kernels.tables import concatenated
from cellscale.methods.protocol import Networks
from cellscale.segmentation.object_table import intensity_prefix
from cellscale.segmentation.plan import Run
from cellscale.segmentation.predict import MAPS, limits, predicted_frames, reached_in
from cellscale.segmentation.prefetch import prefetch
from cellscale.segmentation.records import (
    FAILED_REGION,
    Arrays,
    Made,
    Records,
    compressed,
    items_name,
    table_columns,
    table_in,
)
from cellscale.segmentation.source import read_each, references_of
from cellscale.segmentation.work_items import WorkItem
from cellscale.storage.together import behind
from cellscale.tiling.candidates import from_arrays, gathered
from cellscale.tiling.ring_rule import TileRecord, record
from cellscale.tiling.tiles import Grid
from cellscale.types import Box, Image, Prediction, part_of

NODES, EDGES = "nodes", "edges"
"""Tables of a record: fragments, and pairs of adjacent fragments."""


FRAGMENTS = "fragments"
"""Kind of the scratch objects that hold the fragment numbers of cores."""


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


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """A tile that was decoded."""

    plane: int
    record: TileRecord
    fragments: NDArray[np.uint8]
    """The fragment numbers of its core, compressed."""


def decoded(run: Run, plane: int, tile: int, prediction: Prediction, box: Box, image: Image) -> Decoded:
    """Decode one tile from the prediction of a box around it.

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
    found = replace(made, nodes={**made.nodes, **sums})
    return Decoded(plane=plane, record=found, fragments=compressed({"fragments": owned}))


def _fused(run: Run, networks: Networks, items: Sequence[WorkItem]) -> Made:
    made, reached = [], Counter[str]()
    for plane, found, pixels in predicted_frames(run, networks, [plane for (plane,) in items]):
        reached += reached_in(found)
        for tile in range(len(run.grid)):
            box = run.grid.read(tile, run.method.reaches.link, run.method.reaches.decode_reach)
            image = pixels[(slice(None), *run.grid.core(tile).slices)]
            made.append(decoded(run, plane, tile, part_of(found, box), box, image))
    return made_of(items, made) | limits(reached)


def _from_scratch(run: Run, items: Sequence[WorkItem]) -> Made:
    records = Records(run.scratch)

    @lru_cache(maxsize=9)
    def maps_of(plane: int, window: int) -> Arrays:
        found = records.stored(run.predict, MAPS, plane, window)
        if FAILED_REGION in found:
            raise RunError(f"Window {window}, which this tile reads, could not be predicted: {found[FAILED_REGION]}")
        return found

    boxes = {tile: run.grid.read(tile, run.method.reaches.link, run.method.reaches.decode_reach) for _, tile in items}
    cores = [(plane, run.grid.core(tile)) for plane, tile in items]
    parts, made = (_assembled(run, plane, boxes[tile], maps_of) for plane, tile in items), []
    with behind() as later:
        references = later(partial(references_of, run, sorted({plane for plane, _ in items}), records))
        with read_each(run, cores, references) as images:
            # The maps are read while the pixels are on their way.
            for (plane, tile), (part, image) in zip(items, prefetch(zip(parts, images, strict=True)), strict=True):
                made.append(decoded(run, plane, tile, part, boxes[tile], image))
    return made_of(items, made)


def made_of(items: Sequence[WorkItem], tiles: Sequence[Decoded]) -> Made:
    """The record of a task's tiles, and one scratch object of their fragments."""
    fragments: Arrays = {f"{tile.plane}/{tile.record.tile}": tile.fragments for tile in tiles}
    columns = packed([(tile.plane, tile.record) for tile in tiles])
    return Made(columns=columns, objects={items_name(FRAGMENTS, items): fragments})


def decode(run: Run, networks: Networks, items: Sequence[WorkItem]) -> Made:
    """Decode tiles (plane, tile), or predict and decode whole planes."""
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

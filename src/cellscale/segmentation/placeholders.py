"""Placeholders for failed work items, used with `allow_failed_tiles`.

A placeholder has a record like any other work item, with the reason in it, so that a resumed run keeps it: a frame that
is measured without its unreadable blocks, a window without maps, a tile without fragments whose overlap and border
bands are unknown.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from cellscale.errors import StoreError
from cellscale.methods.protocol import Method
from cellscale.segmentation.decode import Decoded, made_of
from cellscale.segmentation.intensity_statistics import measure_boxes, read_all, row_boxes
from cellscale.segmentation.plan import Run
from cellscale.segmentation.predict import MAPS
from cellscale.segmentation.records import FAILED_REGION, Arrays, Made, compressed, items_name
from cellscale.segmentation.source import chunk_grid
from cellscale.segmentation.work_items import WorkItem
from cellscale.tiling.ring_rule import UNKNOWN, TileRecord, record
from cellscale.tiling.tiles import Grid
from cellscale.types import Box, Candidates, Prediction

R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class Failed(Generic[R]):
    """Work items that failed again when tried alone, with their reasons."""

    run: R
    reasons: Mapping[WorkItem, str]


def _reasons(failed: Failed[Run], items: Sequence[WorkItem]) -> Arrays:
    return {FAILED_REGION: np.array([failed.reasons[item] for item in items])}


def measure_readable(failed: Failed[Run], items: Sequence[WorkItem]) -> Arrays:
    """Measure planes by their readable blocks; the others are listed in `skipped` (plane, y0, x0, y1, x1)."""
    run, grid = failed.run, chunk_grid(failed.run)
    boxes, skipped = {}, []
    for (plane,) in items:
        found = [_readable(run, plane, box, grid.chunk) for box in row_boxes(run, grid)]
        boxes[plane] = [box for good, _ in found for box in good]
        skipped += [(plane, box.y0, box.x0, box.y1, box.x1) for _, bad in found for box in bad]
    arrays = measure_boxes(run, boxes, grid) | _reasons(failed, items)
    return arrays | {"skipped": np.array(skipped, np.int64).reshape(-1, 5)}


def _readable(run: Run, plane: int, box: Box, chunk: tuple[int, int]) -> tuple[list[Box], list[Box]]:
    """Parts of a box that can be read, and chunks that cannot."""
    try:
        read_all(run, plane, box, set())
    except StoreError:
        halves = _halves(box, chunk)
        if not halves:
            return [], [box]
        found = [_readable(run, plane, half, chunk) for half in halves]
        return [b for good, _ in found for b in good], [b for _, bad in found for b in bad]
    return [box], []


def _halves(box: Box, chunk: tuple[int, int]) -> list[Box]:
    """Cut a box between two rows of chunks, else between two columns; [] for a part of one chunk."""
    rows, columns = (_cut(*ends, side) for ends, side in zip(((box.y0, box.y1), (box.x0, box.x1)), chunk, strict=True))
    if rows:
        return [Box(box.y0, box.x0, rows, box.x1), Box(rows, box.x0, box.y1, box.x1)]
    return [Box(box.y0, box.x0, box.y1, columns), Box(box.y0, columns, box.y1, box.x1)] if columns else []


def _cut(low: int, high: int, side: int) -> int:
    """A multiple of `side` between two ends, near their middle; 0 where there is none."""
    below = (low + high) // 2 // side * side
    return next((cut for cut in (below, below + side) if low < cut < high), 0)


def no_maps(failed: Failed[Run], items: Sequence[WorkItem]) -> Made:
    """Record windows without maps: every tile that reads them fails."""
    reasons = {f"{plane}/{window}": np.array(failed.reasons[plane, window]) for plane, window in items}
    maps: Arrays = {name: compressed({FAILED_REGION: reason}) for name, reason in reasons.items()}
    return Made(columns=_reasons(failed, items), objects={items_name(MAPS, items): maps})


def no_fragments(failed: Failed[Run], items: Sequence[WorkItem]) -> Made:
    """Record tiles of background, or whole planes of them; their neighbours are joined without them."""
    run = failed.run
    tiles = [(item[0], tile) for item in items for tile in (item[1:] or range(len(run.grid)))]
    return made_of(items, [_blank(run, plane, tile) for plane, tile in tiles]) | _reasons(failed, items)


def _blank(run: Run, plane: int, tile: int) -> Decoded:
    owned, made = blank(run.method, run.grid, tile)
    return Decoded(plane=plane, record=made, fragments=compressed({"fragments": owned}))


def blank(method: Method, grid: Grid, tile: int) -> tuple[NDArray[np.int32], TileRecord]:
    """Pixels and record of a tile that could not be decoded: no fragments, overlap and border bands unknown.

    Its tables have the columns of other tiles, which come from decoding an empty prediction.
    """
    reaches = method.reaches
    valid, seen = grid.valid(tile, reaches.link), grid.read(tile, reaches.link, reaches.decode_reach)
    like = method.decode(_empty(method, seen.shape), valid.within(seen))
    nothing = dataclasses.replace(
        like,
        labels=np.zeros_like(like.labels),
        anchors=None if like.anchors is None else like.anchors[:0],
        flags={name: column[:0] for name, column in like.flags.items()},
    )
    owned, made = record(nothing, grid, tile, reaches.link)
    overlap, border = (tuple(np.full_like(band, UNKNOWN) for band in bands) for bands in (made.overlap, made.border))
    return owned, dataclasses.replace(made, overlap=overlap, border=border)


def _empty(method: Method, shape: tuple[int, int]) -> Prediction:
    if method.maps:
        return {name: np.zeros(shape, np.uint8) for name in method.maps}
    none = np.zeros((0, 4), np.int32)
    masks = np.zeros((0, 1, 1), np.uint8)
    return Candidates(shape=shape, boxes=none, anchors=none[:, :2], scores=np.zeros(0, np.uint16), masks=masks)

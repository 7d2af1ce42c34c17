"""Placeholders for failed work items, used with `allow_failed_tiles`.

A placeholder has a record like any other work item, with the reason in it, so that a resumed run keeps it: a frame that
is measured without its unreadable blocks, a window without maps, a tile without fragments whose overlap and border
bands are unknown.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from cellscale.errors import StoreError
from cellscale.methods.protocol import Method
from cellscale.segmentation.decode import fragments_name, packed
from cellscale.segmentation.intensity_statistics import measure_boxes, read_all, row_boxes
from cellscale.segmentation.plan import Run, Step, Unit
from cellscale.segmentation.predict import maps_name
from cellscale.segmentation.records import Arrays, get, put
from cellscale.segmentation.source import chunk_grid
from cellscale.tiling.ring_rule import UNKNOWN, TileRecord, record
from cellscale.tiling.tiles import Grid
from cellscale.types import Box, Candidates, Prediction

R = TypeVar("R")
FIRST = 10
"""Greatest number of failed work items named in a message."""
LONGEST = 1000
"""Characters of one of them."""


@dataclass(frozen=True, kw_only=True)
class Failed(Generic[R]):
    """Work items that failed again when tried alone, with their reasons."""

    run: R
    reasons: Mapping[Unit, str]


def _reasons(failed: Failed[Run], units: Sequence[Unit]) -> Arrays:
    return {"hole": np.array([failed.reasons[unit] for unit in units])}


def measure_readable(failed: Failed[Run], units: Sequence[Unit]) -> Arrays:
    """Measure planes by their readable blocks; the others are listed in `skipped` (plane, y0, x0, y1, x1)."""
    run, grid = failed.run, chunk_grid(failed.run)
    boxes, skipped = {}, []
    for (plane,) in units:
        found = [_readable(run, plane, box, grid.chunk) for box in row_boxes(run, grid)]
        boxes[plane] = [box for good, _ in found for box in good]
        skipped += [(plane, box.y0, box.x0, box.y1, box.x1) for _, bad in found for box in bad]
    arrays = measure_boxes(run, boxes, grid) | _reasons(failed, units)
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


def no_maps(failed: Failed[Run], units: Sequence[Unit]) -> Arrays:
    """Record windows without maps: every tile that reads them fails."""
    for plane, window in units:
        put(failed.run.scratch, maps_name(plane, window), {"hole": np.array(failed.reasons[plane, window])})
    return _reasons(failed, units)


def no_fragments(failed: Failed[Run], units: Sequence[Unit]) -> Arrays:
    """Record tiles of background, or whole planes of them; their neighbours are joined without them."""
    run = failed.run
    tiles = [(unit[0], tile) for unit in units for tile in (unit[1:] or range(len(run.grid)))]
    return packed([(plane, _blank(run, plane, tile)) for plane, tile in tiles]) | _reasons(failed, units)


def _blank(run: Run, plane: int, tile: int) -> TileRecord:
    owned, made = blank(run.method, run.grid, tile)
    put(run.scratch, fragments_name(plane, tile), {"fragments": owned})
    return made


def blank(method: Method, grid: Grid, tile: int) -> tuple[NDArray[np.int32], TileRecord]:
    """Pixels and record of a tile that could not be decoded: no fragments, overlap and border bands unknown.

    Its tables have the columns of other tiles, which come from decoding an empty prediction.
    """
    valid, seen = grid.valid(tile, method.link), grid.read(tile, method.link, method.decode_reach)
    like = method.decode(_empty(method, seen.shape), valid.within(seen))
    nothing = dataclasses.replace(
        like,
        labels=np.zeros_like(like.labels),
        anchors=None if like.anchors is None else like.anchors[:0],
        flags={name: column[:0] for name, column in like.flags.items()},
    )
    owned, made = record(nothing, grid, tile, method.link)
    overlap, border = (tuple(np.full_like(band, UNKNOWN) for band in bands) for bands in (made.overlap, made.border))
    return owned, dataclasses.replace(made, overlap=overlap, border=border)


def _empty(method: Method, shape: tuple[int, int]) -> Prediction:
    if method.maps:
        return {name: np.zeros(shape, np.uint8) for name in method.maps}
    none = np.zeros((0, 4), np.int32)
    masks = np.zeros((0, 1, 1), np.uint8)
    return Candidates(shape=shape, boxes=none, anchors=none[:, :2], scores=np.zeros(0, np.uint16), masks=masks)


def reason_of(error: Exception) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def described(step: Step, unit: Unit, where: Mapping[str, Any], reason: str) -> dict[str, Any]:
    """A failed work item: kind, place and reason."""
    what = {"step": step.name, "kind": step.kind, "number": unit[1] if len(unit) > 1 else None}
    return {**what, **where, "reason": reason}


def place_of(run: Run, step: Step, unit: Unit) -> dict[str, Any]:
    """Frame, slice and box of a unit, in px and µm."""
    plane, *rest = unit
    return place(run, plane, _box(run, step, rest))


def named(unit: Mapping[str, Any]) -> str:
    """A failed work item as text."""
    where = f"frame {unit['frame']}, slice {unit['slice']}"
    if unit["number"] is not None:
        where += f", {unit['kind']} {unit['number']}"
        if unit["box_px"]:
            y0, x0, y1, x1 = unit["box_px"]
            where += f" (rows {y0}:{y1}, columns {x0}:{x1})"
    return f"{where}: {unit['reason']}"


def first_of(entries: Iterable[str], between: str, full_report: str) -> str:
    """The first ten entries of a list in one line; if there are more, how many, and where all of them are."""
    found = list(entries)
    line = between.join(entry if len(entry) <= LONGEST else f"{entry[:LONGEST]}…" for entry in found[:FIRST])
    more = len(found) - FIRST
    return f"{line} … and {more} more; {full_report}" if more > 0 else line


def unreadable(
    run: Run, skipped: Sequence[tuple[int, Box]], failed: Sequence[Mapping[str, Any]], full_report: str
) -> str:
    """Error message for unreadable frames: each block, its tiles and the reasons."""
    lines = []
    for plane, box in skipped:
        t, z = run.planes[plane]
        tiles = first_of(map(str, run.grid.touching(box)), ", ", "tiles of this block")
        lines.append(f"frame {t}, slice {z}, tile {tiles} (rows {box.y0}:{box.y1}, columns {box.x0}:{box.x1})")
    blocks = first_of(lines, "; ", full_report)
    reasons = first_of(dict.fromkeys(unit["reason"] for unit in failed), " | ", full_report)
    return (
        f"intensity: {len(skipped)} block(s) cannot be read, nothing was published: {blocks}. {reasons} "
        "Or publish without them: --allow-failed-tiles."
    )


def _box(run: Run, step: Step, rest: Sequence[int]) -> Box | None:
    if not rest:
        return Box.of(run.grid.shape)
    boxes = {"predict": run.windows.core_box, "decode": run.grid.core}
    return boxes[step.name](rest[0]) if step.name in boxes else None


def place(run: Run, plane: int, box: Box | None) -> dict[str, Any]:
    """Frame, slice and half-open box (y0, x0, y1, x1) in px and µm, None where it is unknown."""
    t, z = run.planes[plane]
    sides = None if box is None else [box.y0, box.x0, box.y1, box.x1]
    size = run.image.pixel_size_um()
    um = None if sides is None or size is None else [side * of for side, of in zip(sides, size * 2, strict=True)]
    return {"frame": t, "slice": z, "box_px": sides, "box_um": um}


def skipped_blocks(run: Run, records: Sequence[str]) -> list[tuple[int, Box]]:
    """Planes and blocks that could not be read, from the records of the intensity statistics."""
    return [(plane, Box(*sides)) for _, found in _records(run, records) for plane, *sides in found["skipped"].tolist()]


def recorded(run: Run, step: Step, records: Sequence[str]) -> list[dict[str, Any]]:
    """Units of a step that were recorded as holes, in order, from its records."""
    return [
        described(step, unit, place_of(run, step, unit), str(found["hole"][0]))
        for unit, found in _records(run, records)
    ]


def _records(run: Run, records: Sequence[str]) -> list[tuple[Unit, Arrays]]:
    """Records, among those of a step, of the units that were tried alone and failed."""
    found = [get(run.scratch, name) for name in sorted(records) if "-" in name]
    return [(tuple(one["units"][0].tolist()), one) for one in found if "hole" in one]

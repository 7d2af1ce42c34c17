"""Intensity statistics: whole frames are read once, before anything else.

The mapping that follows from a frame's histogram is the same for every window. The same read computes the checksums
with which every later read of the frame is compared, and counts the chunks that are missing.
"""

from __future__ import annotations

import itertools
import math
from collections import abc
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TypeAlias

import numpy as np

from cellscale.methods.intensity import BINS, Mapping, Scale, scale_of_type, scales_of
from cellscale.ngff.source_identity import UNKNOWN, ChunkGrid
from cellscale.segmentation.plan import Run
from cellscale.segmentation.records import Arrays, Records, row_of_plane
from cellscale.segmentation.source import SHARED_BYTES, Reference, chunk_grid, read_checked
from cellscale.segmentation.work_items import WorkItem
from cellscale.storage.together import ahead
from cellscale.types import Box, Image

Parts: TypeAlias = abc.Mapping[int, Sequence[Box]]
"""Boxes by the number of their plane."""
ROWS_PX = 2**24
"""Pixels of all channels read at once."""


def row_boxes(run: Run, grid: ChunkGrid) -> Iterator[Box]:
    """Boxes that cover a frame, each small enough to be read at once: whole rows of shards or chunks, or parts of one.

    A shard that is wanted whole is read by one request.
    """
    (height, width), channels = run.grid.shape, run.image.size("c")
    sides = run.image.object_shape()
    if math.prod(sides) * channels > 4 * ROWS_PX:
        sides = grid.chunk
    wide = width if sides[0] * width * channels <= ROWS_PX else _multiple(ROWS_PX // (sides[0] * channels), sides[1])
    rows = _multiple(ROWS_PX // (min(wide, width) * channels), sides[0])
    for y, x in itertools.product(range(0, height, rows), range(0, width, wide)):
        yield Box(y, x, min(y + rows, height), min(x + wide, width))


def _multiple(most: int, side: int) -> int:
    """The largest multiple of a side up to `most`, and at least one."""
    return max(1, most // side) * side


def is_read_twice(run: Run, px: int) -> bool:
    """Whether the model's channels of a plane are read again for their histograms, once their range is known.

    `px` pixels of the plane are read in all; few are kept instead.
    """
    return scale_of_type(run.image.dtype) is None and px * len(run.channels) > ROWS_PX


def read_all(run: Run, plane: int, box: Box, absent: set[str]) -> Image:
    """All channels of a box, (c, y, x); `absent` gets the keys of missing chunks."""
    t, z = run.planes[plane]
    return run.image.read(box, t=t, z=z, absent=absent)


def measure_planes(run: Run, items: Sequence[WorkItem]) -> Arrays:
    """Statistics of whole planes."""
    boxes = list(row_boxes(run, grid := chunk_grid(run)))
    return measure_boxes(run, {plane: boxes for (plane,) in items}, grid)


def missing_chunks(record: Arrays) -> int:
    """Number of missing chunks in a task's record."""
    return int(record["missing"].sum())


def measure_boxes(run: Run, boxes: Parts, grid: ChunkGrid) -> Arrays:
    """Compute mappings and checksums of planes, each from the pixels of its boxes of whole chunks.

    low, high, start, width (n, c of the model) and, where the rule needs them, tables (n, c of the model, 65536);
    missing (n,); chunk (2,) and checksums (n, c of the image, rows, columns).
    """
    counts = (len(boxes), run.image.size("c"), *grid.counts)
    checksums = np.full(counts, UNKNOWN, np.int64)
    absent: list[set[str]] = [set() for _ in boxes]
    pixel = run.image.size("c") * run.image.dtype.itemsize
    reads = (
        (box.area * pixel, partial(read_all, run, plane, box, missing))
        for (plane, parts), missing in zip(boxes.items(), absent, strict=True)
        for box in parts
    )
    with ahead(reads, SHARED_BYTES) as pixels:
        mappings = [
            _mappings(run, plane, parts, Reference(grid=grid, checksums=found), pixels)
            for (plane, parts), found in zip(boxes.items(), checksums, strict=True)
        ]
    columns = {
        "low": [[m.low for m in of] for of in mappings],
        "high": [[m.high for m in of] for of in mappings],
        "start": [[m.scale.start for m in of] for of in mappings],
        "width": [[m.scale.width for m in of] for of in mappings],
    }
    arrays: Arrays = {name: np.array(values, np.float64) for name, values in columns.items()}
    if any(m.table is not None for of in mappings for m in of):
        arrays["tables"] = np.array([[m.table for m in of] for of in mappings], np.float32)
    arrays["missing"] = np.array([len(keys) for keys in absent], np.int64)
    return arrays | {"chunk": np.array(grid.chunk, np.int64), "checksums": checksums}


def _mappings(
    run: Run, plane: int, boxes: Sequence[Box], reference: Reference, reads: Iterator[Image]
) -> list[Mapping]:
    """Mappings of the model's channels, from the reads of the boxes; fills the checksums of the reference."""
    if not boxes:
        return [Mapping(low=0.0, high=1.0)] * len(run.channels)
    first = _first_read(run, boxes, reference, reads)
    scale = scale_of_type(run.image.dtype)
    if scale is not None:
        # One read is enough.
        scales, again = [scale] * len(run.channels), first
    else:
        t, z = run.planes[plane]
        where = f"frame {t}, slice {z} of {run.image.url}"
        if is_read_twice(run, sum(box.area for box in boxes)):
            scales = scales_of(run.image.dtype, first, where)
            read = partial(read_checked, run, plane, channels=run.channels)
            again = ((box, read(box, reference.grid, lambda: reference)) for box in boxes)
        else:
            kept = list(first)
            scales, again = scales_of(run.image.dtype, iter(kept), where), iter(kept)
    totals = np.zeros((len(scales), BINS), np.int64)
    for _, pixels in again:
        for c, channel in enumerate(pixels):
            totals[c] += scales[c].histogram(channel)
    return [run.method.intensity.fit(total, scale) for total, scale in zip(totals, scales, strict=True)]


def _first_read(
    run: Run, boxes: Sequence[Box], reference: Reference, reads: Iterator[Image]
) -> Iterator[tuple[Box, Image]]:
    """Yield boxes with the model's channels, and fill the checksums of all channels."""
    # The boxes come first: the next read is another plane's.
    for box, found in zip(boxes, reads, strict=False):
        reference.checksums[(slice(None), *reference.grid.part(box))] = reference.grid.checksums(found, box)
        yield box, found[list(run.channels)]


def mappings_of(run: Run, plane: int, records: Records) -> list[Mapping]:
    """Read back the mapping of each channel of a plane."""
    record = records.of(run.intensity_statistics, (plane,))
    row = row_of_plane(record, plane)
    return [
        Mapping(
            low=float(record["low"][row, c]),
            high=float(record["high"][row, c]),
            scale=Scale(start=float(record["start"][row, c]), width=float(record["width"][row, c])),
            table=record["tables"][row, c] if "tables" in record else None,
        )
        for c in range(len(run.channels))
    ]

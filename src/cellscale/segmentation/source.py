"""Source pixels of a run: read by whole chunks and compared with the checksums of the first read.

The intensity statistics read every plane first and keep the checksum of each chunk. Every later read is compared with
them, so that a run whose image changes ends with an error instead of mixing two images, also after it was resumed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial, reduce
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from cellscale.errors import ChangedError, StoreError
from cellscale.ngff.source_identity import UNKNOWN, ChunkGrid
from cellscale.segmentation.plan import Run
from cellscale.segmentation.records import Records, row_of_plane
from cellscale.storage.together import ahead
from cellscale.types import Box, Image

ATTEMPTS = 3
"""Attempts to read pixels whose checksums differ: a second read corrects bytes that flipped in transfer."""
PAUSE_S = 0.2
"""Pause before the next attempt, s."""
SHARED_BYTES = 2**27
"""Most bytes of pixels that are read at once for several windows or tiles, or before they are wanted."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Checksums of a plane's chunks from its intensity statistics."""

    grid: ChunkGrid
    checksums: NDArray[np.int64]
    """(c, rows, columns), of all channels of the image; −1: not read."""


def chunk_grid(run: Run) -> ChunkGrid:
    """The chunks of the run's planes; opens the image's array."""
    return ChunkGrid(shape=run.grid.shape, chunk=run.image.chunk_shape())


def reference_of(run: Run, plane: int, records: Records) -> Reference:
    """Read back the checksums of a plane."""
    record = records.of(run.intensity_statistics, (plane,))
    row = row_of_plane(record, plane)
    height, width = record["chunk"].tolist()
    return Reference(grid=ChunkGrid(shape=run.grid.shape, chunk=(height, width)), checksums=record["checksums"][row])


def references_of(run: Run, planes: Sequence[int], records: Records) -> dict[int, Reference]:
    """Read back the checksums of planes, by their numbers."""
    return {plane: reference_of(run, plane, records) for plane in planes}


def read_checked(
    run: Run,
    plane: int,
    box: Box,
    grid: ChunkGrid,
    reference: Callable[[], Reference],
    *,
    channels: Sequence[int] | None = None,
) -> Image:
    """Read a box of a plane, (c, y, x), and compare its chunks with the first read.

    Parameters
    ----------
    run : Run
        The run.
    plane : int
        Number of the plane.
    box : Box
        In the frame, px.
    grid : ChunkGrid
        Chunks of the plane.
    reference : callable
        Returns the reference of the plane; called after the pixels are read.
    channels : sequence of int, optional
        Numbers of channels; None: all.

    Raises
    ------
    ChangedError
        If a chunk has other pixels than at the first read, however often it is read.
    StoreError
        If a chunk cannot be read.
    """
    t, z = run.planes[plane]
    chosen = list(range(run.image.size("c")) if channels is None else channels)
    whole = grid.whole(box)
    for attempt in range(ATTEMPTS):
        time.sleep(PAUSE_S * attempt)
        absent: set[str] = set()
        # The documents of its arrays travel with the image. One that was written anew has others, and may have the
        # same pixels: then it is the same image.
        image = run.image.reread() if attempt else run.image
        try:
            pixels = image.read(whole, t=t, z=z, channels=channels, absent=absent)
        except StoreError:
            if attempt:
                raise
            continue
        known = reference()
        if known.grid != grid:
            # The same image in other chunks: its checksums are those of the chunks at the first read.
            return read_checked(run, plane, box, known.grid, reference, channels=channels)
        differs = grid.checksums(pixels, whole) != known.checksums[(chosen, *grid.part(whole))]
        if not differs.any():
            return pixels[(slice(None), *box.within(whole).slices)]
    channel, row, column = np.argwhere(differs)[0].tolist()
    rows, columns = grid.part(whole)
    place = (chosen[channel], rows.start + row, columns.start + column)
    raise ChangedError(_changed(run, plane, place, known, absent, int(differs.sum())))


@contextmanager
def read_each(
    run: Run,
    boxes: Sequence[tuple[int, Box]],
    references: Future[dict[int, Reference]],
    *,
    channels: Sequence[int] | None = None,
) -> Iterator[Iterator[Image]]:
    """Read boxes of planes; neighbours are read together, each of their chunks once, and the next ones meanwhile.

    Parameters
    ----------
    run : Run
        Run whose image is read.
    boxes : sequence of tuple
        Number of the plane, and the box in it, px: those of a task, row by row.
    references : future of a dict of int to Reference
        By the number of the plane; the pixels are read before they are there.
    channels : sequence of int, optional
        Numbers of channels; None: all.

    Yields
    ------
    iterator
        The pixels of the boxes, (c, y, x), in their order. It raises the errors of `read_checked`.
    """
    grid, count = chunk_grid(run), len(channels or run.image.channels)
    groups = [(plane, group, reduce(Box.hull, group)) for plane, group in read_together(run, boxes, grid, count)]
    pixel = run.image.dtype.itemsize * count

    def reference(plane: int) -> Reference:
        return references.result()[plane]

    reads = (
        (
            grid.whole(union).area * pixel,
            partial(read_checked, run, plane, union, grid, partial(reference, plane), channels=channels),
        )
        for plane, _, union in groups
    )
    with ahead(reads, SHARED_BYTES) as found:
        yield (
            pixels[(slice(None), *box.within(union).slices)]
            for (_, group, union), pixels in zip(groups, found, strict=True)
            for box in group
        )


def read_together(
    run: Run, boxes: Sequence[tuple[int, Box]], grid: ChunkGrid, channels: int
) -> Iterator[tuple[int, list[Box]]]:
    """Planes and their boxes that are read at once: whole rows of boxes, parts of a row where one is too large."""
    pixel = run.image.dtype.itemsize * channels
    for plane, of_plane in groupby(boxes, key=lambda box: box[0]):
        group: list[Box] = []
        for part in _rows([box for _, box in of_plane]):
            size = grid.whole(reduce(Box.hull, [*group, *part])).area * pixel
            if group and size > SHARED_BYTES:
                yield plane, group
                group = []
            group += part
            if grid.whole(reduce(Box.hull, group)).area * pixel > SHARED_BYTES:
                yield from ((plane, [box]) for box in group)
                group = []
        if group:
            yield plane, group


def _rows(boxes: Sequence[Box]) -> Iterator[list[Box]]:
    """Boxes that begin in the same row of pixels."""
    for _, row in groupby(boxes, key=lambda box: box.y0):
        yield list(row)


def _changed(
    run: Run, plane: int, place: tuple[int, int, int], reference: Reference, absent: set[str], count: int
) -> str:
    """Error message for a changed chunk: what changed, where, and what to do."""
    (channel, row, column), (t, z) = place, run.planes[plane]
    box = reference.grid.chunk_box(row, column)
    keys = run.image.chunk_keys(box, t=t, z=z, channel=channel)
    how = "has other pixels than at the run's first read"
    if reference.checksums[place] == UNKNOWN:
        how = "could not be read at the run's first read and can be read now"
    elif absent.intersection(keys):
        how = "was there at the run's first read and is missing now"
    more = f" (and {count - 1} more of this read)" if count > 1 else ""
    return (
        f"Chunk {keys[0]} of {run.image.url}{more} {how}: frame {t}, slice {z}, channel {channel}, rows "
        f"{box.y0}:{box.y1}, columns {box.x0}:{box.x1}. Labels of two images would be mixed, so nothing was published. "
        "Put the chunk back and repeat the command, or start over with --overwrite."
    )

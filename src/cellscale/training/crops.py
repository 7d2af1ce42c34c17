"""Crops of annotated frames as network inputs, mapped by the rule of the whole frame; recent blocks are cached.

A frame's mapping follows from all of its pixels, which are read in groups of rows; a crop is assembled from the blocks
in which the frame is stored. Neither needs the memory of a whole frame.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict, abc
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cellscale.methods.intensity import BINS, Intensity, Mapping, Scale, scale_of_type, scales_of
from cellscale.progress import Progress, silent
from cellscale.training.frames import Frames, StoredFrames, stored
from cellscale.training.workers import Workers
from cellscale.types import Box, Image, Labels

ROWS_PX = 2**22
"""Pixels of a frame that are read together while its mapping is fitted."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Intensity statistics and checksum of a frame."""

    mappings: tuple[Mapping, ...]
    """Mapping of each channel."""
    blank: tuple[float, ...]
    """Value of pixels that were not annotated: the median of the other pixels of each channel, mapped."""
    checksum: bytes
    """SHA-256 of the pixels of each channel and of the labels, one after the other."""


def row_blocks(shape: tuple[int, int], block: tuple[int, int]) -> Iterator[Box]:
    """Boxes that cover a frame: whole rows of blocks, or parts of them where a row is too large."""
    height, width = shape
    whole_rows = ROWS_PX // width // block[0]
    rows = max(1, whole_rows) * block[0]
    columns = width if whole_rows else max(1, ROWS_PX // rows // block[1]) * block[1]
    for y in range(0, height, rows):
        for x in range(0, width, columns):
            yield Box(y, x, min(y + rows, height), min(x + columns, width))


def statistics_of(frames: StoredFrames, index: int, rule: Intensity, ignore_label: int = 0) -> Seen:
    """Fit the intensity rule on all pixels of a frame, as a segmentation does; take checksums of pixels and labels.

    Parameters
    ----------
    frames : StoredFrames
        The data set.
    index : int
        Its number.
    rule : Intensity
        The method's.
    ignore_label : int
        Label of pixels that were not annotated; 0: no such label.

    Raises
    ------
    InputError
        If a pixel is not a finite number.
    """
    boxes = list(row_blocks(frames.shape(index), frames.block_shape(index)))
    dtype = frames.read_image(index, Box(0, 0, 1, 1)).dtype
    scale = scale_of_type(dtype)
    read = ((box, frames.read_image(index, box)) for box in boxes)
    scales = scales_of(dtype, read, frames.place(index)) if scale is None else [scale] * frames.image_shape(index)[0]
    totals, hidden = (np.zeros((len(scales), BINS), np.int64) for _ in range(2))
    checksums = [hashlib.sha256(f"{dtype} {frames.shape(index)}".encode()) for _ in range(len(scales) + 1)]
    for box in boxes:
        image, labels = frames.read_image(index, box), frames.read_labels(index, box)
        # One checksum for each plane, so that it does not depend on the chunks by whose rows the frame is read.
        for checksum, plane in zip(checksums, (*image, labels), strict=True):
            checksum.update(np.ascontiguousarray(plane).data)
        unknown = labels == ignore_label if ignore_label else np.zeros((), bool)
        for c, (channel, scale) in enumerate(zip(image, scales, strict=True)):
            totals[c] += scale.histogram(channel)
            if unknown.any():
                hidden[c] += scale.histogram(channel[unknown])
    mappings = tuple(rule.fit(total, scale) for total, scale in zip(totals, scales, strict=True))
    medians = [_median(known, scale) for known, scale in zip(totals - hidden, scales, strict=True)]
    blank = tuple(float(mapping(median)) for mapping, median in zip(mappings, medians, strict=True))
    return Seen(mappings=mappings, blank=blank, checksum=b"".join(checksum.digest() for checksum in checksums))


def checksum_of(seen: abc.Mapping[int, Seen]) -> str:
    """One checksum of all frames, in the order of their numbers: 16 hexadecimal digits."""
    return hashlib.sha256(b"".join(seen[index].checksum for index in sorted(seen))).hexdigest()[:16]


def _median(histogram: NDArray[np.int64], scale: Scale) -> NDArray[np.float64]:
    """The lower median of binned values; that of bin 0 where there are none."""
    counts = np.cumsum(histogram)
    middle = np.searchsorted(counts, max(1, (counts[-1] + 1) // 2)) if counts[-1] else 0
    return np.asarray(scale.start + scale.width * middle)


def frame_statistics(
    frames: StoredFrames, rule: Intensity, ignore_label: int, workers: Workers, on_progress: Progress = silent
) -> dict[int, Seen]:
    """Compute intensity statistics and checksums of all frames, each on one worker; every worker gets all results."""
    mine, found = range(workers.rank, len(frames), workers.world), {}
    for done, index in enumerate(mine, 1):
        found[index] = statistics_of(frames, index, rule, ignore_label)
        on_progress("prepare", done, len(mine))
    return {index: seen for part in workers.gather(found) for index, seen in part.items()}


class Crops:
    """Boxes of annotated frames, mapped; recent blocks are cached in memory."""

    def __init__(
        self,
        frames: Frames,
        rule: Intensity,
        budget_bytes: int,
        *,
        ignore_label: int = 0,
        seen: abc.Mapping[int, Seen] | None = None,
    ) -> None:
        """Keep at most `budget_bytes` of blocks, but always one.

        Pixels with the label `ignore_label` are blank. Frames that are not in `seen` are measured when they are first
        read.
        """
        self.frames = stored(frames)
        self._rule, self._budget, self._ignore_label = rule, budget_bytes, ignore_label
        self._seen = dict(seen or {})
        self._blocks: OrderedDict[tuple[int, Box], tuple[NDArray[np.float32], Labels]] = OrderedDict()
        self.cells_by_row = lru_cache(maxsize=1024)(self._cells_by_row)

    def checksum(self) -> str:
        """Checksum of the frames that have been measured."""
        return checksum_of(self._seen)

    def read(self, index: int, box: Box) -> tuple[NDArray[np.float32], Labels]:
        """Return network input (c, y, x) and labels (y, x) of a box of a frame; both are read-only by convention."""
        height, width = self.frames.block_shape(index)
        frame = Box.of(self.frames.shape(index))
        rows, columns = range(box.y0 // height, -(-box.y1 // height)), range(box.x0 // width, -(-box.x1 // width))
        blocks = [
            Box(y * height, x * width, (y + 1) * height, (x + 1) * width).clip(frame) for y in rows for x in columns
        ]
        if len(blocks) == 1:
            image, labels = self._block(index, blocks[0])
            return image[:, *box.within(blocks[0]).slices], labels[box.within(blocks[0]).slices]
        image = np.empty((self.frames.image_shape(index)[0], *box.shape), np.float32)
        labels = np.empty(box.shape, np.uint32)
        for block in blocks:
            part = block.clip(box)
            pixels, cells = self._block(index, block)
            image[:, *part.within(box).slices] = pixels[:, *part.within(block).slices]
            labels[part.within(box).slices] = cells[part.within(block).slices]
        return image, labels

    def _block(self, index: int, block: Box) -> tuple[NDArray[np.float32], Labels]:
        key = index, block
        if key not in self._blocks:
            self._blocks[key] = self._read(index, block)
            while len(self._blocks) > 1 and self._bytes() > self._budget:
                self._blocks.popitem(last=False)
        self._blocks.move_to_end(key)
        return self._blocks[key]

    def _read(self, index: int, box: Box) -> tuple[NDArray[np.float32], Labels]:
        """Read a box and apply the intensity rule; pixels that are not annotated are blank and without cells.

        So no loss of any form depends on them; the drawback is that the network does not see them either.
        """
        seen, image = self.seen(index), self.frames.read_image(index, box)
        mapped = np.stack([mapping(channel) for mapping, channel in zip(seen.mappings, image, strict=True)])
        labels = self.frames.read_labels(index, box)
        hidden = labels == self._ignore_label if self._ignore_label else np.zeros((), bool)
        if hidden.any():
            blank = np.array(seen.blank, np.float32)[:, None, None]
            return np.where(hidden, blank, mapped), np.where(hidden, 0, labels).astype(np.uint32)
        return mapped, labels

    def _bytes(self) -> int:
        return sum(image.nbytes + labels.nbytes for image, labels in self._blocks.values())

    def seen(self, index: int) -> Seen:
        """Return the intensity statistics of a frame."""
        if index not in self._seen:
            self._seen[index] = statistics_of(self.frames, index, self._rule, self._ignore_label)
        return self._seen[index]

    def labels(self, index: int, box: Box) -> Labels:
        """Labels of a box, 0 on pixels that were not annotated."""
        labels = self.frames.read_labels(index, box)
        return np.where(labels == self._ignore_label, 0, labels).astype(np.uint32) if self._ignore_label else labels

    def _cells_by_row(self, index: int) -> NDArray[np.int64]:
        """Number of pixels of cells in each row of a frame and those above it, (y,)."""
        shape = self.frames.shape(index)
        counts = np.zeros(shape[0], np.int64)
        for box in row_blocks(shape, self.frames.block_shape(index)):
            counts[box.y0 : box.y1] += np.count_nonzero(self.labels(index, box), axis=1)
        return np.cumsum(counts)


def mapped(image: Image, rule: Intensity) -> NDArray[np.float32]:
    """Network input of a whole frame (c, y, x)."""
    labels = np.zeros(image.shape[1:], np.uint32)
    found, _ = Crops([(image, labels)], rule, 0).read(0, Box.of((image.shape[1], image.shape[2])))
    return found

"""Annotated frames: images and labels for samples and validation.

Frames are read box by box, so that a frame of any size takes only the memory of a box.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from cellscale.errors import InputError
from cellscale.types import Box, Image, Labels

if TYPE_CHECKING:
    from cellscale.ngff.image import NgffImage
    from cellscale.ngff.labels import LabelLayer

WHOLE_PX = 2**22
"""Greatest number of pixels of a frame that is processed at once; larger frames are processed in tiles."""
TILE_PX = 1024
"""Side of these tiles, px."""
LEAST_BLOCK_PX = 512
"""Least side of the blocks in which a stored frame is read, px."""


@runtime_checkable
class StoredFrames(Protocol):
    """Images with instance labels by number, read box by box."""

    def __len__(self) -> int:
        """Number of frames."""
        ...

    def shape(self, index: int, /) -> tuple[int, int]:
        """Height and width of a frame, px: those of its labels."""
        ...

    def image_shape(self, index: int, /) -> tuple[int, ...]:
        """Channels, height and width of the image; the latter are the same."""
        ...

    def block_shape(self, index: int, /) -> tuple[int, int]:
        """Height and width of the blocks in which a frame is best read, px."""
        ...

    def read_image(self, index: int, box: Box, /) -> Image:
        """Pixels of a box, (c, y, x), of any type."""
        ...

    def read_labels(self, index: int, box: Box, /) -> Labels:
        """Labels of a box, (y, x)."""
        ...

    def place(self, index: int, /) -> str:
        """The image and the frame in it, for messages."""
        ...


Pairs: TypeAlias = Sequence[tuple[Image, Labels]]
"""Images (c, y, x) of any type with instance labels (y, x), in memory."""
Frames: TypeAlias = StoredFrames | Pairs
"""A data set to train on or to validate with."""


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """Frames of an OME-Zarr image with a label layer."""

    image: NgffImage
    labels: LabelLayer
    planes: tuple[tuple[int, int], ...]
    """Time point and slice of each frame."""
    channels: tuple[int, ...] = (0,)
    """Numbers of the channels that are read, in the method's order."""

    def __len__(self) -> int:
        return len(self.planes)

    def shape(self, index: int) -> tuple[int, int]:
        """Height and width of a frame, px: those of its labels."""
        return self.labels.size("y"), self.labels.size("x")

    def image_shape(self, index: int) -> tuple[int, ...]:
        """Channels that are read, height and width."""
        return len(self.channels), self.image.size("y"), self.image.size("x")

    def block_shape(self, index: int) -> tuple[int, int]:
        """Whole chunks of the image, at least 512 px a side."""
        height, width = (-(-LEAST_BLOCK_PX // side) * side for side in self.image.chunk_shape())
        return height, width

    def read_image(self, index: int, box: Box) -> Image:
        """Pixels of a box, (c, y, x)."""
        t, z = self.planes[index]
        return self.image.read(box, t=t, z=z, channels=self.channels)

    def read_labels(self, index: int, box: Box) -> Labels:
        """Labels of a box, (y, x)."""
        t, z = self.planes[index]
        return self.labels.read(box, t=t, z=z)

    def place(self, index: int) -> str:
        """Frame, slice and image."""
        t, z = self.planes[index]
        return f"frame {t}, slice {z} of {self.image.url}"


@dataclass(frozen=True, kw_only=True)
class FramesInMemory:
    """Pairs of image and labels, read like stored ones."""

    pairs: Pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def shape(self, index: int) -> tuple[int, int]:
        """Height and width of a frame, px: those of its labels."""
        height, width = self.pairs[index][1].shape
        return height, width

    def image_shape(self, index: int) -> tuple[int, ...]:
        """Channels, height and width of the image."""
        return self.pairs[index][0].shape

    def block_shape(self, index: int) -> tuple[int, int]:
        """The whole frame."""
        return self.shape(index)

    def read_image(self, index: int, box: Box) -> Image:
        """Pixels of a box, (c, y, x)."""
        return self.pairs[index][0][:, *box.slices]

    def read_labels(self, index: int, box: Box) -> Labels:
        """Labels of a box, (y, x)."""
        return self.pairs[index][1][box.slices]

    def place(self, index: int) -> str:
        """Its number."""
        return f"frame {index}"


def stored(frames: Frames) -> StoredFrames:
    """Return frames that are read box by box, from stored ones or from pairs in memory."""
    return frames if isinstance(frames, StoredFrames) else FramesInMemory(pairs=frames)


@dataclass(frozen=True, kw_only=True)
class Joined:
    """Several data sets, one after the other, with consecutive frame numbers."""

    parts: tuple[StoredFrames, ...]

    @classmethod
    def of(cls, parts: Sequence[Frames]) -> Joined:
        """Join data sets."""
        return cls(parts=tuple(map(stored, parts)))

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def _place(self, index: int) -> tuple[StoredFrames, int]:
        for part in self.parts:
            if index < len(part):
                return part, index
            index -= len(part)
        raise IndexError(index)

    def shape(self, index: int) -> tuple[int, int]:
        """Height and width of a frame, px."""
        part, number = self._place(index)
        return part.shape(number)

    def image_shape(self, index: int) -> tuple[int, ...]:
        """Channels, height and width of the image."""
        part, number = self._place(index)
        return part.image_shape(number)

    def block_shape(self, index: int) -> tuple[int, int]:
        """Height and width of the blocks in which a frame is best read, px."""
        part, number = self._place(index)
        return part.block_shape(number)

    def read_image(self, index: int, box: Box) -> Image:
        """Pixels of a box, (c, y, x)."""
        part, number = self._place(index)
        return part.read_image(number, box)

    def read_labels(self, index: int, box: Box) -> Labels:
        """Labels of a box, (y, x)."""
        part, number = self._place(index)
        return part.read_labels(number, box)

    def place(self, index: int) -> str:
        """The image and the frame in it."""
        part, number = self._place(index)
        return part.place(number)


def shares(frames: Frames, weights: Sequence[float]) -> NDArray[np.float64] | None:
    """Probability of each frame where data sets have weights: a set's share is divided equally among its frames.

    Raises
    ------
    InputError
        If there is not one weight for each data set, or weights are not valid.
    """
    if not weights:
        return None
    counts = [len(part) for part in frames.parts] if isinstance(frames, Joined) else [len(frames)]
    if len(weights) != len(counts) or min(weights) < 0 or max(weights) <= 0:
        raise InputError(
            f"Setting 'dataset_weights' is {list(weights)}; expected {len(counts)} numbers, one for each data set, at "
            "least 0 and one above it."
        )
    found = np.repeat([weight / max(1, count) for weight, count in zip(weights, counts, strict=True)], counts)
    return np.asarray(found / found.sum(), np.float64)


def scales(frames: Frames) -> list[float]:
    """Each frame's pixels for one pixel of the first data set; 1 where a size is not known."""
    parts = frames.parts if isinstance(frames, Joined) else (frames,)
    sizes = [part.image.pixel_size_um() if isinstance(part, TrainingData) else None for part in parts]
    found = [sizes[0][0] / size[0] if sizes[0] and size else 1.0 for size in sizes]
    return [scale for scale, part in zip(found, parts, strict=True) for _ in range(len(part))]


def tiles_of(shape: tuple[int, int]) -> list[Box]:
    """The whole frame, or, if it is too large, its tiles in raster order."""
    height, width = shape
    if height * width <= WHOLE_PX:
        return [Box(0, 0, height, width)]
    return [
        Box(y, x, min(y + TILE_PX, height), min(x + TILE_PX, width))
        for y in range(0, height, TILE_PX)
        for x in range(0, width, TILE_PX)
    ]


def labels_of(frames: StoredFrames, ignore_label: int) -> Iterator[tuple[int, Labels]]:
    """Number and labels of each frame, or of its tiles where it is large; the label `ignore_label` is background."""
    for index in range(len(frames)):
        for box in tiles_of(frames.shape(index)):
            labels = frames.read_labels(index, box)
            yield index, np.where(labels == ignore_label, 0, labels) if ignore_label else labels


def check_data(
    data: Sequence[Frames], validation: Sequence[Frames], channels: int, ignore_label: int = 0
) -> tuple[Joined, Joined | None]:
    """Join the training frames, and the held-out frames if there are any; raises as `checked`."""
    held_out = checked(validation, channels, "validation", ignore_label) if any(map(len, validation)) else None
    return checked(data, channels, "training", ignore_label), held_out


def checked(frames: Sequence[Frames], channels: int, what: str, ignore_label: int = 0) -> Joined:
    """Join data sets; check the first frame of each, and that some frame has a cell.

    Parameters
    ----------
    frames : sequence of Frames
        The data sets.
    channels : int
        Number of channels that the method reads.
    what : str
        "training" or "validation", for messages.
    ignore_label : int
        Label of pixels that were not annotated; 0: no such label.

    Raises
    ------
    InputError
        Without frames or without a cell, or where image and labels differ in size, or the number of channels is not the
        method's.
    """
    joined = Joined.of(frames)
    if len(joined) == 0:
        raise InputError(f"No {what} frames: choose at least one with labels.")
    for number, part in enumerate(part for part in joined.parts if len(part)):
        _check_first(part, channels, f"Data set {number} of the {what} frames")
    if not any(labels.any() for _, labels in labels_of(joined, ignore_label)):
        raise InputError(
            f"None of the {len(joined)} {what} frames has a cell, from {joined.place(0)} on. Choose frames in which "
            "cells are annotated, or another label layer."
        )
    return joined


def _check_first(part: StoredFrames, channels: int, what: str) -> None:
    """Check the first frame of a data set against its labels and the method."""
    image, labels = part.image_shape(0), part.shape(0)
    if len(image) != 3 or image[0] != channels:
        raise InputError(
            f"{what} has images of shape {image}; the method reads {channels} channel(s), (c, y, x). Set channels to "
            "the number of the image's channels."
        )
    if image[1:] != labels:
        raise InputError(
            f"{what}: images are {image[1:]} px, labels {labels} px. Choose the label layer of this image."
        )
    part.read_image(0, Box(0, 0, 1, 1))

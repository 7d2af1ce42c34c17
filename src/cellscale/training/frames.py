"""Annotated frames: what samples are drawn from and validation looks at."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cellscale.arrays import Box, Image, Labels
from cellscale.errors import InputError
from cellscale.intensity import Intensity, Mapping, Scale
from cellscale.ngff.images import NgffImage
from cellscale.ngff.labels import LabelLayer


class Frames(Protocol):
    """Images (c, y, x) of any type with instance labels (y, x), by number; a list of pairs will do."""

    def __len__(self) -> int:
        """Number of frames."""
        ...

    def __getitem__(self, index: int, /) -> tuple[Image, Labels]:
        """Image and labels of a frame."""
        ...


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

    def __getitem__(self, index: int) -> tuple[Image, Labels]:
        t, z = self.planes[index]
        box = Box(0, 0, self.image.size("y"), self.image.size("x"))
        return self.image.read(box, t=t, z=z, channels=self.channels), self.labels.read(box, t=t, z=z)


@dataclass(frozen=True, kw_only=True)
class Joined:
    """Several sequences of frames, one after the other."""

    parts: tuple[Frames, ...]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __getitem__(self, index: int) -> tuple[Image, Labels]:
        for part in self.parts:
            if index < len(part):
                return part[index]
            index -= len(part)
        raise IndexError(index)


def mapping_of(channel: Image, rule: Intensity) -> Mapping:
    """Fit the intensity rule on a whole channel, as a segmentation does."""
    scale = Scale.of(channel.dtype, float(channel.min()), float(channel.max()))
    return rule.fit(scale.histogram(channel), scale)


def mapped(image: Image, rule: Intensity) -> NDArray[np.float32]:
    """Network input of a whole frame (c, y, x)."""
    return np.stack([mapping_of(channel, rule)(channel) for channel in image])


class MappedFrames:
    """Frames after the intensity rule, the latest ones kept in memory."""

    def __init__(self, frames: Frames, rule: Intensity, budget_bytes: int) -> None:
        """Keep at most `budget_bytes` of decoded frames, but always one."""
        self._frames, self._rule, self._budget = frames, rule, budget_bytes
        self._kept: OrderedDict[int, tuple[NDArray[np.float32], Labels]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], Labels]:
        if index not in self._kept:
            image, labels = self._frames[index]
            self._kept[index] = mapped(image, self._rule), labels
            while len(self._kept) > 1 and self._bytes() > self._budget:
                self._kept.popitem(last=False)
        self._kept.move_to_end(index)
        return self._kept[index]

    def _bytes(self) -> int:
        return sum(image.nbytes + labels.nbytes for image, labels in self._kept.values())


def check_data(data: Sequence[Frames], validation: Sequence[Frames], channels: int) -> tuple[Joined, Joined | None]:
    """Join the training frames, and the held-out frames if there are any; raises as `checked`."""
    held_out = checked(validation, channels, "validation") if any(map(len, validation)) else None
    return checked(data, channels, "training"), held_out


def checked(frames: Sequence[Frames], channels: int, what: str) -> Joined:
    """Join data sets; look at the first frame of each.

    Raises
    ------
    InputError
        Without frames, or where image and labels differ in size, or the number of channels is not the method's.
    """
    joined = Joined(parts=tuple(frames))
    if len(joined) == 0:
        raise InputError(f"No {what} frames: choose at least one with labels.")
    for number, part in enumerate(part for part in frames if len(part)):
        image, labels = part[0]
        if image.ndim != 3 or image.shape[0] != channels:
            raise InputError(
                f"Data set {number} of the {what} frames has images of shape {image.shape}; the method reads "
                f"{channels} channel(s), (c, y, x). Set channels to the number of the image's channels."
            )
        if image.shape[1:] != labels.shape:
            raise InputError(
                f"Data set {number} of the {what} frames: images are {image.shape[1:]} px, labels {labels.shape} px. "
                "Choose the label layer of this image."
            )
    return joined

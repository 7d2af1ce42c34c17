"""Annotated frames: what samples are drawn from and validation looks at."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from cellscale.errors import InputError
from cellscale.methods.intensity import Intensity, Mapping, Scale
from cellscale.types import Box, Image, Labels

if TYPE_CHECKING:
    from cellscale.ngff.image import NgffImage
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


def shares(frames: Frames, weights: Sequence[float]) -> NDArray[np.float64] | None:
    """Probability of each frame where data sets have weights: a set's part is spread evenly over its frames.

    Raises
    ------
    InputError
        If there is not one weight for each data set, or they are no weights.
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


def blank(image: NDArray[np.float32], labels: Labels, unknown: int) -> tuple[NDArray[np.float32], Labels]:
    """Take away what lies under the label `unknown`: no cell, and each channel's median elsewhere; 0: nothing is.

    No loss can then tell what was there, whatever its form; the price is that the network does not see it either.
    """
    hidden = (labels == unknown) if unknown else np.zeros(labels.shape, bool)
    if not hidden.any():
        return image, labels
    known = image[:, ~hidden]
    values = np.median(known, axis=1) if known.size else np.zeros(len(image), np.float32)
    return np.where(hidden, values[:, None, None], image).astype(np.float32), np.where(hidden, 0, labels)


def mapping_of(channel: Image, rule: Intensity) -> Mapping:
    """Fit the intensity rule on a whole channel, as a segmentation does."""
    scale = Scale.of(channel.dtype, float(channel.min()), float(channel.max()))
    return rule.fit(scale.histogram(channel), scale)


def mapped(image: Image, rule: Intensity) -> NDArray[np.float32]:
    """Network input of a whole frame (c, y, x)."""
    return np.stack([mapping_of(channel, rule)(channel) for channel in image])


class MappedFrames:
    """Frames after the intensity rule, the latest ones kept in memory."""

    def __init__(self, frames: Frames, rule: Intensity, budget_bytes: int, unknown: int = 0) -> None:
        """Keep at most `budget_bytes` of decoded frames, but always one; what has the label `unknown` is blank."""
        self._frames, self._rule, self._budget, self._unknown = frames, rule, budget_bytes, unknown
        self._kept: OrderedDict[int, tuple[NDArray[np.float32], Labels]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], Labels]:
        if index not in self._kept:
            image, labels = self._frames[index]
            self._kept[index] = blank(mapped(image, self._rule), labels, self._unknown)
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

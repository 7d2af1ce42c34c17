"""Images as frames in time: existing frames, their numbers and their names."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellscale.errors import InputError, MissingError
from cellscale.settings.frame_range import Frames, chosen_frames
from cellscale.sources.stored import Stored
from cellscale.types import Calibration


@dataclass(frozen=True, kw_only=True)
class Source:
    """Frames that exist elsewhere; nothing stays open between two planes."""

    path: str
    name: str
    shape: tuple[int, int, int, int, int]
    """Lengths of t, c, z, y, x."""
    dtype: np.dtype[Any]
    frames: tuple[int, ...]
    """The frames that exist, ascending; the others are empty."""
    numbered: bool = False
    """Whether the frames have numbers of their own, by which labels are matched with images."""
    names: Mapping[str, int] = field(default_factory=dict)
    """Frames by the names of their files, without words for masks; also those outside a chosen range."""
    calibration: Calibration = field(default_factory=Calibration)
    incomplete: Mapping[int, str] = field(default_factory=dict)
    """Frames with missing planes, and the missing planes."""
    files: frozenset[str] = frozenset()
    """Files that hold the planes."""
    key: str = ""
    """Name by which masks find this image among others."""
    read: Callable[[int, int, int], NDArray[Any]]
    """(position in `frames`, channel, slice) → plane."""

    def plane(self, t: int, c: int = 0, z: int = 0) -> NDArray[Any]:
        """Return one plane, (y, x); zeros for a frame that does not exist.

        Raises
        ------
        MissingError
            For an index outside of the shape.
        InputError
            For a plane of another size than the first.
        StoreError
            For a file that cannot be read.
        """
        for axis, index, size in zip(("Frame", "Channel", "Slice"), (t, c, z), self.shape, strict=False):
            if not 0 <= index < size:
                raise MissingError(f"{axis} {index} of {self.path} does not exist; it has {size}, numbered from 0.")
        at = bisect.bisect_left(self.frames, t)
        if at == len(self.frames) or self.frames[at] != t:
            return np.zeros(self.shape[3:], self.dtype)
        plane = self.read(at, c, z)
        if plane.shape != self.shape[3:]:
            raise InputError(f"Frame {t} of {self.path} has {plane.shape} px; the first has {self.shape[3:]}.")
        return plane


def rising(numbers: Sequence[int], path: str) -> list[int]:
    """Order that sorts the numbers; InputError for a duplicate or negative number."""
    order = sorted(range(len(numbers)), key=lambda i: numbers[i])
    twice = [numbers[a] for a, b in itertools.pairwise(order) if numbers[a] == numbers[b]]
    wrong = [*twice, *(number for number in numbers if number < 0)]
    if wrong:
        raise InputError(f"{path}: frame number {wrong[0]} is a duplicate or negative.")
    return order


def _read_stack(stored: Stored, order: tuple[int, ...], t: int, c: int, z: int) -> NDArray[Any]:
    return stored.plane(order[t], c, z)


def stack(stored: Stored, numbers: tuple[int, ...] | None = None) -> Source:
    """One array whose t axis is time."""
    frames = tuple(range(stored.size("t"))) if numbers is None else numbers
    order = [i for i in rising(frames, stored.path) if i not in stored.empty]
    return Source(
        path=stored.path,
        name=stored.name,
        shape=(max(frames, default=-1) + 1, stored.size("c"), stored.size("z"), stored.size("y"), stored.size("x")),
        dtype=stored.dtype.newbyteorder("="),
        frames=tuple(frames[i] for i in order),
        numbered=numbers is not None,
        calibration=stored.calibration,
        incomplete={frames[i]: lack for i, lack in stored.incomplete.items()},
        files=stored.files or frozenset({stored.path}),
        read=partial(_read_stack, stored, tuple(order)),
    )


def cropped(source: Source, frames: Frames, labels: bool) -> Source:
    """The source with only a half-open range of frames, the first of which becomes 0."""
    if frames is None or (labels and source.names and not source.numbered):
        return source
    count = source.shape[0]
    if labels and source.numbered:
        start = frames[0] or 0
        stop = max(count if frames[1] is None else min(frames[1], count), start + 1)
    else:
        chosen = chosen_frames(frames, count, source.path)
        start, stop = chosen.start, chosen.stop
    skipped = sum(t < start for t in source.frames)
    return replace(
        source,
        shape=(stop - start, *source.shape[1:]),
        frames=tuple(t - start for t in source.frames if start <= t < stop),
        names={name: t - start for name, t in source.names.items()},
        incomplete={t - start: lack for t, lack in source.incomplete.items() if start <= t < stop},
        read=partial(_read_later, source.read, skipped),
    )


def _read_later(read: Callable[[int, int, int], NDArray[Any]], skipped: int, t: int, c: int, z: int) -> NDArray[Any]:
    return read(t + skipped, c, z)


def matched(images: Sequence[Source], masks: Sequence[Source], numbers: Sequence[int]) -> list[Source | None]:
    """Match the masks of a collection with its images: by name, or by the image's number in its file.

    Parameters
    ----------
    images : sequence of Source
        Images.
    masks : sequence of Source
        Masks of some or all of them.
    numbers : sequence of int
        Numbers of the images in their file.

    Raises
    ------
    InputError
        If masks have no names and their number differs from that of the images.
    """
    if any(mask.key for mask in masks):
        by_key = {mask.key: mask for mask in masks}
        found = [by_key.pop(image.key, None) for image in images]
        if len(numbers) > 1 and by_key:
            raise InputError(f"Mask {next(iter(by_key))!r} of {masks[0].path} has no image of this name.")
        return found
    if len(masks) <= max(numbers) or 1 < len(numbers) != len(masks):
        raise InputError(
            f"{masks[0].path} holds {len(masks)} mask images for {len(numbers)} images; expected one for each image."
        )
    return [masks[number] for number in numbers]

"""Frame ranges of a sequence, and the frames of a layer that have labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from cellscale.errors import MissingError
from cellscale.ngff.labels import LabelLayer

Frames: TypeAlias = tuple[int | None, int | None] | None
"""A half-open range of frames; None: all, or the sequence's end."""


def chosen_frames(frames: Frames, count: int, where: str) -> range:
    """The frames of a sequence of `count`; a range outside of it raises MissingError."""
    start, stop = frames or (0, count)
    first, last = start or 0, count if stop is None else stop
    if not 0 <= first < last <= count:
        raise MissingError(f"Frames {first}:{last} of {where}: it has frames 0:{count}. Frame ranges are half-open.")
    return range(first, last)


def annotated(layer: LabelLayer, frames: range) -> list[int]:
    """The frames that have labels: all, unless the layer names those that do."""
    listed = layer.metadata.get("frames")
    wanted = None if listed is None else frozenset(listed)
    return [t for t in frames if wanted is None or t in wanted]


def ranges(frames: Sequence[int]) -> str:
    """Ascending frames as half-open ranges: 0:3, 7:8."""
    present = frozenset(frames)
    starts = [t for t in frames if t - 1 not in present]
    stops = [t + 1 for t in frames if t + 1 not in present]
    return ", ".join(f"{start}:{stop}" for start, stop in zip(starts, stops, strict=True)) or "no frame"

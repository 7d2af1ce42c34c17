"""Scores of a label layer against another, frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from cellscale import metrics
from cellscale.arrays import Box
from cellscale.errors import InputError, MissingError
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
    return [t for t in frames if listed is None or t in set(listed)]


def ranges(frames: Sequence[int]) -> str:
    """Ascending frames as half-open ranges: 0:3, 7:8."""
    starts = [t for t in frames if t - 1 not in frames]
    stops = [t + 1 for t in frames if t + 1 not in frames]
    return ", ".join(f"{start}:{stop}" for start, stop in zip(starts, stops, strict=True)) or "no frame"


def _scored(found: LabelLayer, true: LabelLayer, frames: range) -> list[int]:
    """Frames that have truth; each must have been segmented."""
    chosen = annotated(true, frames)
    if not chosen:
        raise MissingError(f"No frame of {frames.start}:{frames.stop} has labels in layer {true.name!r}.")
    segmented = annotated(found, range(found.size("t")))
    outside = sorted({*chosen} - {*segmented})
    if outside:
        raise MissingError(
            f"Frame {outside[0]} was not segmented in layer {found.name!r}, which has {ranges(segmented)}. "
            "Choose --frames among these, or segment the others."
        )
    return chosen


def evaluate(
    found: LabelLayer, true: LabelLayer, frames: range, *, on_progress: Callable[[str, int, int], None]
) -> dict[str, Any]:
    """Score every plane of the frames that have truth; nothing but counts is held.

    Returns
    -------
    dict
        Number of frames, and what `metrics.summary` returns.

    Raises
    ------
    InputError
        If the layers differ in size.
    MissingError
        If no frame has truth, or one that has was not segmented.
    """
    sizes = [tuple(layer.size(axis) for axis in "tzyx") for layer in (found, true)]
    if sizes[0] != sizes[1]:
        raise InputError(
            f"Layer {found.name!r} is {sizes[0]} (t, z, y, x), {true.name!r} is {sizes[1]}; expected equal sizes."
        )
    chosen = _scored(found, true, frames)
    _, slices, height, width = sizes[0]
    box = Box(0, 0, height, width)
    counts = []
    for done, t in enumerate(chosen, 1):
        planes = ((true.read(box, t=t, z=z), found.read(box, t=t, z=z)) for z in range(slices))
        counts.append(metrics.total(metrics.frame_scores(*plane) for plane in planes))
        on_progress("evaluate", done, len(chosen))
    return {"frames": len(chosen), **metrics.summary(metrics.total(counts))}

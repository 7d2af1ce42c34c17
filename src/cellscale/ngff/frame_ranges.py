"""Frames of a layer that have labels, and lists of frames as ranges."""

from __future__ import annotations

from collections.abc import Sequence

from cellscale.errors import MissingError
from cellscale.ngff.labels import LabelLayer


def annotated(layer: LabelLayer, frames: range) -> list[int]:
    """The frames that have labels: all, unless the layer names those that do."""
    listed = layer.metadata.get("frames")
    wanted = None if listed is None else frozenset(listed)
    return [t for t in frames if wanted is None or t in wanted]


def annotated_among(layer: LabelLayer, asked: range) -> list[int]:
    """The frames of a range that have labels.

    Raises
    ------
    MissingError
        If there are none: names those that have labels.
    """
    chosen = annotated(layer, asked)
    if not chosen:
        raise MissingError(
            f"None of the frames {asked.start}:{asked.stop} of {layer.url} has labels; those that have are "
            f"{ranges(annotated(layer, range(layer.size('t'))))}. Choose frames among these."
        )
    return chosen


def ranges(frames: Sequence[int]) -> str:
    """Ascending frames as half-open ranges: 0:3, 7:8."""
    present = frozenset(frames)
    starts = [t for t in frames if t - 1 not in present]
    stops = [t + 1 for t in frames if t + 1 not in present]
    return ", ".join(f"{start}:{stop}" for start, stop in zip(starts, stops, strict=True)) or "no frame"

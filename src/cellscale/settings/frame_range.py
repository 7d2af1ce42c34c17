"""A range of frames, as a user chooses it."""

from __future__ import annotations

from typing import TypeAlias

from cellscale.errors import MissingError

Frames: TypeAlias = tuple[int | None, int | None] | None
"""A half-open range of frames; None: all, or the sequence's end."""


def chosen_frames(frames: Frames, count: int, where: str) -> range:
    """The frames of a sequence of `count`; a range outside of it raises MissingError."""
    start, stop = frames or (0, count)
    first, last = start or 0, count if stop is None else stop
    if not 0 <= first < last <= count:
        raise MissingError(f"Frames {first}:{last} of {where}: it has frames 0:{count}. Frame ranges are half-open.")
    return range(first, last)

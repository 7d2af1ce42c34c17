"""A range of frames, as a user chooses it."""

from __future__ import annotations

from operator import index
from typing import TypeAlias

from cellscale.errors import InputError, MissingError

Frames: TypeAlias = tuple[int | None, int | None] | None
"""A half-open range of frames; None: all, or the sequence's end."""


def chosen_frames(frames: Frames, count: int, where: str) -> range:
    """The frames of a sequence of `count`; a range outside of it raises MissingError, any other value InputError."""
    try:
        start, stop = (0, count) if frames is None else (None if side is None else index(side) for side in frames)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"frames is {frames!r}; expected two whole numbers or None, (first, one after the last), e.g. (0, 10)."
        ) from error
    first, last = start or 0, count if stop is None else stop
    if not 0 <= first < last <= count:
        raise MissingError(f"Frames {first}:{last} of {where}: it has frames 0:{count}. Frame ranges are half-open.")
    return range(first, last)

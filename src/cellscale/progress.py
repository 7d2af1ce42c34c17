"""The progress callback that every long call takes."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Progress callback: called with the name of a step, the number of finished parts and their total."""

    def __call__(self, step: str, done: int, total: int, /) -> None:
        """Report that `done` of `total` parts of a step are finished."""


def silent(step: str, done: int, total: int, /) -> None:
    """Ignore progress updates."""

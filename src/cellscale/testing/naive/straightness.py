"""Naive twin of `cellscale.metrics.straightness`: borders on a line, run by run."""

from __future__ import annotations

from itertools import groupby

from cellscale.types import Labels


def straight_pixels(labels: Labels, y: int, run: int) -> tuple[int, int]:
    """Count border pixels between rows y − 1 and y: those on runs of at least `run` of them, and all."""
    border = [bool(above != below) for above, below in zip(labels[y - 1], labels[y], strict=True)]
    runs = [len(list(group)) for value, group in groupby(border) if value]
    return sum(n for n in runs if n >= run), sum(runs)

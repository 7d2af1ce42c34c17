"""Straight borders on a line, run by run."""

from __future__ import annotations

from itertools import groupby

import numpy as np


def straight_pixels(labels: np.ndarray, y: int, run: int) -> tuple[int, int]:
    """Pixels on runs of at least `run` border pixels between rows y − 1 and y, and all border pixels."""
    border = [bool(above != below) for above, below in zip(labels[y - 1], labels[y], strict=True)]
    runs = [len(list(group)) for value, group in groupby(border) if value]
    return sum(n for n in runs if n >= run), sum(runs)

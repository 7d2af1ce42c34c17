"""Small sequences of label images for the tests of linking."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cellscale.types import Labels


def discs(places: Sequence[Sequence[tuple[int, float, float, float]]], shape: tuple[int, int]) -> list[Labels]:
    """Frames of discs (label, y, x, radius)."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    frames = []
    for frame in places:
        labels = np.zeros(shape, np.uint32)
        for label, y, x, radius in frame:
            labels[(rows - y) ** 2 + (columns - x) ** 2 <= radius**2] = label
        frames.append(labels)
    return frames


def walkers(seed: int, *, frames: int, cells: int, shape: tuple[int, int], step: float = 1.0) -> list[Labels]:
    """Discs that walk at random from places of a grid; the label of a cell is the same in all frames."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(np.sqrt(cells)))
    grid = np.stack(np.unravel_index(np.arange(cells), (side, side)), axis=1)
    places = (grid + 0.5) * np.array(shape) / side
    radius = 0.22 * min(shape) / side
    made = []
    for _ in range(frames):
        made.append([(k + 1, float(y), float(x), radius) for k, (y, x) in enumerate(places)])
        places = places + rng.normal(0, step, places.shape).clip(-2 * step, 2 * step)
    return discs(made, shape)


def renumbered(frames: Sequence[Labels], seed: int) -> list[Labels]:
    """The same objects with other numbers in every frame."""
    rng, made = np.random.default_rng(seed), []
    for labels in frames:
        table = np.zeros(int(labels.max()) + 1, np.uint32)
        ids = np.unique(labels[labels > 0])
        table[ids] = rng.choice(np.arange(1, 5 * len(ids) + 1), len(ids), replace=False)
        made.append(table[labels])
    return made

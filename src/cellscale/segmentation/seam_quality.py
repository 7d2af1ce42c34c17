"""Seam quality of a layer: counts for each shard of the published pixels, added up and compared once.

A task counts in the pixels that it publishes. The counts are those of the whole frames for any shards, since the labels
of a few pixels of its neighbours are computed with those of a shard.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellscale.metrics.straightness import RUN, lines_beside, seam_quality, straight_pixels
from cellscale.segmentation.plan import Run
from cellscale.segmentation.records import Arrays, table_columns, table_in
from cellscale.types import Box, Labels

SEAMS = "seams"
"""Table of a record: counts of border pixels."""
GROUPS = 4096
"""Greatest number of separate lines; beyond it, equal lines of several planes are counted together."""


def seam_lines(run: Run) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Rows and columns between two tiles or two windows, each with a nearby line for comparison."""
    found = []
    for axis in (0, 1):
        size = run.grid.shape[axis]
        lines = {*range(run.grid.size, size, run.grid.size), *run.windows.cuts(axis)}
        found.append(lines_beside(sorted(lines), size, seed=axis))
    return found[0], found[1]


class SeamCounts:
    """Counts of the border pixels on the lines of a run, for the shards of a task."""

    def __init__(self, run: Run) -> None:
        """Count nothing yet."""
        self._pairs = seam_lines(run)
        self._per_plane = sum(map(len, self._pairs))
        self._counts: dict[int, NDArray[np.int64]] = {}

    def seen(self, box: Box) -> Box:
        """The pixels whose labels are needed to count in a shard, px."""
        return Box(max(0, box.y0 - RUN), max(0, box.x0 - RUN), box.y1, box.x1) if self._per_plane else box

    def add(self, plane: int, labels: Labels, box: Box) -> None:
        """Count the border pixels of a shard of a plane, from the labels of `seen`."""
        if self._per_plane:
            seen = self.seen(box)
            rows = _counted(labels, seen, box, self._pairs[0])
            columns = _counted(labels.T, _turned(seen), _turned(box), self._pairs[1])
            group = plane % max(1, GROUPS // self._per_plane)
            self._counts[group] = self._counts.get(group, 0) + np.concatenate([rows, columns])

    def columns(self) -> Arrays:
        """Columns of a task's record: rows of group and four counts, see `seam_quality`."""
        groups, counts = np.array(list(self._counts), np.int64), np.array(list(self._counts.values()), np.int64)
        return table_columns(SEAMS, {"groups": groups, "counts": counts})


def seams_in_record(record: Arrays) -> Arrays:
    """Read the counts from a task's record."""
    return table_in(record, SEAMS)


def _turned(box: Box) -> Box:
    return Box(box.x0, box.y0, box.x1, box.y1)


def _counted(labels: Labels, seen: Box, box: Box, pairs: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
    sides = (straight_pixels(labels, seen, box, [pair[side] for pair in pairs]) for side in (0, 1))
    return np.concatenate(list(sides), axis=1)


def layer_quality(parts: Iterable[Arrays]) -> dict[str, Any]:
    """Seam quality of the whole layer, from the counts of all shards."""
    totals: dict[int, NDArray[np.int64]] = {}
    for part in parts:
        for group, counts in zip(part["groups"].tolist(), part["counts"], strict=True):
            totals[group] = totals.get(group, 0) + counts
    return seam_quality(np.concatenate([np.zeros((0, 4), np.int64), *(totals[group] for group in sorted(totals))]))

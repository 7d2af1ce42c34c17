"""Seam quality of a layer: counts for each shard of the published pixels, added up and compared once.

The counts are those of the whole frames for any shards, since a shard reads a few pixels of its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellscale.metrics.straightness import RUN, lines_beside, seam_quality, straight_pixels
from cellscale.segmentation.plan import Run
from cellscale.segmentation.publish import Publication, label_slice
from cellscale.segmentation.records import Arrays, get
from cellscale.segmentation.work_items import RecordName, WorkItem
from cellscale.types import Box

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


def count_seams(publication: Publication, items: Sequence[WorkItem]) -> Arrays:
    """Count the border pixels of shards (plane, shard): rows of group and four counts, see `seam_quality`."""
    run, layer = publication.run, publication.layer
    pairs = seam_lines(run)
    per_plane = len(pairs[0]) + len(pairs[1])
    counts: dict[int, NDArray[np.int64]] = {}
    shards = layer.shards()
    for plane, shard in items if per_plane else ():
        box = shards[shard]
        seen = Box(max(0, box.y0 - RUN), max(0, box.x0 - RUN), box.y1, box.x1)
        t, z = label_slice(run, plane)
        labels = layer.read(seen, t=t, z=z)
        rows = _counted(labels, seen, box, pairs[0])
        columns = _counted(labels.T, _turned(seen), _turned(box), pairs[1])
        group = plane % max(1, GROUPS // per_plane)
        counts[group] = counts.get(group, 0) + np.concatenate([rows, columns])
    return {"groups": np.array(list(counts), np.int64), "counts": np.array(list(counts.values()), np.int64)}


def _turned(box: Box) -> Box:
    return Box(box.x0, box.y0, box.x1, box.y1)


def _counted(labels: NDArray[np.uint32], seen: Box, box: Box, pairs: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
    sides = (straight_pixels(labels, seen, box, [pair[side] for pair in pairs]) for side in (0, 1))
    return np.concatenate(list(sides), axis=1)


def layer_quality(run: Run, records: Sequence[RecordName]) -> dict[str, Any]:
    """Seam quality of the whole layer, from the records of these names: those of all shards."""
    totals: dict[int, NDArray[np.int64]] = {}
    for name in records:
        record = get(run.scratch, name.path)
        for group, counts in zip(record["groups"].tolist(), record["counts"], strict=True):
            totals[group] = totals.get(group, 0) + counts
    return seam_quality(np.concatenate([np.zeros((0, 4), np.int64), *(totals[group] for group in sorted(totals))]))

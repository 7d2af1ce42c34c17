"""Score the tracks of a layer against those of the ground truth: pixels are read shard by shard, rows are kept."""

from __future__ import annotations

import numpy as np

from cellscale.kernels.overlaps import label_areas
from cellscale.kernels.tables import grouped
from cellscale.linking.tables import overlap_sums
from cellscale.metrics.tracking import tracking_scores
from cellscale.ngff.labels import LabelLayer
from cellscale.progress import Progress, silent
from cellscale.tracking.lineage import lineage_of
from cellscale.types import Table


def score_tracks(
    found: LabelLayer,
    truth: LabelLayer,
    frames: range,
    *,
    parents: Table | None = None,
    on_progress: Progress = silent,
) -> dict[str, float]:
    """Score a tracked layer.

    Parameters
    ----------
    found, truth : LabelLayer
        The layer that is scored, and the ground truth, of equal size, see `open_pair`; their labels are tracks.
    frames : range
        The frames that are scored.
    parents : Table, optional
        track and parent of the ground truth; None: what its object table says.
    on_progress : callable
        Called with step, done and total.

    Returns
    -------
    dict
        See `tracking_scores`.
    """
    lineages = lineage_of(truth, frames, parents), lineage_of(found, frames)
    matches = []
    for done, t in enumerate(frames, 1):
        matches.append(_matches(found, truth, t))
        on_progress("score", done, len(frames))
    columns = np.concatenate(matches, axis=1)
    table = dict(zip(("frame", "truth", "found"), columns, strict=True))
    return tracking_scores(*lineages, table)


def _matches(found: LabelLayer, truth: LabelLayer, t: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Frame, marker and object of the markers that an object covers by more than half, (3, n)."""
    overlaps, areas = [], []
    for box in truth.shards():
        for z in range(truth.size("z")):
            markers = truth.read(box, t=t, z=z)
            overlaps.append(overlap_sums(markers, found.read(box, t=t, z=z)))
            areas.append(dict(zip(("label", "area"), label_areas(markers), strict=True)))
    pairs, markers_of = grouped(overlaps, ("a", "b")), grouped(areas, ("label",))
    area = markers_of["area"][np.searchsorted(markers_of["label"], pairs["a"])]
    held = 2 * pairs["pixels"] > area
    return np.stack([np.full(int(held.sum()), t), pairs["a"][held], pairs["b"][held]])

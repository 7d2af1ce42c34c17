"""Scores of label images: each frame is reduced to counts, counts add up, and scores are computed from the sums.

No frame is kept, so a time-lapse of any length needs the memory of one frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from functools import reduce
from typing import Any

from cellscale.kernels.arguments import check_equal_shapes, label_image
from cellscale.kernels.overlaps import overlap_table
from cellscale.kernels.tables import fragment_table, grouped, numbered
from cellscale.metrics.centroids import CentroidCounts, centroid_counts, centroid_scores
from cellscale.metrics.contours import HALO_PX, BoundaryCounts, boundary_counts, contour_scores
from cellscale.metrics.ctc import ChallengeCounts, challenge_counts, challenge_scores
from cellscale.metrics.detection import DetectionCounts, detection_counts, detection_scores
from cellscale.metrics.matching import MatchCounts, match_counts, match_scores
from cellscale.metrics.overlaps import overlaps_of
from cellscale.metrics.pixels import PixelCounts, pixel_counts, pixel_scores
from cellscale.types import Box, Labels, Table

TILE_PX = 2048
"""Side of the tiles in which a frame is counted, px."""


@dataclass(frozen=True, kw_only=True)
class FrameScores:
    """Counts of one frame or of several, which add up. The default is zero counts."""

    challenge: ChallengeCounts = field(default_factory=ChallengeCounts)
    """For SEG, DET, splits and merges."""
    matches: MatchCounts = field(default_factory=MatchCounts)
    """For precision, recall, F1, J, AP and PQ."""
    pixels: PixelCounts = field(default_factory=PixelCounts)
    """For AJI and Dice."""
    boundaries: BoundaryCounts = field(default_factory=BoundaryCounts)
    """For the F1 of contours."""
    detections: DetectionCounts = field(default_factory=DetectionCounts)
    """For CDS."""
    centroids: CentroidCounts = field(default_factory=CentroidCounts)
    """For Dice and mean squared error by nearest centroid."""


@dataclass(frozen=True, kw_only=True)
class Counted:
    """Sums over a box of a frame from which its scores follow; those of boxes that cover the frame add up."""

    pairs: Table
    """a, b (true and predicted label, 0 is background) and their common pixels."""
    truth: Table
    """One row for each true cell: label, area, sum_y, sum_x, y0, x0, y1, x1 in the frame."""
    predicted: Table
    """The same of predicted cells."""
    boundaries: BoundaryCounts


def counted(truth: Labels, prediction: Labels, *, seen: Box, core: Box) -> Counted:
    """Count a box of a frame.

    Parameters
    ----------
    truth, prediction : uint32 array, (y, x)
        Labels of `seen`.
    seen : Box
        The box and HALO_PX around it, clipped to the frame.
    core : Box
        The box, in the frame.
    """
    inner = core.within(seen)
    mine, other = truth[inner.slices], prediction[inner.slices]
    a, b, pixels = overlap_table(mine, other)
    tables = [_cells(labels, (core.y0, core.x0)) for labels in (mine, other)]
    boundaries = boundary_counts(truth, prediction, inner)
    return Counted(
        pairs={"a": a, "b": b, "pixels": pixels}, truth=tables[0], predicted=tables[1], boundaries=boundaries
    )


def _cells(labels: Labels, origin: tuple[int, int]) -> Table:
    ids, fragments = numbered(labels)
    table = fragment_table(fragments, len(ids), origin=origin, width=0)
    return {"label": ids, **{name: column for name, column in table.items() if name != "first"}}


def frame_scores_of(parts: Sequence[Counted]) -> FrameScores:
    """Compute the counts of one frame from those of boxes that cover it."""
    table = grouped([part.pairs for part in parts], ("a", "b"))
    truth = grouped([part.truth for part in parts], ("label",))
    predicted = grouped([part.predicted for part in parts], ("label",))
    pairs = overlaps_of(table["a"], table["b"], table["pixels"])
    wrong = table["pixels"][(table["a"] > 0) != (table["b"] > 0)]
    return FrameScores(
        challenge=challenge_counts(pairs),
        matches=match_counts(pairs),
        pixels=pixel_counts(pairs),
        boundaries=reduce(_sum, [part.boundaries for part in parts]),
        detections=detection_counts(truth, predicted, pairs),
        centroids=centroid_counts(truth, predicted, pairs, pixels=int(table["pixels"].sum()), wrong=int(wrong.sum())),
    )


def frame_scores(truth: Labels, prediction: Labels) -> FrameScores:
    """Compute the counts of one frame for its scores.

    Parameters
    ----------
    truth, prediction : integer array, (y, x)
        Label images of equal shape; at most 32,766 px a side.

    Raises
    ------
    InputError
        If one is not a label image, is too large, or the shapes differ.
    """
    true_labels, predicted_labels = label_image(truth, "truth"), label_image(prediction, "prediction")
    check_equal_shapes(true_labels, predicted_labels, "truth and prediction")
    whole = Box.of(true_labels.shape)
    return frame_scores_of([counted(true_labels, predicted_labels, seen=whole, core=whole)])


def tiled_scores(
    read: Callable[[Box], tuple[Labels, Labels]], shape: tuple[int, int], tile_px: int | None = None
) -> FrameScores:
    """Compute the counts of one frame tile by tile: the same counts as those of the whole frame.

    Parameters
    ----------
    read : callable
        Returns true and predicted labels of a box, uint32, (y, x).
    shape : tuple of int
        Height and width of the frame, px.
    tile_px : int
        Side of the tiles, px; None: TILE_PX. One is held at a time, and a row for each cell and pair of cells.
    """
    frame, side = Box.of(shape), tile_px or TILE_PX
    cores = [
        Box(y, x, y + side, x + side).clip(frame) for y in range(0, shape[0], side) for x in range(0, shape[1], side)
    ]
    seen = [core.grow(HALO_PX).clip(frame) for core in cores]
    return frame_scores_of([counted(*read(box), seen=box, core=core) for box, core in zip(seen, cores, strict=True)])


def _sum(a: Any, b: Any) -> Any:
    """Add two numbers, or number by number two tuples or two dataclasses of one shape."""
    if isinstance(a, tuple):
        return tuple(map(_sum, a, b))
    if isinstance(a, int | float):
        return a + b
    return type(a)(**{each.name: _sum(getattr(a, each.name), getattr(b, each.name)) for each in fields(a)})


def total(frames: Iterable[FrameScores]) -> FrameScores:
    """Add up the counts of frames, in their order."""
    return reduce(_sum, frames, FrameScores())


def summary(total: FrameScores) -> dict[str, float]:
    """Compute scores from counts.

    All cells of all frames have the same weight; scores are not averaged over frames.

    Returns
    -------
    dict
        `seg`, `det`; `precision`, `recall`, `f1`, `pq` at a Jaccard index above 0.5; `mean_matched_iou` (mean Jaccard
        index over matches), `mean_iou` (over true cells); `ap_50`, `ap_55`, … `ap_95` and their mean `ap`; `aji`,
        `dice`, alias `dsc`; `cds`, the cell detection score of cells matched by place and area; `pixel_error` of the
        masks; `cell_dice` and `cell_pixel_error`, by nearest centroid; `contour_f1_1` … `contour_f1_7`, by tolerance
        in px; the numbers `splits`,
        `merges`, `truth_cells` and `predicted_cells`. Where neither truth nor prediction has a cell, shares are 1;
        where only one has, 0. `seg`, `det`, `cell_dice` and `cell_pixel_error` are nan without a true cell.
    """
    return {
        **challenge_scores(total.challenge),
        **match_scores(total.matches),
        **pixel_scores(total.pixels),
        **contour_scores(total.boundaries),
        **detection_scores(total.detections),
        **centroid_scores(total.centroids),
    }


def scores(pairs: Iterable[tuple[Labels, Labels]]) -> dict[str, float]:
    """Score predictions frame by frame against the truth, all frames together; the scores are those of `summary`.

    Parameters
    ----------
    pairs : iterable of (truth, prediction)
        Label images, (y, x); taken one by one, none is kept.
    """
    return summary(total(frame_scores(truth, prediction) for truth, prediction in pairs))

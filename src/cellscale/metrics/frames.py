"""From label images to scores: each frame becomes counts, counts add up, and scores are made of the sums.

No frame is kept, so a time-lapse of any length needs the memory of one frame.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from functools import reduce
from typing import Any

from cellscale.kernels.arguments import check_equal_shapes, label_image
from cellscale.metrics.centroids import CentroidCounts, centroid_counts, centroid_scores
from cellscale.metrics.contours import RimCounts, contour_scores, rim_counts
from cellscale.metrics.ctc import ChallengeCounts, challenge_counts, challenge_scores
from cellscale.metrics.detection import DetectionCounts, detection_counts, detection_scores
from cellscale.metrics.matching import MatchCounts, match_counts, match_scores
from cellscale.metrics.overlaps import overlaps
from cellscale.metrics.pixels import PixelCounts, pixel_counts, pixel_scores
from cellscale.types import Labels


@dataclass(frozen=True, kw_only=True)
class FrameScores:
    """Counts of one frame, or of many: they add up. Without arguments, the counts of nothing."""

    challenge: ChallengeCounts = field(default_factory=ChallengeCounts)
    """For SEG, DET, splits and merges."""
    matches: MatchCounts = field(default_factory=MatchCounts)
    """For precision, recall, F1, J, AP and PQ."""
    pixels: PixelCounts = field(default_factory=PixelCounts)
    """For AJI and Dice."""
    rims: RimCounts = field(default_factory=RimCounts)
    """For the F1 of contours."""
    detections: DetectionCounts = field(default_factory=DetectionCounts)
    """For CDS."""
    centroids: CentroidCounts = field(default_factory=CentroidCounts)
    """For Dice and mean squared error by nearest centroid."""


def frame_scores(truth: Labels, prediction: Labels) -> FrameScores:
    """Count what the scores of one frame are made of.

    Parameters
    ----------
    truth, prediction : integer array, (y, x)
        Label images of equal shape; at most 32,766 px a side.

    Raises
    ------
    InputError
        If one is no label image, is too large, or the shapes differ.
    """
    true_labels, predicted_labels = label_image(truth, "truth"), label_image(prediction, "prediction")
    check_equal_shapes(true_labels, predicted_labels, "truth and prediction")
    pairs = overlaps(true_labels, predicted_labels)
    return FrameScores(
        challenge=challenge_counts(pairs),
        matches=match_counts(pairs),
        pixels=pixel_counts(pairs),
        rims=rim_counts(true_labels, predicted_labels),
        detections=detection_counts(true_labels, predicted_labels, pairs),
        centroids=centroid_counts(true_labels, predicted_labels, pairs),
    )


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
    """Make scores of counts.

    All cells of all frames count alike; no frame is averaged on its own.

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
        **contour_scores(total.rims),
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

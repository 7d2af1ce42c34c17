"""The scores of a segmentation as one value."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Self

from cellscale.metrics.frames import FrameScores, summary


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores of all cells of all frames together, see `metrics.summary` for those without a cell."""

    frames: int
    """Number of frames."""
    seg: float
    """SEG of the Cell Tracking Challenge: mean Jaccard index over true cells, 0 for those less than half covered."""
    det: float
    """DET of the Cell Tracking Challenge: 1 less the cost of detection errors over that of detecting nothing."""
    splits: int
    """Number of true cells with at least two predictions that lie mostly inside."""
    merges: int
    """Number of predictions that cover most of at least two true cells."""
    precision: float
    """Share of predicted cells that match a true cell at a Jaccard index above 0.5."""
    recall: float
    """Share of true cells that are matched."""
    f1: float
    """Harmonic mean of precision and recall."""
    mean_matched_iou: float
    """Mean Jaccard index over matches."""
    mean_iou: float
    """Mean Jaccard index over true cells, 0 for those without a match."""
    ap_50: float
    """Average precision TP / (TP + FP + FN), at a Jaccard index above 0.5."""
    ap_55: float
    """The same at a Jaccard index of at least 0.55."""
    ap_60: float
    """The same at a Jaccard index of at least 0.60."""
    ap_65: float
    """The same at a Jaccard index of at least 0.65."""
    ap_70: float
    """The same at a Jaccard index of at least 0.70."""
    ap_75: float
    """The same at a Jaccard index of at least 0.75."""
    ap_80: float
    """The same at a Jaccard index of at least 0.80."""
    ap_85: float
    """The same at a Jaccard index of at least 0.85."""
    ap_90: float
    """The same at a Jaccard index of at least 0.90."""
    ap_95: float
    """The same at a Jaccard index of at least 0.95."""
    ap: float
    """Mean of `ap_50` … `ap_95`."""
    pq: float
    """Panoptic quality: F1 · mean Jaccard index over matches."""
    truth_cells: int
    """Number of true cells."""
    predicted_cells: int
    """Number of predicted cells."""
    aji: float
    """Aggregated Jaccard index."""
    dice: float
    """Dice coefficient of the masks."""
    dsc: float
    """The same as `dice`."""
    contour_f1_1: float
    """F1 of boundary pixels within 1 px of one another."""
    contour_f1_2: float
    """F1 of boundary pixels within 2 px of one another."""
    contour_f1_3: float
    """F1 of boundary pixels within 3 px of one another."""
    contour_f1_4: float
    """F1 of boundary pixels within 4 px of one another."""
    contour_f1_5: float
    """F1 of boundary pixels within 5 px of one another."""
    contour_f1_6: float
    """F1 of boundary pixels within 6 px of one another."""
    contour_f1_7: float
    """F1 of boundary pixels within 7 px of one another."""
    cds: float
    """Cell detection score of cells matched by place and area."""
    pixel_error: float
    """Share of pixels in which the masks differ."""
    cell_dice: float
    """Mean over true cells of the Dice coefficient with the prediction of the nearest centroid."""
    cell_pixel_error: float
    """Mean over true cells of the pixel error with that prediction."""

    @classmethod
    def of(cls, frames: int, total: FrameScores) -> Self:
        """Compute scores from the counts of this number of frames."""
        found: dict[str, Any] = summary(total)
        return cls(frames=frames, **found)

    def to_dict(self) -> dict[str, float]:
        """Return the scores by name; those that are not defined are nan."""
        return dataclasses.asdict(self)

"""F1 of contours: predicted boundary pixels near a true boundary pixel, and the reverse.

A boundary pixel is a cell pixel with a 4-neighbour of another label, background included; the border of the image
is not a neighbour.

Sources: F. A. Guerrero-Peña et al., Multiclass weighted loss for instance segmentation of cluttered cells, 2018 (F1
over radii of uncertainty); G. Csurka et al., What is a good evaluation measure for semantic segmentation?, 2013 (both
shares by distance, without assignment).
"""

from __future__ import annotations

from dataclasses import dataclass

from cellscale.kernels.distances.transform import distance_transform
from cellscale.kernels.touching import boundary_pixels
from cellscale.metrics.ratios import harmonic_mean, ratio
from cellscale.types import Box, Labels, Mask

RADII = tuple(range(1, 8))
"""Tolerances, px."""
HALO_PX = max(RADII) + 1
"""Margin of a box that counts depend on, px: to the farthest boundary pixel, and to that pixel's neighbours."""


@dataclass(frozen=True, kw_only=True)
class BoundaryCounts:
    """Counts of boundary pixels that add up over frames."""

    truth: int = 0
    """Boundary pixels of true cells."""
    predicted: int = 0
    """Boundary pixels of predicted cells."""
    truth_near: tuple[int, ...] = (0,) * len(RADII)
    """Those of true cells within each radius of a predicted boundary pixel."""
    predicted_near: tuple[int, ...] = (0,) * len(RADII)
    """Those of predicted cells within each radius of a true boundary pixel."""


def _near(boundary: Mask, other: Mask, core: Box) -> tuple[int, ...]:
    """Count the boundary pixels in a box within each radius (Euclidean, centre to centre) of another boundary."""
    squared = distance_transform(~other, squared=True)[core.slices][boundary[core.slices]]
    return tuple(int((squared <= radius**2).sum()) for radius in RADII)


def boundary_counts(truth: Labels, prediction: Labels, core: Box | None = None) -> BoundaryCounts:
    """Count one frame's boundary pixels, and those near the other boundary.

    Parameters
    ----------
    truth, prediction : uint32 array, (y, x)
        Labels of a frame, or of a box of it with HALO_PX around it.
    core : Box
        The pixels that are counted; None: all.
    """
    counted = core or Box.of(truth.shape)
    true_boundary, predicted_boundary = boundary_pixels(truth), boundary_pixels(prediction)
    return BoundaryCounts(
        truth=int(true_boundary[counted.slices].sum()),
        predicted=int(predicted_boundary[counted.slices].sum()),
        truth_near=_near(true_boundary, predicted_boundary, counted),
        predicted_near=_near(predicted_boundary, true_boundary, counted),
    )


def contour_scores(counts: BoundaryCounts) -> dict[str, float]:
    """Harmonic mean of both shares at each radius as `contour_f1_1` … `contour_f1_7`.

    Without any boundary it is 1; with only one of them, 0.
    """
    empty = float(counts.truth + counts.predicted == 0)
    return {
        f"contour_f1_{radius}": harmonic_mean(
            ratio(predicted, counts.predicted, empty=empty), ratio(truth, counts.truth, empty=empty)
        )
        for radius, truth, predicted in zip(RADII, counts.truth_near, counts.predicted_near, strict=True)
    }

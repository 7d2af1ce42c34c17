"""Post-processing of a mask: fill small holes, drop small segments, cut cells at short necks.

Holes and segments of at most a px are decided within a px around them; basins by steepest descent are local. Which
basins are one cell is decided on the tables of the whole frame.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellscale.kernels.tables import WALL
from cellscale.kernels.touching import assign_touching
from cellscale.kernels.watershed import (
    LEVELS_PER_PX,
    basins,
    inner_distance,
    joined_long,
    joined_shallow,
    remove_small_holes,
    remove_small_objects,
)
from cellscale.methods.parts.decoding import fragments, renumbered
from cellscale.settings.fields import setting
from cellscale.types import Box, Fragments, Mask, Table


@dataclass(frozen=True, kw_only=True)
class Postprocessing:
    """The post-processing of Torr et al. (2020); 0 omits a step. The paper does not state its numbers."""

    fill_holes_px: int = 0
    """Holes of at most this area are filled, px."""
    min_object_px: int = 0
    """Segments smaller than this are dropped before touching pixels are assigned, px."""
    split_neck_px: int = 0
    """Cells are cut where the basins of two centres share fewer pixel pairs than this; fitted by `calibrate`."""
    cap: int = 16
    """Cap of the distance from a cell's boundary inside the cell, px; at most 31."""
    prominence: float = 1.0
    """Distance by which a centre must be farther from the boundary than its pass to a deeper centre, px."""
    minimum_confidence: float = setting(0.0, before=0.0, most=1.0)
    """Objects whose pixels have a smaller mean probability are dropped: debris and splinters; 0: none; fitted by
    `calibrate` where it is not 0; not in the papers."""
    minimum_peak: float = setting(0.0, before=0.0, most=1.0)
    """Objects whose most probable pixel has a smaller probability are dropped: a small cell, which is mostly uncertain
    border, is kept for its centre; 0: none; fitted by `calibrate` where it is not 0; not in the papers."""

    @property
    def _largest_speck(self) -> int:
        """Area of the largest segment that is dropped, px."""
        return max(self.min_object_px - 1, 0)

    @property
    def reach(self) -> int:
        """Radius on which basins, filled holes and dropped segments depend, px: a pixel's height cap − 1, its link 1.

        Outside the exact region heights can only be too low: a link to them leaves the box and is not followed.
        """
        return self.fill_holes_px + self._largest_speck + (max(self.cap - 1, 1) if self.split_neck_px else 0)

    def filled(self, cells: Mask) -> Mask:
        """Fill small holes."""
        return remove_small_holes(cells, self.fill_holes_px)

    def fragments(
        self, cells: Mask, touching: Mask, radius: int, valid: Box, probability: NDArray[np.uint8]
    ) -> Fragments:
        """Basins, or components where nothing is cut; touching pixels go to the nearest.

        Parameters
        ----------
        cells, touching : bool array, (y, x)
            Disjoint masks of a region, exact within `radius` + max(`cap` − 1, 1) + `min_object_px` px of the valid box.
        radius : int
            Touching pixels farther than this from any cell become background, px.
        valid : Box
            The part of the region whose fragments are returned.
        probability : uint8 array, (y, x)
            Stored probability of a cell in the region.
        """
        evidence = probability[valid.slices] if self.minimum_confidence or self.minimum_peak else None
        solid = remove_small_objects(cells, self._largest_speck)
        around = valid.grow(radius).clip(Box.of(cells.shape))
        near, inner = touching[around.slices], valid.within(around)
        if self.split_neck_px == 0:
            return replace(fragments(solid[around.slices], near, radius, inner), probability=evidence)
        heights = np.where(touching, np.uint8(WALL), inner_distance(solid, cap=self.cap))
        found, _ = basins(heights, solid, box=around)
        assigned = assign_touching(found, near, radius=radius)
        return Fragments(labels=renumbered(assigned[inner.slices]), relief=heights[valid.slices], probability=evidence)

    def merge_objects(self, nodes: Table, edges: Table, minimum_area: int) -> NDArray[np.int64]:
        """Join the basins of one centre, then those with a long common border; drop small and doubtful objects."""
        groups = np.arange(len(nodes["area"]))
        if self.split_neck_px:
            centres = joined_shallow(nodes, edges, depth=math.ceil(LEVELS_PER_PX * self.prominence))
            groups = joined_long(centres, edges, length=self.split_neck_px)
        area = np.zeros(len(groups), np.int64)
        np.add.at(area, groups, nodes["area"])
        kept = area >= minimum_area
        if self.minimum_confidence:
            # Sums of whole numbers do not depend on tiles; the comparison is one rounding of one product.
            total = np.zeros(len(groups), np.int64)
            np.add.at(total, groups, nodes["probability"])
            kept &= total >= 255 * self.minimum_confidence * area
        if self.minimum_peak:
            peak = np.zeros(len(groups), np.int64)
            np.maximum.at(peak, groups, nodes["peak"])
            kept &= peak >= 255 * self.minimum_peak
        return np.where(kept[groups], groups, -1)

    def choices(self) -> dict[str, Sequence[Any]]:
        """Candidate settings to try on validation frames, of the steps that are in use."""
        found: dict[str, Sequence[Any]] = {}
        if self.split_neck_px:
            found["postprocessing.split_neck_px"] = (4, 8, 12, 16, 24)
        if self.minimum_confidence:
            found["postprocessing.minimum_confidence"] = (0.6, 0.7, 0.75, 0.8, 0.85)
        if self.minimum_peak:
            found["postprocessing.minimum_peak"] = (0.8, 0.9, 0.95, 0.97)
        return found

    def together_with(self, *thresholds: str) -> tuple[str, ...]:
        """Settings to search in all combinations with thresholds; none if these need no such search.

        While a limit of an initial model drops every cell of other images, no threshold is better than another.
        """
        limits = [name for name in ("minimum_confidence", "minimum_peak") if getattr(self, name)]
        return (*thresholds, *(f"postprocessing.{name}" for name in limits)) if limits else ()

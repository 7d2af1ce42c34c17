"""Objects of the slices of a frame become 3-D objects, on tables of whole numbers.

Two objects of neighbouring slices are one if their overlap is large enough and each is the other's best match. Cellpose
stitches slices by a like rule; there it is enough that the lower one has no better match. An object has at most one
partner above and one below, so that touching cells never merge through a third one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cellscale.errors import InputError
from cellscale.kernels.unions import merge
from cellscale.types import Table


@dataclass(frozen=True, kw_only=True)
class SliceRules:
    """Rules by which objects of neighbouring slices are joined."""

    threshold: float = 0.25
    """Least overlap of two objects that are joined, 0 … 1."""
    measure: Literal["iou", "smaller"] = "iou"
    """Overlap as a share of both objects together, or of the smaller one."""
    max_gap: int = 0
    """Most slices in a row in which an object may be missing."""

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise InputError(f"The threshold between slices is {self.threshold}; expected more than 0, up to 1.")
        if self.measure not in ("iou", "smaller"):
            raise InputError(f"{self.measure!r} is not a valid measure of overlap; expected 'iou' or 'smaller'.")
        if self.max_gap < 0:
            raise InputError(f"The largest gap is {self.max_gap} slices; expected 0 or more.")


def join_slices(
    areas: NDArray[np.int64], slices: NDArray[np.int64], overlaps: Table, rules: SliceRules
) -> NDArray[np.int64]:
    """Join the objects of a frame's slices.

    Parameters
    ----------
    areas, slices : int64 array, (n,)
        Area (px) and slice of each object, in the order of slices.
    overlaps : Table
        a, b (rows of objects, a in the lower slice) and their common pixels, of slices up to `max_gap` + 1 apart.
    rules : SliceRules
        The rules.

    Returns
    -------
    int64 array, (n,)
        Numbers 1, 2, … of the 3-D objects, in the order of their first objects.
    """
    above, below = np.full(len(areas), -1, np.int64), np.full(len(areas), -1, np.int64)
    furthest = int(np.ptp(slices)) if len(slices) else 0
    for apart in range(1, min(rules.max_gap + 1, furthest) + 1):
        a, b, pixels = (overlaps[name] for name in ("a", "b", "pixels"))
        kept = (slices[b] - slices[a] == apart) & (above[a] < 0) & (below[b] < 0)
        a, b, pixels = a[kept], b[kept], pixels[kept]
        both = np.minimum(areas[a], areas[b]) if rules.measure == "smaller" else areas[a] + areas[b] - pixels
        share = pixels / both
        enough = share >= rules.threshold
        a, b, share = a[enough], b[enough], share[enough]
        mutual = _best(a, b, share) & _best(b, a, share)
        above[a[mutual]], below[b[mutual]] = b[mutual], a[mutual]
    joined = np.flatnonzero(above >= 0)
    roots = merge(len(areas), np.stack([joined, above[joined]], axis=1))
    numbers: NDArray[np.int64] = np.unique(roots, return_inverse=True)[1].reshape(-1).astype(np.int64) + 1
    return numbers


def _best(of: NDArray[np.int64], other: NDArray[np.int64], share: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether each pair has the greatest share of all pairs with `of`; of equal ones, the first `other`."""
    order = np.lexsort((other, -share, of))
    best = np.zeros(len(of), bool)
    best[order[np.concatenate([np.ones(min(1, len(of)), bool), np.diff(of[order]) != 0])]] = True
    return best

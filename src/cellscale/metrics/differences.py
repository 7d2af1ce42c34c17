"""What became of each cell: right, missed, split, merged or spurious.

A predicted cell that covers more than half of several true cells merges them. A true cell in which several predicted
cells have more than half of their area is split into them. Of the others, pairs with a Jaccard index above one half are
right; the true cells that are left are missed, the predicted ones spurious. Whole numbers decide.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cellscale.metrics.overlaps import overlaps
from cellscale.types import Labels

RIGHT, MISSED, SPLIT, MERGED, SPURIOUS = range(1, 6)
"""Fates; 0 is background."""
NAMES = {RIGHT: "right", MISSED: "missed", SPLIT: "split", MERGED: "merged", SPURIOUS: "spurious"}


@dataclass(frozen=True, kw_only=True)
class Differences:
    """The fates of one frame's cells."""

    pixels: NDArray[np.uint8]
    """(y, x): the fate of the predicted cell of a pixel; where there is none, of the true cell."""
    counts: Mapping[str, int]
    """True cells by fate, and spurious predicted cells."""


def _several(cells: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
    """Which of `count` cells are named more than once."""
    return np.bincount(cells, minlength=count) > 1


def _painted(labels: Labels, fates: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The fate of the cell of each pixel; fates are in ascending order of the labels."""
    numbers, places = np.unique(labels, return_inverse=True)
    background = np.zeros(numbers.size - fates.size, np.uint8)
    painted: NDArray[np.uint8] = np.concatenate([background, fates])[places].reshape(labels.shape)
    return painted


def differences(truth: Labels, prediction: Labels) -> Differences:
    """Find what became of the cells of a frame.

    Parameters
    ----------
    truth, prediction : uint32 array, (y, x)
        Label images of equal shape.
    """
    pairs = overlaps(truth, prediction)
    true, found = pairs.truth_areas.size, pairs.predicted_areas.size
    covering = _several(pairs.predicted[pairs.covers_truth], found)[pairs.predicted] & pairs.covers_truth
    parting = _several(pairs.truth[pairs.inside_truth], true)[pairs.truth] & pairs.inside_truth
    right = 2 * pairs.shared > pairs.united
    true_fates, found_fates = np.full(true, MISSED, np.uint8), np.full(found, SPURIOUS, np.uint8)
    for chosen, fate in ((right, RIGHT), (parting, SPLIT), (covering, MERGED)):
        true_fates[pairs.truth[chosen]] = fate
        found_fates[pairs.predicted[chosen]] = fate
    counts = {NAMES[fate]: int((true_fates == fate).sum()) for fate in (RIGHT, MISSED, SPLIT, MERGED)}
    return Differences(
        pixels=np.where(prediction > 0, _painted(prediction, found_fates), _painted(truth, true_fates)),
        counts=counts | {NAMES[SPURIOUS]: int((found_fates == SPURIOUS).sum())},
    )

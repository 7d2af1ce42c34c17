"""Outcome of each cell: true positive, false negative, split, merged or false positive.

A predicted cell that covers more than half of several true cells merges them. A true cell in which several predicted
cells have more than half of their area is split into them. Of the others, pairs with a Jaccard index above one half are
true positives; the remaining true cells are false negatives, the remaining predicted ones false positives. All
comparisons are made in whole numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cellscale.metrics.overlaps import overlaps
from cellscale.types import Labels

TRUE_POSITIVE, FALSE_NEGATIVE, SPLIT, MERGED, FALSE_POSITIVE = range(1, 6)
"""Outcomes; 0 is background."""
NAMES = {
    TRUE_POSITIVE: "true positive",
    FALSE_NEGATIVE: "false negative",
    SPLIT: "split",
    MERGED: "merged",
    FALSE_POSITIVE: "false positive",
}


@dataclass(frozen=True, kw_only=True)
class Differences:
    """The outcomes of one frame's cells."""

    pixels: NDArray[np.uint8]
    """(y, x): the outcome of the predicted cell of a pixel; without one, of the true cell."""
    counts: Mapping[str, int]
    """Number of true cells by outcome, and of false positives."""


def _several(cells: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
    """Mark the cells, of `count`, that are named more than once."""
    return np.bincount(cells, minlength=count) > 1


def _painted(labels: Labels, outcomes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The outcome of the cell of each pixel; `outcomes` are in ascending order of the labels."""
    numbers, places = np.unique(labels, return_inverse=True)
    background = np.zeros(numbers.size - outcomes.size, np.uint8)
    painted: NDArray[np.uint8] = np.concatenate([background, outcomes])[places].reshape(labels.shape)
    return painted


def differences(truth: Labels, prediction: Labels) -> Differences:
    """Compare the cells of a frame with the ground truth.

    Parameters
    ----------
    truth, prediction : uint32 array, (y, x)
        Label images of equal shape.
    """
    pairs = overlaps(truth, prediction)
    true, found = pairs.truth_areas.size, pairs.predicted_areas.size
    covering = _several(pairs.predicted[pairs.covers_truth], found)[pairs.predicted] & pairs.covers_truth
    parting = _several(pairs.truth[pairs.inside_truth], true)[pairs.truth] & pairs.inside_truth
    correct = 2 * pairs.shared > pairs.united
    true_outcomes, found_outcomes = np.full(true, FALSE_NEGATIVE, np.uint8), np.full(found, FALSE_POSITIVE, np.uint8)
    for chosen, outcome in ((correct, TRUE_POSITIVE), (parting, SPLIT), (covering, MERGED)):
        true_outcomes[pairs.truth[chosen]] = outcome
        found_outcomes[pairs.predicted[chosen]] = outcome
    counts = {
        NAMES[outcome]: int((true_outcomes == outcome).sum())
        for outcome in (TRUE_POSITIVE, FALSE_NEGATIVE, SPLIT, MERGED)
    }
    return Differences(
        pixels=np.where(prediction > 0, _painted(prediction, found_outcomes), _painted(truth, true_outcomes)),
        counts=counts | {NAMES[FALSE_POSITIVE]: int((found_outcomes == FALSE_POSITIVE).sum())},
    )

"""Each cell's fate, against a plain loop over cells."""

from __future__ import annotations

import numpy as np
import pytest

from cellscale.metrics.differences import FALSE_NEGATIVE, FALSE_POSITIVE, MERGED, SPLIT, TRUE_POSITIVE, differences
from cellscale.testing.naive.metrics import outcomes
from cellscale.types import Labels
from tests.metrics.damage import damaged, scattered


def frame(*boxes: tuple[int, int, int, int]) -> Labels:
    labels = np.zeros((20, 30), np.uint32)
    for number, (y0, x0, y1, x1) in enumerate(boxes, 1):
        labels[y0:y1, x0:x1] = 7 * number
    return labels


TWO = frame((2, 2, 8, 8), (2, 9, 8, 15))
CASES = {
    "the same": (TWO, TWO, {"true positive": 2}, TRUE_POSITIVE),
    "nothing found": (TWO, frame(), {"false negative": 2}, FALSE_NEGATIVE),
    "nothing there": (frame(), TWO, {"false positive": 2}, FALSE_POSITIVE),
    "merged": (TWO, frame((2, 2, 8, 15)), {"merged": 2}, MERGED),
    "split": (frame((2, 2, 8, 15)), TWO, {"split": 1}, SPLIT),
    "a small cell swallowed": (frame((2, 2, 8, 14), (2, 14, 8, 16)), frame((2, 2, 8, 16)), {"merged": 2}, MERGED),
    "a crumb beside a good cell": (frame((2, 2, 8, 14)), frame((2, 2, 8, 12), (2, 12, 8, 14)), {"split": 1}, SPLIT),
}


@pytest.mark.parametrize("case", sorted(CASES))
def test_named_cases(case: str) -> None:
    truth, prediction, counts, fate = CASES[case]
    found = differences(truth, prediction)
    assert {name: count for name, count in found.counts.items() if count} == counts
    assert found.pixels[3, 3] == fate


@pytest.mark.parametrize("seed", range(12))
def test_the_plain_loop_agrees(seed: int) -> None:
    truth = scattered(seed)
    prediction = damaged(truth, seed)
    assert np.array_equal(differences(truth, prediction).pixels, outcomes(truth, prediction))

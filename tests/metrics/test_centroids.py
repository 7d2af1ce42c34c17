import math

import numpy as np
import pytest

from cellscale.metrics import scores
from cellscale.testing.cases import disc, painted

SHAPE = (60, 100)


def test_a_perfect_prediction_has_no_error() -> None:
    truth = painted(disc(SHAPE, 30, 25, 12), disc(SHAPE, 30, 55, 12))
    found = scores([(truth, truth * 7)])
    assert (found["cell_dice"], found["cell_pixel_error"], found["pixel_error"]) == (1, 0, 0)


def test_a_shifted_square() -> None:
    """16 × 16 px moved by 4: Dice 3/4, 128 wrong pixels of the 16 × 20 around both."""
    truth, prediction = np.zeros(SHAPE, np.uint32), np.zeros(SHAPE, np.uint32)
    truth[10:26, 10:26], prediction[10:26, 14:30] = 1, 1
    found = scores([(truth, prediction)])
    assert found["cell_dice"] == pytest.approx(0.75)
    assert found["cell_pixel_error"] == pytest.approx(128 / 320)
    assert found["pixel_error"] == pytest.approx(128 / truth.size)


def test_a_merged_pair_is_compared_with_the_whole_merge() -> None:
    truth = np.zeros(SHAPE, np.uint32)
    truth[10:20, 10:30], truth[10:20, 30:50] = 1, 2
    found = scores([(truth, (truth > 0).astype(np.uint32))])
    assert found["cell_dice"] == pytest.approx(2 * 200 / 600)
    assert found["cell_pixel_error"] == pytest.approx(0.5)
    assert found["dice"] == 1


def test_without_a_prediction_a_cell_is_all_error() -> None:
    truth = painted(disc(SHAPE, 30, 25, 12))
    found = scores([(truth, np.zeros_like(truth))])
    assert found["cell_dice"] == 0
    assert found["cell_pixel_error"] == pytest.approx((truth > 0).sum() / 25**2)
    assert math.isnan(scores([(np.zeros_like(truth), truth)])["cell_dice"])

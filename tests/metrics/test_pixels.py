import numpy as np
import pytest

from cellscale.metrics import scores


def row(*values: int) -> np.ndarray:
    return np.array([values], np.uint32)


def test_dice_sees_the_foreground_only() -> None:
    assert scores([(row(1, 1, 2, 2, 0), row(0, 7, 7, 7, 7))])["dice"] == pytest.approx(6 / 8)


def test_two_cells_may_share_their_best_prediction() -> None:
    assert scores([(row(1, 1, 2, 2), row(3, 3, 3, 3))])["aji"] == pytest.approx((2 + 2) / (4 + 4))


def test_missed_cells_and_spare_predictions_enlarge_the_union() -> None:
    assert scores([(row(1, 1, 0, 2, 2), row(4, 4, 5, 0, 0))])["aji"] == pytest.approx(2 / (2 + 2 + 1))


def test_equally_good_predictions_are_decided_by_the_lower_number() -> None:
    assert scores([(row(1, 1, 0, 0), row(6, 5, 0, 0))])["aji"] == pytest.approx(1 / (2 + 1))

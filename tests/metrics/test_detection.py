import numpy as np
import pytest

from cellscale.metrics import scores
from cellscale.testing.cases import disc, painted

SHAPE = (60, 100)


def score(truth, prediction):
    return scores([(truth, prediction)])["cds"]


def test_a_merge_costs_two_missed_cells_and_one_false() -> None:
    truth = painted(disc(SHAPE, 30, 25, 12), disc(SHAPE, 30, 48, 12))
    assert score(truth, truth) == 1
    assert score(truth, (truth > 0).astype(np.uint32)) == 0


@pytest.mark.parametrize(("shift", "found"), [(0, 1), (5, 1), (6, 0)])
def test_centroids_match_within_half_the_radius(shift, found) -> None:
    truth, prediction = painted(disc(SHAPE, 30, 40, 12)), painted(disc(SHAPE, 30, 40 + shift, 12))
    assert score(truth, prediction) == found


@pytest.mark.parametrize(("rows", "found"), [(9, 0), (10, 1), (20, 1), (40, 1), (41, 0)])
def test_areas_match_up_to_a_factor_of_two(rows, found) -> None:
    truth, prediction = np.zeros((81, 90), np.uint32), np.zeros((81, 90), np.uint32)
    truth[30:50, 5:85] = 3
    prediction[40 - rows // 2 : 40 - rows // 2 + rows, 5:85] = 8
    assert score(truth, prediction) == found


def test_each_cell_matches_once() -> None:
    """Both halves of a cell are near enough and large enough; only one of them is the cell."""
    truth, halves = np.zeros((20, 40), np.uint32), np.zeros((20, 40), np.uint32)
    truth[2:18, 4:20] = 1
    halves[2:10, 4:20], halves[10:18, 4:20] = 1, 2
    assert score(truth, halves) == pytest.approx(2 / 3)
    assert score(halves, truth) == 0

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from cellscale.kernels.touching import boundary_pixels
from cellscale.metrics import scores
from cellscale.testing import cases
from cellscale.testing.naive.metrics import boundary
from cellscale.types import Labels


@settings(deadline=None)
@given(arrays(np.uint32, array_shapes(min_dims=2, max_dims=2, max_side=8), elements=st.integers(0, 3)))
def test_rims_are_cell_pixels_beside_another_label(labels: Labels) -> None:
    assert np.array_equal(np.argwhere(boundary_pixels(labels)), boundary(labels))


def test_touching_cells_have_a_boundary_between_them_and_none_at_the_border_of_the_image() -> None:
    labels = np.repeat([[1, 1, 1, 2, 2, 2]], 4, axis=0).astype(np.uint32)
    assert boundary_pixels(labels).sum(axis=0).tolist() == [0, 0, 4, 4, 0, 0]


@pytest.mark.parametrize("shift", range(1, 8))
def test_a_line_counts_from_its_own_distance_on(shift: int) -> None:
    truth, prediction = np.zeros((30, 12), np.uint32), np.zeros((30, 12), np.uint32)
    truth[3], prediction[3 + shift] = 1, 1
    found = scores([(truth, prediction)])
    assert [found[f"contour_f1_{radius}"] for radius in range(1, 8)] == [float(r >= shift) for r in range(1, 8)]


def test_both_directions_count() -> None:
    truth = cases.two_touching()
    one = np.where(truth == 1, truth, 0).astype(np.uint32)
    more, less = scores([(truth, one)]), scores([(one, truth)])
    assert more["contour_f1_1"] == pytest.approx(less["contour_f1_1"])
    assert 0.5 < more["contour_f1_1"] < 1.0

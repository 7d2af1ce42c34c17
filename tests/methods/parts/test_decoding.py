from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from cellscale.methods.parts.decoding import above, contact_pixels, fragments, gaps, large_enough, renumbered
from cellscale.types import Box, Labels


@given(st.integers(0, 255), st.integers(0, 100))
def test_a_threshold_compares_as_real_numbers_do(value: float, percent: int) -> None:
    assert above(np.array([[value]], np.uint8), percent / 100)[0, 0] == (100 * value > 255 * percent)


def drawn(picture: Any) -> NDArray[np.uint32]:
    """Label image from rows of digits."""
    return np.array([[int(c) for c in row] for row in picture.split()], np.uint32)


def test_gaps_of_one_and_two_pixels_are_found_and_the_frame_border_is_none() -> None:
    cells = drawn("11011001100 11011001100 11011001100 11011001100 11011001100") > 0
    assert np.array_equal(np.flatnonzero(gaps(cells)[2]), [2, 5, 6])
    assert not gaps(cells)[:, 9:].any()


def test_contact_pixels_are_those_at_another_cell() -> None:
    assert np.array_equal(contact_pixels(drawn("11220 11220 11220"))[1], [False, True, True, False, False])


def test_touching_pixels_go_to_the_nearest_cell_and_far_ones_to_none() -> None:
    row = np.array([[1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0]], bool)
    touching = np.array([[0, 0, 1, 1, 1, 0, 0, 1, 1, 1, 1, 0]], bool)
    found = fragments(row, touching, 2, Box(0, 0, 1, 12)).labels
    assert found.tolist() == [[1, 1, 1, 1, 2, 2, 2, 2, 2, 0, 0, 0]]


def test_a_pixel_of_both_masks_is_touching() -> None:
    cells = np.ones((1, 5), bool)
    touching = np.array([[0, 0, 1, 0, 0]], bool)
    assert fragments(cells, touching, 1, Box(0, 0, 1, 5)).labels.tolist() == [[1, 1, 1, 2, 2]]


def test_fragments_keep_links_outside_the_valid_box() -> None:
    cells = drawn("101 111") > 0
    assert fragments(cells, np.zeros_like(cells), 1, Box(0, 0, 1, 3)).labels.tolist() == [[1, 0, 1]]


def test_diagonal_neighbours_are_two_cells() -> None:
    cells = drawn("10 01") > 0
    assert fragments(cells, np.zeros_like(cells), 1, Box(0, 0, 2, 2)).labels.tolist() == [[1, 0], [0, 2]]


@pytest.mark.parametrize(("labels", "wanted"), [([[0, 7, 3]], [[0, 2, 1]]), ([[0, 0]], [[0, 0]]), ([[5, 5]], [[1, 1]])])
def test_renumbering_leaves_no_gaps(labels: Labels, wanted: Any) -> None:
    assert renumbered(np.array(labels, np.int32)).tolist() == wanted


def test_objects_below_the_minimum_area_are_dropped() -> None:
    assert large_enough({"area": np.array([5, 4, 9])}, 5).tolist() == [0, -1, 2]

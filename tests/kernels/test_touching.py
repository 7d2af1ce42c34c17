import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from skimage.segmentation import expand_labels

from cellscale.errors import InputError
from cellscale.kernels.touching import (
    assign_touching,
    contact_regions,
    grown_through,
    separated,
    touching_classes,
)
from cellscale.testing.cases import CASES
from cellscale.testing.naive import neighbourhoods as naive
from cellscale.testing.naive.distances import nearest_label
from cellscale.testing.strategies import label_images


@given(label_images())
def test_separated_labels_are_never_8_adjacent(labels) -> None:
    found = separated(labels)
    assert np.array_equal(found, naive.separated(labels))
    assert np.array_equal(separated(found), found)
    around = [naive.around(found, y, x) for y, x in zip(*np.nonzero(found), strict=True)]
    assert all(len(np.unique(square[square > 0])) == 1 for square in around)


@given(label_images())
def test_classes_are_those_of_algorithm_1(labels) -> None:
    found = touching_classes(labels)
    assert found.dtype == np.uint8
    assert np.array_equal(found, naive.touching_classes(labels))


@pytest.mark.parametrize("case", CASES)
def test_classes_are_those_of_scipy_far_from_the_border(case) -> None:
    square = np.ones((3, 3), bool)
    cells = np.pad(separated(CASES[case]) > 0, 3)
    touching = ndimage.binary_dilation(ndimage.binary_closing(cells, square) & ~cells, square)
    assert np.array_equal(touching_classes(CASES[case]), np.where(touching, 2, cells)[3:-3, 3:-3])


def test_cells_that_touch_have_a_touching_class_and_the_border_has_none() -> None:
    assert (touching_classes(CASES["two touching"]) == 2).any()
    beside_the_border = np.zeros((8, 8), int)
    beside_the_border[1:7, 1:7] = 1
    assert set(np.unique(touching_classes(beside_the_border))) == {0, 1}


@given(label_images(), st.sampled_from([1.0, 3.0, 5.5]))
def test_within_a_distance_gaps_have_two_cells(labels, within) -> None:
    assert np.array_equal(touching_classes(labels, within=within), naive.touching_classes(labels, within))


def test_a_notch_of_one_cell_is_not_touching() -> None:
    labels = np.zeros((20, 40), np.uint32)
    labels[4:16, 4:16], labels[4:16, 17:29] = 1, 2
    labels[10, 4] = 0
    printed, found = touching_classes(labels) == 2, touching_classes(labels, within=3) == 2
    assert printed[10, 4]
    assert not found[:, :14].any()
    assert np.array_equal(found[:, 14:], printed[:, 14:])
    assert found[10, 16]


@given(label_images(), st.integers(0, 6), st.integers(0, 2**32 - 1))
def test_touching_pixels_go_to_the_nearest_cell_within_the_radius(labels, radius, seed) -> None:
    touching = np.random.default_rng(seed).random(labels.shape) < 0.5
    nearest, _ = nearest_label(labels, radius)
    found = assign_touching(labels, touching, radius=radius)
    assert np.array_equal(found, np.where((labels == 0) & touching, nearest, labels))


@pytest.mark.parametrize("case", CASES)
def test_assigning_all_pixels_grows_the_cells_as_far_as_skimage_does(case) -> None:
    labels = CASES[case]
    found = assign_touching(labels, np.ones(labels.shape, bool), radius=6)
    assert np.array_equal(found > 0, expand_labels(labels, 6) > 0)


@given(label_images(), st.integers(0, 12))
def test_contact_regions_lie_between_the_two_nearest_cells(labels, width) -> None:
    assert np.array_equal(contact_regions(labels, width=width), naive.contact_regions(labels, width))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match=r"cells and touching have the shapes \(3, 3\) and \(3, 4\)"):
        assign_touching(np.zeros((3, 3), int), np.zeros((3, 4), bool), radius=1)
    with pytest.raises(InputError, match="touching is of int64; expected booleans"):
        assign_touching(np.zeros((3, 3), int), np.zeros((3, 3), np.int64), radius=1)
    with pytest.raises(InputError, match="labels is of bool; expected integers"):
        separated(np.zeros((3, 3), bool))
    with pytest.raises(InputError, match=r"within is -1 px; expected 0 \(all gaps\) or more"):
        touching_classes(np.zeros((3, 3), int), within=-1)


@given(label_images(), st.integers(0, 4), st.integers(0, 2**32 - 1))
def test_cells_grow_step_by_step(labels, steps, seed) -> None:
    touching = np.random.default_rng(seed).random(labels.shape) < 0.6
    assert np.array_equal(grown_through(labels, touching, steps=steps), naive.grown_through(labels, touching, steps))

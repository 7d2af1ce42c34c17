import cc3d
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import label

from cellscale.errors import InputError
from cellscale.kernels.components import connected_components
from cellscale.testing.cases import CASES
from cellscale.testing.naive import components as naive
from cellscale.testing.strategies import label_volumes, masks


@settings(max_examples=200)
@given(masks(), st.sampled_from([4, 8]))
def test_components_are_those_of_filling(mask, connectivity) -> None:
    labels, count = connected_components(mask, connectivity=connectivity)
    expected, expected_count = naive.connected_components(mask, connectivity)
    assert labels.dtype == np.int32
    assert np.array_equal(labels, expected)
    assert count == expected_count


@settings(max_examples=200)
@given(label_volumes().map(lambda labels: labels == 1), st.sampled_from([6, 26]))
def test_components_of_volumes_are_those_of_filling(mask, connectivity) -> None:
    labels, count = connected_components(mask, connectivity=connectivity)
    expected, expected_count = naive.connected_components(mask, connectivity)
    assert np.array_equal(labels, expected)
    assert count == expected_count


@pytest.mark.parametrize("shape", [(0, 5), (1, 9), (61, 70), (9, 11, 13)])
@pytest.mark.parametrize("threads", [2, 3, 20])
def test_components_do_not_depend_on_the_number_of_threads(shape, threads) -> None:
    mask = np.random.default_rng(0).random(shape) < 0.45
    for connectivity in (4, 8) if mask.ndim == 2 else (6, 26):
        labels, count = connected_components(mask, connectivity=connectivity)
        found, found_count = connected_components(mask, connectivity=connectivity, threads=threads)
        assert np.array_equal(found, labels)
        assert found_count == count


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("case", CASES)
def test_components_equal_skimage_and_cc3d(case, connectivity) -> None:
    mask = CASES[case] > 0
    labels, count = connected_components(mask, connectivity=connectivity)
    assert np.array_equal(labels, label(mask, connectivity=connectivity // 4))
    assert count == cc3d.connected_components(mask, connectivity=connectivity).max()


def test_arms_that_join_below_are_one_component() -> None:
    assert connected_components(CASES["comb"] > 0)[1] == 1
    assert connected_components(CASES["diagonal touch"] > 0, connectivity=4)[1] == 2
    assert connected_components(CASES["diagonal touch"] > 0, connectivity=8)[1] == 1


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="connectivity is 1; expected 4"):
        connected_components(np.zeros((3, 3), bool), connectivity=1)
    with pytest.raises(InputError, match="connectivity is 8; expected 6"):
        connected_components(np.zeros((3, 3, 3), bool), connectivity=8)
    with pytest.raises(InputError, match="mask is of uint8; expected booleans"):
        connected_components(np.zeros((3, 3), np.uint8))

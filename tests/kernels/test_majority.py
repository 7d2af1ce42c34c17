import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from cellscale.errors import InputError
from cellscale.kernels.majority import smooth_labels
from cellscale.testing.strategies import label_images


@given(label_images(), st.sampled_from([1, 3, 5]))
def test_every_mask_is_its_median_and_no_cell_is_lost(labels, side) -> None:
    expected = np.zeros_like(labels)
    for label in np.unique(labels[labels > 0]):
        mask = ndimage.median_filter((labels == label).astype(np.uint8), size=side, mode="nearest") > 0
        expected[mask] = label
    while (lost := np.setdiff1d(labels[labels > 0], expected)).size:
        expected = np.where(np.isin(labels, lost), labels, expected)
    found = smooth_labels(labels, side=side)
    assert found.dtype == np.uint32
    assert np.array_equal(found, expected)
    assert np.array_equal(np.unique(found[found > 0]), np.unique(labels[labels > 0]))


@pytest.mark.parametrize("side", [0, 4])
def test_a_window_has_a_middle(side) -> None:
    with pytest.raises(InputError, match=f"side is {side} px; expected an odd number"):
        smooth_labels(np.ones((4, 4), int), side=side)

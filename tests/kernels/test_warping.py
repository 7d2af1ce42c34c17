import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from cellscale.errors import InputError
from cellscale.kernels.touching import touching_classes
from cellscale.kernels.warping import warped_labels
from cellscale.testing.strategies import label_images


@given(label_images().filter(lambda labels: labels.size), st.integers(0, 2**32 - 1))
def test_the_label_with_the_greatest_spline_wins(labels, seed) -> None:
    """Each label alone, as scipy's spline without a prefilter sees it; near ties may go either way."""
    points = np.random.default_rng(seed).uniform(-6, max(labels.shape) + 6, (2, 5, 6)).astype(np.float32)
    numbers = np.unique(labels)
    shares = np.array(
        [
            ndimage.map_coordinates((labels == n).astype(float), points, order=3, mode="mirror", prefilter=False)
            for n in numbers
        ]
    )
    found = warped_labels(labels, points)
    assert found.dtype == labels.dtype
    own = np.take_along_axis(shares, np.searchsorted(numbers, found)[None], axis=0)[0]
    assert np.allclose(own, shares.max(axis=0), atol=1e-5)


def test_a_turned_outline_has_few_notches() -> None:
    """The nearest pixel of a turned ellipse has one at every second step; a closing fills them."""
    y, x = np.indices((160, 160)) - 80
    labels = ((y / 40) ** 2 + (x / 60) ** 2 < 1).astype(np.uint32)
    nearest = spline = 0
    for angle in np.linspace(0.1, 1.4, 9):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        points = (np.einsum("ij,jyx->iyx", turn, np.stack([y, x])) + 80).astype(np.float32)
        there = ndimage.map_coordinates(labels, points, order=0, mode="mirror")
        nearest += (touching_classes(there) == 2).sum()
        spline += (touching_classes(warped_labels(labels, points)) == 2).sum()
    assert spline < nearest / 3


def test_a_gap_of_one_pixel_stays() -> None:
    labels = np.ones((12, 13), np.uint32)
    labels[:, 6], labels[:, 7:] = 0, 2
    points = np.stack(np.meshgrid(np.arange(12.0), np.arange(13.0), indexing="ij")).astype(np.float32)
    assert np.array_equal(warped_labels(labels, points), labels)


@pytest.mark.parametrize("shape", [(0, 4), (3, 4, 5)])
def test_what_does_not_fit_is_refused(shape) -> None:
    with pytest.raises(InputError, match=r"expected \(y, x\) with at least one pixel"):
        warped_labels(np.zeros(shape, np.uint32), np.zeros((2, 1, 1), np.float32))

import numpy as np
import pytest
from scipy import ndimage

from cellscale.kernels.smoothing import gaussian
from cellscale.testing.cases import scattered


@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (3, 50), (50, 3), (40, 70)])
@pytest.mark.parametrize("sigma", [0, 0.3, 0.7, 3.0, 5.2])
def test_a_smoothed_plane_equals_scipy(shape, sigma) -> None:
    image = np.random.default_rng(0).random(shape, np.float32)
    expected = ndimage.gaussian_filter(image, sigma, mode="nearest", truncate=4.0) if image.size else image
    assert np.array_equal(gaussian(image, sigma=sigma), expected)


@pytest.mark.parametrize("sigma", [0.7, 3.0, 30.0])
def test_what_lies_far_apart_is_smoothed_as_by_scipy(sigma) -> None:
    image = scattered((300, 2300), 0.0001).astype(np.float32)
    expected = ndimage.gaussian_filter(image, sigma, mode="nearest", truncate=4.0)
    assert np.array_equal(gaussian(image, sigma=sigma), expected)


def test_the_image_is_not_changed() -> None:
    image = np.eye(5, dtype=np.float32)
    gaussian(image, sigma=2)
    assert np.array_equal(image, np.eye(5))

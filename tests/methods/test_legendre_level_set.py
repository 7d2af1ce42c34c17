"""Where the level set starts."""

import numpy as np
import pytest
import torch

from cellscale.errors import InputError
from cellscale.methods import load_method
from cellscale.testing.cases import disc


def image():
    """A bright cell, and a brighter one that is not wanted."""
    cells = disc((60, 90), 30, 22, 11) * 0.7 + disc((60, 90), 30, 68, 11)
    return cells + 0.1 + 0.01 * np.random.default_rng(0).standard_normal((60, 90))


@pytest.mark.parametrize("rectangles", [[20, 12, 40, 32], [0, 0, 4, 4, 20, 12, 40, 32]])
def test_rectangles_are_where_the_user_puts_them(rectangles):
    method = load_method("l2s", start="rectangles", rectangles=rectangles)
    found = method.first_mask(image()[None])
    expected = np.zeros((60, 90), bool)
    expected[20:40, 12:32] = True
    expected[:4, :4] = len(rectangles) > 4
    assert np.array_equal(found, expected)


def test_a_mask_of_the_user_is_a_channel_of_the_image():
    mask = disc((60, 90), 30, 22, 6) > 0
    window = np.stack([image(), mask])
    method = load_method("l2s", start="mask", channels=2, iterations=60)
    assert np.array_equal(method.first_mask(window), mask)
    found = method.predict({}, torch.from_numpy(window[None]))["cell"][0].numpy() > 0
    assert found[30, 22]
    assert not found[5, 5]


def test_what_cannot_be_a_start_is_refused():
    with pytest.raises(InputError, match=r"'rectangles' is \[1, 2, 3\]; expected y0, x0, y1, x1 of each"):
        load_method("l2s", rectangles=[1, 2, 3])
    with pytest.raises(InputError, match=r"'rectangles' is \[9, 2, 3, 8\]; expected"):
        load_method("l2s", rectangles=[9, 2, 3, 8])
    with pytest.raises(InputError, match=r"'mask' is 1 with 1 channel\(s\); expected a channel after the first"):
        load_method("l2s", start="mask")

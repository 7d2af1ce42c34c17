import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cellscale.kernels.noise import hashed, smooth_noise
from cellscale.testing.naive import noise as naive

whole = st.integers(-(2**40), 2**40)


@given(st.integers(0, 2**60), whole, whole)
def test_the_hash_is_that_of_whole_numbers(seed: int, a: int, b: int) -> None:
    assert int(hashed(seed, a, b)) == naive.hashed(seed, a, b)


@given(st.integers(0, 2**32), st.integers(-1000, 1000), st.integers(-1000, 1000))
def test_smooth_noise_passes_through_the_values_of_the_grid(seed: int, j: int, i: int) -> None:
    expected = (naive.hashed(seed, j, i) >> 11) / 2**53
    assert smooth_noise(seed, float(j), float(i)) == expected
    assert math.isclose(smooth_noise(seed, j + 1e-9, i - 1e-9), expected, abs_tol=1e-6)


def test_smooth_noise_is_evenly_spread_on_the_grid() -> None:
    values = np.array([smooth_noise(1, float(j), float(i)) for j in range(60) for i in range(60)])
    counts = np.histogram(values, 10, (0, 1))[0]
    assert counts.min() > 280
    assert counts.max() < 440

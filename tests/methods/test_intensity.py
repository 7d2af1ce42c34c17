from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellscale.errors import InputError
from cellscale.methods.intensity import BINS, Intensity, Scale


@given(st.integers(0, 2**32 - 1), st.sampled_from([np.uint8, np.uint16, np.int16]))
def test_integer_percentiles_are_values_of_the_frame(seed: int, dtype: Any) -> None:
    info = np.iinfo(dtype)
    image = np.random.default_rng(seed).integers(info.min, info.max, (20, 30), endpoint=True).astype(dtype)
    scale = Scale.of(image.dtype, float(image.min()), float(image.max()))
    mapping = Intensity(low=2.0, high=98.0).fit(scale.histogram(image), scale)
    assert mapping.low == np.percentile(image, 2, method="inverted_cdf")
    assert mapping.high == np.percentile(image, 98, method="inverted_cdf")


@given(st.integers(0, 2**32 - 1), st.integers(1, 19))
def test_a_histogram_is_the_sum_of_its_blocks(seed: int, cut: int) -> None:
    image = np.random.default_rng(seed).normal(size=(20, 30)).astype(np.float32)
    scale = Scale.of(image.dtype, float(image.min()), float(image.max()))
    parts = scale.histogram(image[:cut]) + scale.histogram(image[cut:])
    assert np.array_equal(scale.histogram(image), parts)
    assert parts.shape == (BINS,)
    assert parts.sum() == image.size


def test_low_becomes_0_and_high_becomes_1_and_hot_pixels_are_clipped() -> None:
    image = np.array([[10, 20, 30, 60000]], np.uint16)
    mapping = Intensity(low=0.0, high=75.0).fit(Scale().histogram(image), Scale())
    assert mapping(image).tolist() == [[0.0, 0.5, 1.0, 3.0]]


def test_equalisation_is_the_share_of_darker_pixels() -> None:
    image = np.array([[5, 5, 7, 9]], np.uint8)
    mapping = Intensity(rule="equalise", low=0.0, high=100.0).fit(Scale().histogram(image), Scale())
    assert mapping(image).tolist() == [[0.0, 0.0, 0.5, 1.0]]


def test_a_frame_of_one_value_maps_to_0() -> None:
    image = np.full((4, 4), 7, np.uint8)
    assert not Intensity().fit(Scale().histogram(image), Scale())(image).any()


def test_a_frame_without_pixels_is_refused() -> None:
    with pytest.raises(InputError, match="without pixels"):
        Intensity().fit(np.zeros(BINS, np.int64), Scale())

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellscale.errors import InputError
from cellscale.methods.intensity import BINS, Intensity, Scale, scales_of
from cellscale.types import Box


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


def test_equalisation_begins_at_the_darkest_value_whatever_the_percentiles() -> None:
    image = np.repeat(np.array([5, 6, 7, 8], np.uint8), (2, 58, 20, 20))
    mapping = Intensity(rule="equalise", low=30.0).fit(Scale().histogram(image), Scale())
    assert np.unique(mapping(image)) == pytest.approx([0, 58 / 98, 78 / 98, 1])


@pytest.mark.parametrize(
    ("low", "high"), [(-50.0, 99.0), (99.0, 50.0), (1.0, 500.0), (5.0, 5.0), (float("nan"), 99.0), (1.0, float("nan"))]
)
def test_percentiles_out_of_order_or_range_are_refused(low: float, high: float) -> None:
    with pytest.raises(InputError, match=rf"'intensity.high' are {low} and {high}; expected percentiles"):
        Intensity(low=low, high=high)


def _fitted(image: Any) -> Any:
    (scale,) = scales_of(image.dtype, [(Box.of(image.shape[1:]), image)], "frame 3")
    return Intensity(low=0, high=100).fit(scale.histogram(image), scale)(image)


@pytest.mark.parametrize("factor", [1e-300, 1e-30, 1e300])
def test_the_unit_of_the_pixels_does_not_matter(factor: float) -> None:
    image = np.random.default_rng(0).uniform(1, 2, (1, 20, 30))
    assert np.allclose(_fitted(image * factor), _fitted(image), atol=1e-4)


@pytest.mark.parametrize(
    ("values", "dtype", "reason"),
    [
        ([-1e308, 1e308], "float64", r"between -1e\+308 and 1e\+308.*does not hold; divide the pixels"),
        ([0.0, 1e-305], "float64", "too small for double precision; multiply the pixels"),
    ],
)
def test_values_that_double_precision_does_not_hold_are_refused(values: Any, dtype: str, reason: str) -> None:
    with pytest.raises(InputError, match=f"The values of frame 3 lie .*{reason}"):
        _fitted(np.array([[values]], dtype))


def test_large_integers_far_apart_or_equal_are_mapped() -> None:
    assert _fitted(np.array([[[0, 2**62, 2**63]]], np.uint64)).ravel() == pytest.approx([0, 0.5, 1], abs=1e-4)
    assert not _fitted(np.full((1, 2, 2), 2**60, np.int64)).any()


def test_a_frame_of_one_value_maps_to_0() -> None:
    image = np.full((4, 4), 7, np.uint8)
    assert not Intensity().fit(Scale().histogram(image), Scale())(image).any()


def test_a_frame_without_pixels_is_refused() -> None:
    with pytest.raises(InputError, match="without pixels"):
        Intensity().fit(np.zeros(BINS, np.int64), Scale())

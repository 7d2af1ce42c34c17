"""Sums and means of intensities: exact for every type and range, whatever the order and division of the pixels."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from cellscale.kernels.exact_sums import exact_sums, means_of
from cellscale.kernels.tables import concatenated, reduced

FLOATS = ("float16", "float32", "float64")
INTEGERS = ("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")
AREA = np.array([60])


def finite(dtype: str) -> st.SearchStrategy[np.ndarray]:
    """Six by ten pixels; floats of all exponents, subnormal ones too."""
    elements = None
    if dtype in FLOATS:
        elements = st_numpy.from_dtype(np.dtype(dtype), allow_nan=False, allow_infinity=False, allow_subnormal=True)
    return st_numpy.arrays(dtype, (6, 10), elements=elements)


def one(values: np.ndarray) -> dict[str, np.ndarray]:
    return exact_sums(np.ones(values.shape, np.int32), 1, values)


@given(st.sampled_from(FLOATS + INTEGERS).flatmap(finite))
def test_a_mean_is_the_number_nearest_to_the_exact_quotient(values: np.ndarray) -> None:
    exact = sum(map(Fraction, values.ravel().tolist())) / 60
    (mean,) = means_of(one(values), AREA)
    assert mean == float(exact)


@given(finite("float64"))
def test_a_sum_is_that_of_fsum(values: np.ndarray) -> None:
    halved = values / 64
    (total,) = means_of(one(halved), np.array([1]))
    assert total == math.fsum(halved.ravel())


@given(st.sampled_from(("float32", "float64", "int64", "uint16")).flatmap(finite), st.integers(1, 5), st.randoms())
def test_sums_of_parts_add_up_in_any_order(values: np.ndarray, cut: int, random: Any) -> None:
    parts = [one(part) for part in (values[:cut, :3], values[:cut, 3:], values[cut:, :7], values[cut:, 7:])]
    random.shuffle(parts)
    area = {"area": np.ones(1, np.int64)}
    table = concatenated([{**area, **part} for part in parts])
    total = reduced(table, np.zeros(4, np.int64), 1)
    del total["area"]
    assert means_of(total, AREA).tolist() == means_of(one(values), AREA).tolist()


@pytest.mark.parametrize("dtype", FLOATS + INTEGERS)
def test_the_ends_of_a_type(dtype: str) -> None:
    kind = np.dtype(dtype)
    if kind.kind == "b":
        ends: list[Any] = [False, True]
    elif kind.kind == "f":
        limits = np.finfo(kind)
        ends = [limits.max, limits.min, limits.tiny, -limits.smallest_subnormal, -0.0]
    else:
        ends = [np.iinfo(kind).min, np.iinfo(kind).max, 0, 1]
    for value in ends:
        for other in ends:
            values = np.array([[value, other, value]], kind)
            exact = sum(map(Fraction, values.ravel().tolist())) / 3
            assert means_of(one(values), np.array([3])).tolist() == [float(exact)]


def test_what_cancels_leaves_the_rest() -> None:
    values = np.array([[1e300, 1.0, -1e300, 2.0**-1074]])
    assert means_of(one(values), np.array([1])).tolist() == [1.0]
    assert means_of(one(values[:, ::2]), np.array([2])).tolist() == [0.0]


@pytest.mark.parametrize("dtype", FLOATS)
def test_infinite_pixels_and_those_that_are_no_number(dtype: str) -> None:
    labels = np.array([[1, 2, 3, 4, 5], [1, 2, 3, 4, 5]], np.int32)
    inf, nan = np.inf, np.nan
    values = np.array([[inf, -inf, inf, nan, 1], [1, -2, -inf, 4, 2]], dtype)
    found = means_of(exact_sums(labels, 5, values), np.full(5, 2))
    np.testing.assert_array_equal(found, [inf, -inf, nan, nan, 1.5])


def test_fragments_are_apart_and_background_counts_nowhere() -> None:
    labels = np.array([[0, 1, 1], [3, 3, 0]], np.int32)
    values = np.array([[9, 2, 4], [1e-12, 3e-12, np.nan]])
    sums = exact_sums(labels, 3, values)
    assert not sums.keys() & {"inf", "-inf"}
    assert means_of(sums, np.array([2, 1, 2])).tolist() == [3.0, 0.0, 2e-12]


def test_columns_of_zeros_are_left_out() -> None:
    assert one(np.zeros((2, 2), np.float32)) == {}
    assert list(one(np.full((2, 2), 7, np.uint8))) == ["0"]
    assert means_of({}, np.array([4, 5])).tolist() == [0.0, 0.0]

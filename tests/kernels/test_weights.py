from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellscale.errors import InputError
from cellscale.kernels.weights import (
    boundary_weights,
    class_balance,
    contour_complexity,
    distance_weights,
    ronneberger,
    saw_tau,
    shape_aware_weights,
)
from cellscale.testing.cases import CASES
from cellscale.testing.naive import distances, shapes
from cellscale.testing.strategies import cells
from cellscale.types import Labels


def test_the_rarest_class_has_weight_one_and_an_absent_one_none() -> None:
    assert class_balance([100, 0, 25]).tolist() == [0.25, 0, 1]
    assert class_balance([0, 0]).tolist() == [0, 0]


def test_a_balance_may_be_milder_than_inverse_frequencies() -> None:
    assert class_balance([1600, 0, 100, 16], exponent=0.5).tolist() == pytest.approx([0.1, 0, 0.4, 1])
    assert class_balance([1600, 0, 100, 16], exponent=0).tolist() == [1, 0, 1, 1]
    assert class_balance([1600, 0, 100, 16], cap=20).tolist() == pytest.approx([0.05, 0, 0.16, 1])
    assert class_balance([1600, 0, 100, 16], exponent=0.5, cap=5).tolist() == pytest.approx([0.2, 0, 0.4, 1])


@settings(max_examples=40)
@given(cells(longest=12), st.booleans(), st.booleans())
def test_border_weights_are_those_of_one_distance_for_each_cell(labels: Labels, squares: bool, everywhere: Any) -> None:
    where = np.ones(labels.shape, bool) if everywhere else labels == 0
    found = ronneberger(labels, w0=10, sigma=5, squares=squares, where=where if everywhere else None)
    expected = shapes.ronneberger(labels, w0=10, sigma=5, squares=squares, where=where)
    assert found.dtype == np.float32
    assert np.allclose(found, expected, rtol=1e-6, atol=0)


def test_border_weights_need_two_cells() -> None:
    assert not ronneberger(CASES["one cell"]).any()
    weights = ronneberger(CASES["row of gaps"])
    assert weights[20, 39] == pytest.approx(10 * np.exp(-4 / 50))
    assert not weights[CASES["row of gaps"] > 0].any()


@given(cells(longest=14), st.sampled_from([2.0, 30.0]))
def test_distance_weights_are_those_of_equation_2(labels: Labels, beta: float) -> None:
    squared = distances.label_distance_transform((labels == 0).astype(int))
    expected = 1 - np.minimum(np.sqrt(squared.astype(float)) / beta, 1)
    assert np.allclose(distance_weights(labels, beta=beta), expected, atol=1e-6)


def test_distance_weights_without_cells_are_nothing() -> None:
    assert not distance_weights(CASES["empty"]).any()


@settings(max_examples=60)
@given(cells(longest=13), st.sampled_from([1.0, 10.0]), st.sampled_from([0.7, 5.0]))
def test_boundary_weights_are_those_of_equation_3(labels: Labels, alpha: float, sigma: float) -> None:
    found = boundary_weights(labels, alpha=alpha, sigma=sigma)
    assert found.dtype == np.float32
    assert np.allclose(found, shapes.boundary_weights(labels, alpha=alpha, sigma=sigma), rtol=1e-5, atol=1e-7)


def test_boundary_weights_fall_alike_inside_and_outside() -> None:
    weights = boundary_weights(CASES["two touching"])
    assert weights[20, 29] == weights[20, 30] == 10
    assert weights[20, 13] == weights[20, 7] == pytest.approx(10 * np.exp(-9 / 50))
    assert not boundary_weights(CASES["whole image"]).any()


@settings(max_examples=40)
@given(cells(longest=13))
def test_contour_complexity_is_the_distance_to_all_skeletons(labels: Labels) -> None:
    found, contours = contour_complexity(labels)
    expected, expected_contours = shapes.contour_complexity(labels)
    assert np.array_equal(contours, expected_contours)
    assert np.array_equal(found, expected.astype(np.float32))
    assert saw_tau([labels]) == found.max(initial=0)


@settings(max_examples=40)
@given(
    labels=cells(longest=13),
    tau=st.sampled_from([0.5, 3.0]),
    sigma=st.sampled_from([0.7, 2.0]),
    radius=st.integers(0, 6),
    propagate=st.sampled_from(["both", "inside"]),
    offset=st.sampled_from([0.0, 1.0]),
)
def test_shape_aware_weights_are_those_of_equations_3_and_4(
    labels: Labels, tau: float, sigma: float, radius: int, propagate: Any, offset: float
) -> None:
    options: dict[str, Any] = {"tau": tau, "sigma": sigma, "radius": radius, "propagate": propagate, "offset": offset}
    found = shape_aware_weights(labels, **options)
    assert found.dtype == np.float32
    assert np.allclose(found, shapes.shape_aware_weights(labels, **options), atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_shape_aware_weights_stay_between_nothing_and_one(case: str) -> None:
    labels = CASES[case]
    for offset in (0.0, 1.0):
        weights = shape_aware_weights(labels, tau=saw_tau([labels]), offset=offset)
        assert weights.min() >= 0
        assert weights.max() <= 1 + 1e-6
        assert weights.any() == contour_complexity(labels)[1].any()


def test_narrow_parts_weigh_more_than_wide_ones() -> None:
    labels = np.zeros((60, 90), np.uint32)
    labels[10:50, 10:50] = 1
    labels[27:33, 50:80] = 1
    weights = shape_aware_weights(labels, tau=saw_tau([labels]))
    assert weights[30, 70] > 2 * weights[30, 12]


def jagged_disc(radius: int = 30, seed: int = 0) -> np.ndarray:
    """A disc whose outline is as ragged as a traced one: every rim pixel is missing with a chance of a half."""
    y, x = np.indices((2 * radius + 21, 2 * radius + 21)) - radius - 10
    disc, rim = y**2 + x**2 <= radius**2, (y**2 + x**2 > (radius - 1) ** 2)
    return (disc & ~(rim & (np.random.default_rng(seed).random(disc.shape) < 0.5))).astype(np.uint32)


def test_a_jagged_outline_weighs_like_a_smooth_one() -> None:
    """As printed, a spur of the skeleton reaches each step of the outline, and φ_K is next to nothing everywhere."""
    printed, contours = contour_complexity(jagged_disc())
    assert np.median(printed[contours]) < 3
    found, contours = contour_complexity(jagged_disc(), smooth=5, prune=2)
    assert np.median(found[contours]) > 20


def test_tau_is_a_percentile_of_all_contours_of_the_training_frames() -> None:
    frames = [CASES["cluster"], CASES["one cell"], CASES["empty"]]
    values = np.sort(np.concatenate([distances[contours] for distances, contours in map(contour_complexity, frames)]))
    assert saw_tau(iter(frames)) == values[-1]
    assert saw_tau(frames, percentile=90) == values[int(np.ceil(0.9 * len(values))) - 1] < values[-1]
    assert saw_tau([CASES["empty"]]) == 0


def test_without_tau_every_contour_weighs_the_same() -> None:
    weights = shape_aware_weights(CASES["one cell"], tau=0, sigma=0, radius=0)
    assert set(np.unique(weights)) == {0, 1}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda labels: ronneberger(labels, sigma=0), "sigma is 0; expected more than 0"),
        (lambda labels: ronneberger(labels, where=np.ones((1, 1), bool)), "labels and where have the shapes"),
        (lambda labels: boundary_weights(labels, sigma=0), "sigma is 0; expected more than 0"),
        (lambda labels: distance_weights(labels, beta=-1), "beta is -1; expected more than 0"),
        (
            lambda labels: shape_aware_weights(labels, tau=1, propagate=cast(Any, "out")),
            "propagate is 'out'; expected 'both' or 'inside'",
        ),
        (lambda labels: shape_aware_weights(labels, tau=-1), "tau is -1 and offset 0.0; expected 0 or more"),
        (lambda labels: class_balance([3, -1]), r"Class counts are \[3.0, -1.0\]"),
        (lambda labels: class_balance([3, 1], cap=0.5), r"exponent is 1.0 and cap 0.5; expected 0 or more"),
    ],
)
def test_what_does_not_fit_is_refused(call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call(CASES["one cell"])


def test_no_weight_of_boundaries_is_0_and_a_negative_one_is_refused() -> None:
    labels = np.eye(5, dtype=np.uint32)
    assert not boundary_weights(labels, alpha=0.0).any()
    for alpha in (-1.0, float("nan")):
        with pytest.raises(InputError, match=rf"alpha is {alpha}; expected 0 or more"):
            boundary_weights(labels, alpha=alpha)

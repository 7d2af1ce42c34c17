"""Watersheds from markers: exact through tiles, and what a flood does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from skimage import morphology

from cellscale.kernels.distances.transform import label_distance_transform
from cellscale.methods import load_method
from cellscale.methods.mu_lux import h_maxima, marker_truth, opened
from cellscale.testing import conformance
from cellscale.testing.cases import CASES, random_maps
from cellscale.tiling.in_memory import tiled_frame, whole_frame
from tests.support.mutants import Mutant, breaks

SMALL: dict[str, dict[str, Any]] = {
    "mu-lux": {"markers.threshold": 0.6, "threshold": 0.2, "fill_holes_px": 3, "radius": 1}
}
SMALL["mu-lux, round"] = {**SMALL["mu-lux"], "markers.h": 0.2, "h_radius": 7}
SMALL["calt-us"] = {"decoding.rule": "watershed", "seed": 0.6, "background": 0.7}


def small(name: str, **more: Any) -> Any:
    """A watershed that finds markers in rough maps."""
    return load_method(name.partition(",")[0], **{**SMALL[name], **more})


@settings(max_examples=100, deadline=None)
@given(
    name=st.sampled_from(sorted(SMALL)),
    shape=st.tuples(st.integers(8, 60), st.integers(8, 60)),
    size=st.integers(3, 40),
    minimum_area=st.sampled_from([0, 20]),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_tiling_gives_the_whole_frames_labels(
    name: str, shape: tuple[int, int], size: int, minimum_area: int, seed: int
) -> None:
    method = small(name, minimum_area=minimum_area)
    maps = random_maps(method.maps, shape, seed)
    assert np.array_equal(tiled_frame(method, maps, size), whole_frame(method, maps))


@pytest.mark.parametrize("name", sorted(SMALL))
def test_less_decode_reach_breaks_the_promise(name: str) -> None:
    method = small(name, fill_holes_px=0) if name.startswith("mu-lux") else small(name)
    assert not breaks(Mutant(method), cases=20)
    assert breaks(Mutant(method, decode_reach_less=1))


def valley() -> dict[str, NDArray[np.uint8]]:
    """One mask with a ridge at column 12; a marker on either side, and a mask apart without a marker."""
    maps = {"marker": np.zeros((20, 40), np.uint8), "cell": np.zeros((20, 40), np.uint8)}
    maps["cell"][4:16, 4:24] = 250
    maps["cell"][4:16, 12] = 225
    maps["cell"][4:16, 30:36] = 250
    maps["marker"][6:14, 5:8] = maps["marker"][6:14, 18:22] = 255
    return maps


def test_floods_meet_on_the_ridge_and_what_no_marker_reaches_is_dropped() -> None:
    found = whole_frame(load_method("mu-lux", radius=1), valley())
    assert np.array_equal(np.unique(found), [0, 1, 2])
    assert (found[4:16, 4:12] == 1).all()
    assert (found[4:16, 13:24] == 2).all()
    assert not found[:, 30:36].any()


def test_a_marker_of_any_shape_is_one_cell() -> None:
    maps = {"marker": np.zeros((40, 40), np.uint8), "cell": np.zeros((40, 40), np.uint8)}
    maps["cell"][2:38, 2:38] = 240
    maps["marker"][5:9, 5:35] = maps["marker"][5:35, 5:9] = maps["marker"][5:35, 31:35] = 255
    maps["marker"][31:35, 20:35] = 255
    assert whole_frame(load_method("mu-lux", radius=1), maps).max() == 1


def test_cells_that_touch_have_markers_apart() -> None:
    labels = CASES["cluster"]
    markers = marker_truth(labels, 8.0)
    assert ndimage.label(markers)[1] == len(np.unique(labels)) - 1
    distances = label_distance_transform(labels)
    assert distances[markers].min() > min(8, distances[labels == 1].max() / 2) - 1


@given(st.integers(0, 2**32 - 1), st.integers(0, 4))
def test_an_opening_is_that_of_scipy_far_from_the_border(seed: int, radius: int) -> None:
    mask = np.pad(ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((20, 20)), 1) > 0, 10)
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    assert np.array_equal(opened(mask, radius), ndimage.binary_opening(mask, y**2 + x**2 <= radius**2))


@pytest.mark.parametrize("case", CASES)
def test_the_watershed_of_calt_us_returns_the_labels_of_a_perfect_prediction(case: str) -> None:
    subject = conformance.Subject(method=load_method("calt-us", **{"decoding.rule": "watershed"}))
    conformance.check_perfect_prediction(subject, labels=CASES[case])


@pytest.mark.parametrize("case", CASES)
def test_the_likeliest_class_returns_the_labels_of_a_perfect_prediction(case: str) -> None:
    subject = conformance.Subject(method=load_method("calt-us", **{"decoding.rule": "map"}))
    conformance.check_perfect_prediction(subject, labels=CASES[case])


@given(seed=st.integers(0, 2**32 - 1), h=st.integers(1, 60), smooth=st.integers(0, 3))
def test_h_maxima_are_those_of_scikit_image_where_the_radius_suffices(seed: int, h: int, smooth: int) -> None:
    noise = np.random.default_rng(seed).random((24, 30))
    values = (255 * ndimage.gaussian_filter(noise, smooth)).astype(np.uint8)
    assume(np.ptp(values) >= h)  # scikit-image finds nothing in flatter images; their highest pixel has no higher one
    assert np.array_equal(h_maxima(values, h, values.size), morphology.h_maxima(values, h) > 0)


def test_round_cells_in_one_mask_get_a_marker_each() -> None:
    y, x = np.mgrid[:30, :50]
    depth = np.maximum(10 - np.hypot(y - 15, x - 15), 10 - np.hypot(y - 15, x - 32)).clip(0, 10)
    maps = {"marker": (150 + 10 * depth).astype(np.uint8), "cell": (200 + 5 * depth).astype(np.uint8) * (depth > 0)}
    wide = {"markers.threshold": 0.55, "threshold": 0.2, "radius": 0}
    assert whole_frame(load_method("mu-lux", **wide), maps).max() == 1
    found = whole_frame(load_method("mu-lux", **wide, **{"markers.h": 5 / 255}), maps)
    assert (found[15, 15], found[15, 32]) == (1, 2)

import edt
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cellscale.errors import InputError
from cellscale.kernels.distances.envelopes import FAR
from cellscale.kernels.distances.transform import (
    copied_around,
    distance_transform,
    label_distance_transform,
    nearest_label,
    signed_distance,
    squared_at,
    two_nearest_labels,
)
from cellscale.testing.cases import CASES, scattered
from cellscale.testing.naive import distances as naive
from cellscale.testing.strategies import label_images, label_volumes, masks

spacings = st.tuples(*[st.integers(1, 5)] * 3) | st.sampled_from([(12, 6, 18), (5, 70_001, 30_011)])


@given(masks())
def test_distances_are_those_of_all_pairs(mask) -> None:
    expected = naive.label_distance_transform(mask.astype(int))
    assert np.array_equal(distance_transform(mask, squared=True), expected)


@settings(max_examples=200)
@given(label_images())
def test_label_distances_are_those_of_all_pairs(labels) -> None:
    found = label_distance_transform(labels, squared=True)
    assert found.dtype == np.int32
    assert np.array_equal(found, naive.label_distance_transform(labels))


@given(label_volumes(), spacings, st.none() | st.integers(0, 12))
def test_distances_in_volumes_are_those_of_all_pairs(labels, spacing, cap) -> None:
    found = label_distance_transform(labels, squared=True, cap=cap)
    assert found.dtype == np.int32
    assert np.array_equal(found, naive.label_distance_transform(labels, cap=cap))
    expected = naive.label_distance_transform(labels, spacing, cap)
    assert np.array_equal(label_distance_transform(labels, squared=True, spacing=spacing, cap=cap), expected)
    mask = labels > 0
    expected = naive.label_distance_transform(mask.astype(int), spacing)
    assert np.array_equal(distance_transform(mask, squared=True, spacing=spacing), expected)


@given(label_images(), spacings, st.integers(0, 30))
def test_spaced_and_capped_distances_are_those_of_all_pairs(labels, spacing, cap) -> None:
    plane = spacing[1:]
    expected = naive.label_distance_transform(labels, plane, cap)
    assert np.array_equal(label_distance_transform(labels, squared=True, spacing=plane, cap=cap), expected)
    assert np.array_equal(label_distance_transform(labels, spacing=plane, cap=cap), np.sqrt(expected).astype("f4"))


@given(masks(), spacings)
def test_signed_distances_are_those_of_all_pairs(mask, spacing) -> None:
    assert np.array_equal(signed_distance(mask), naive.signed_distance(mask))
    assert np.array_equal(signed_distance(mask, spacing=spacing[1:]), naive.signed_distance(mask, spacing[1:]))


@pytest.mark.parametrize("shape", [(40, 900), (900, 40), (300, 300), (40, 30, 400), (300, 20, 30)])
@pytest.mark.parametrize("share", [0.00005, 0.001, 0.02])
def test_far_distances_equal_scipy(shape, share) -> None:
    mask = scattered(shape, share) == 0
    mask[(0,) * mask.ndim] = False
    spacing = (7, 3, 2)[-mask.ndim :]
    assert np.array_equal(distance_transform(mask), ndimage.distance_transform_edt(mask).astype(np.float32))
    expected = np.rint(ndimage.distance_transform_edt(mask, spacing) ** 2)
    assert np.array_equal(distance_transform(mask, squared=True, spacing=spacing), expected)
    expected = ndimage.distance_transform_edt(mask, spacing).astype(np.float32)
    assert np.array_equal(distance_transform(mask, spacing=spacing, cap=70), np.minimum(expected, 70))


@pytest.mark.parametrize("shape", [(700, 800), (6, 500, 520), (520, 40, 30)])
@pytest.mark.parametrize("cap", [None, 180, 181, 182, 183])
@pytest.mark.parametrize("narrow", [1, 2])
def test_distances_around_the_greatest_of_16_bits_equal_scipy(shape, cap, narrow) -> None:
    """181² fits into 16 bits, 182² does not; labels touch everywhere, and a spacing moves the limit."""
    seeds = np.zeros(shape, np.uint32)
    for label, part in enumerate((0, 0.1, 0.999)):
        seeds[tuple(int(part * side) for side in shape)] = label + 1
    nearest = ndimage.distance_transform_edt(seeds == 0, return_indices=True)[1]
    labels = seeds[tuple(nearest)]
    spacing = (1,) * (labels.ndim - 1) + (narrow,)
    expected = np.zeros(shape, np.int64)
    for label in np.unique(labels):
        inside = labels == label
        expected[inside] = np.rint(ndimage.distance_transform_edt(inside, spacing)[inside] ** 2)
    limit = np.inf if cap is None else cap**2
    found = label_distance_transform(labels, squared=True, cap=cap, spacing=spacing)
    assert np.array_equal(found, np.minimum(expected, limit))
    assert (expected > 182**2).any()


@pytest.mark.parametrize("shape", [(1, 1), (7, 300), (130, 70), (3, 5, 7), (20, 30, 70)])
@pytest.mark.parametrize("threads", [2, 3, 9])
def test_distances_do_not_depend_on_the_number_of_threads(shape, threads) -> None:
    labels = scattered(shape, 0.9, labels=2)
    for spacing in (None, (3, 2, 1)[-labels.ndim :]):
        one = label_distance_transform(labels, spacing=spacing)
        assert np.array_equal(label_distance_transform(labels, spacing=spacing, threads=threads), one)
    plane = scattered(shape[-2:], 0.01)
    for one, many in zip(nearest_label(plane, radius=9), nearest_label(plane, radius=9, threads=threads), strict=True):
        assert np.array_equal(one, many)


@pytest.mark.parametrize("case", [case for case in CASES if (CASES[case] == 0).any()])
def test_distances_equal_scipy_and_edt(case) -> None:
    labels = CASES[case]
    for mask in (labels > 0, labels == 0):
        if not mask.all():
            assert np.array_equal(distance_transform(mask), ndimage.distance_transform_edt(mask).astype(np.float32))
    assert np.array_equal(label_distance_transform(labels), edt.edt(labels, black_border=False))


def test_without_anything_to_measure_to_distances_are_infinite() -> None:
    assert np.isposinf(distance_transform(np.ones((3, 4), bool))).all()
    assert (distance_transform(np.ones((3, 4), bool), squared=True) == FAR).all()
    assert np.isposinf(label_distance_transform(np.full((3, 4), 5))).all()


@settings(max_examples=200)
@given(label_images(), st.none() | st.integers(0, 9))
def test_the_nearest_label_is_that_of_all_pairs(labels, radius) -> None:
    nearest, squared = nearest_label(labels, radius=radius)
    assert (nearest.dtype, squared.dtype) == (np.uint32, np.int32)
    expected, expected_squared = naive.nearest_label(labels, radius)
    assert np.array_equal(nearest, expected)
    assert np.array_equal(squared, expected_squared)


@pytest.mark.parametrize("radius", [5, 20, 22, 23, 40, 63, 64, 100, 127, 128, 200])
def test_within_a_radius_the_nearest_label_is_the_nearest_at_all(radius) -> None:
    labels = scattered((280, 600), 0.0003)
    labels[:, 330:] = 0
    nearest, squared = nearest_label(labels)
    far = squared > radius**2
    assert far.any()
    found, found_squared = nearest_label(labels, radius=radius)
    assert np.array_equal(found, np.where(far, 0, nearest))
    assert np.array_equal(found_squared, np.where(far, FAR, squared))


@pytest.mark.parametrize("radius", [0, 9, 22, 23, 127, 128])
@pytest.mark.parametrize("share", [0.0, 0.0005, 0.2])
def test_values_are_copied_from_the_nearest_source(radius, share) -> None:
    sources = scattered((130, 301), share) > 0
    numbers = np.cumsum(sources).reshape(sources.shape) * sources
    values = np.append(0, np.random.default_rng(1).random(int(sources.sum()), np.float32)).astype(np.float32)
    nearest, _ = nearest_label(numbers, radius=radius)
    assert np.array_equal(copied_around(values[numbers], sources, radius=radius), values[nearest])


@pytest.mark.parametrize("cap", [0, 3, 22, 23, 127, 128])
def test_wanted_pixels_get_their_squared_distance(cap) -> None:
    sources, wanted = scattered((130, 301), 0.0005) > 0, scattered((130, 301), 0.05, seed=1) > 0
    expected = distance_transform(~sources, squared=True, cap=cap)
    assert np.array_equal(np.minimum(squared_at(wanted, sources, cap=cap), cap**2)[wanted], expected[wanted])


def test_of_equally_near_pixels_the_first_in_raster_order_decides() -> None:
    labels = np.zeros((5, 5), int)
    labels[0, 2], labels[2, 0], labels[2, 4], labels[4, 2] = 4, 3, 2, 1
    assert nearest_label(labels)[0][2, 2] == 4
    labels[0, 2] = 0
    assert nearest_label(labels)[0][2, 2] == 3


@settings(max_examples=200)
@given(label_images())
def test_the_two_nearest_labels_are_those_of_all_pairs(labels) -> None:
    for found, expected in zip(two_nearest_labels(labels), naive.two_nearest_labels(labels), strict=True):
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("case", CASES)
def test_the_two_nearest_distances_are_those_of_one_transform_for_each_cell(case) -> None:
    labels = CASES[case]
    each = [ndimage.distance_transform_edt(labels != i) for i in np.unique(labels[labels > 0])]
    each = np.sort([np.rint(distances**2) for distances in each] + [np.full(labels.shape, FAR)] * 2, axis=0)
    first, first_squared, second, second_squared = two_nearest_labels(labels)
    assert np.array_equal(first_squared, each[0])
    assert np.array_equal(second_squared, each[1])
    assert ((first != second) | (first == 0)).all()


def test_long_images_stay_exact() -> None:
    labels = np.zeros((1, 32_766), np.uint32)
    labels[0, 0], labels[0, -1] = 1, 2
    _, squared, _, second = two_nearest_labels(labels)
    assert squared[0, 16_000] == 16_000**2
    assert second[0, 0] == 32_765**2


@pytest.mark.parametrize(
    ("function", "image", "message"),
    [
        (distance_transform, np.zeros((4, 4)), r"mask is of float64; expected booleans"),
        (distance_transform, np.zeros(4, bool), r"mask has the shape \(4,\); expected \(y, x\) or \(z, y, x\)"),
        (nearest_label, np.zeros((1, 4, 4), int), r"labels has the shape \(1, 4, 4\); expected two axes"),
        (nearest_label, np.zeros((4, 4)), r"labels is of float64; expected integers"),
        (nearest_label, np.full((4, 4), -1), r"labels holds -1 to -1; labels are 0 to 4294967295"),
        (two_nearest_labels, np.full((4, 4), 2**32), r"labels holds 4294967296 to 4294967296"),
        (label_distance_transform, np.zeros((1, 32_767), int), r"need at most 32766 px a side"),
        (
            lambda labels: nearest_label(labels, radius=-1),
            np.zeros((4, 4), int),
            r"radius is -1 px; expected 0 or more",
        ),
        (
            lambda mask: copied_around(mask.astype(np.float32), mask, radius=-1),
            np.zeros((4, 4), bool),
            r"radius is -1 px; expected 0 or more",
        ),
        (lambda mask: distance_transform(mask, cap=-1), np.zeros((4, 4), bool), r"cap is -1; expected 0 or more"),
        (lambda mask: distance_transform(mask, threads=0), np.zeros((4, 4), bool), r"threads is 0; expected 1 or"),
        (lambda mask: distance_transform(mask, spacing=(1, 0.5)), np.zeros((4, 4), bool), r"expected 2 whole numbers"),
        (lambda mask: distance_transform(mask, spacing=(1,)), np.zeros((4, 4), bool), r"expected 2 whole numbers"),
        (
            lambda mask: distance_transform(mask, spacing=(2**31, 2**31)),
            np.zeros((4, 4), bool),
            r"Squared distances in \(1, 4, 4\) px reach",
        ),
    ],
)
def test_what_does_not_fit_is_refused(function, image, message) -> None:
    with pytest.raises(InputError, match=message):
        function(image)

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.morphology import convex_hull_image, skeletonize

from cellscale.kernels.concavities import consecutive_labels, contours_and_skeletons
from cellscale.kernels.skeletons import pruned, skeleton
from cellscale.kernels.touching import boundary_pixels, separated
from cellscale.testing.cases import CASES
from cellscale.testing.naive import neighbourhoods, shapes
from cellscale.testing.strategies import cells, label_images, masks
from cellscale.types import Labels, Mask


def parts_and_holes(mask: Mask) -> tuple[int, int]:
    padded = np.pad(mask, 1)
    return ndimage.label(padded, np.ones((3, 3)))[1], ndimage.label(~padded)[1]


@settings(max_examples=200)
@given(masks())
def test_thinning_deletes_what_whole_passes_delete(mask: Mask) -> None:
    assert np.array_equal(skeleton(mask), shapes.skeleton(mask))


@given(masks(), st.integers(40, 140), st.integers(100, 140))
def test_a_figure_is_thinned_alike_wherever_it_lies(mask: Mask, left: int, top: int) -> None:
    large = np.zeros((200, 200), bool)
    place = np.s_[top : top + mask.shape[0], left : left + mask.shape[1]]
    large[place] = mask
    assert np.array_equal(skeleton(large)[place], skeleton(mask))


@settings(max_examples=200)
@given(masks())
def test_a_skeleton_has_the_parts_and_holes_of_its_figure(mask: Mask) -> None:
    found = skeleton(mask)
    assert not (found & ~mask).any()
    assert parts_and_holes(found) == parts_and_holes(mask)
    assert np.array_equal(skeleton(found), found)


@settings(max_examples=100)
@given(masks(), st.sampled_from([0.5, 2.0]))
def test_pruning_keeps_parts_and_holes(mask: Mask, length: int) -> None:
    lines = skeleton(mask)
    found = pruned(lines, mask, length=length)
    assert not (found & ~lines).any()
    assert parts_and_holes(found) == parts_and_holes(lines)
    assert np.array_equal(pruned(found, mask, length=length), found)


def test_pruning_drops_the_spur_of_a_bump_and_keeps_an_arm() -> None:
    """On the side of a bar of 20 px, where a disc of 10 px fits."""
    bar = np.zeros((60, 100), bool)
    bar[30:50, 5:95] = True
    bump, arm = bar.copy(), bar.copy()
    bump[28:30, 50], arm[10:30, 47:54] = True, True
    for mask, stays in ((bump, False), (arm, True)):
        lines = skeleton(mask)
        found = pruned(lines, mask, length=3)
        assert lines[:34, 40:60].any()
        assert found[:34, 40:60].any() == stays
        assert found[38:42, 20:80].any(axis=0).all()


@pytest.mark.parametrize("case", CASES)
def test_a_skeleton_lies_next_to_that_of_skimage(case: str) -> None:
    mask = CASES[case] > 0
    found, other = skeleton(mask), skeletonize(mask)
    if mask.any() and not mask.all():
        inner = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1] > 6
        assert ndimage.distance_transform_edt(~other)[found & inner].max(initial=0) <= 4
        assert ndimage.distance_transform_edt(~found)[other & inner].max(initial=0) <= 4


@given(label_images())
def test_contours_have_a_neighbour_outside(labels: Labels) -> None:
    assert np.array_equal(boundary_pixels(labels), neighbourhoods.boundary_pixels(labels))


@settings(max_examples=200)
@given(cells(longest=13))
def test_contours_and_skeletons_are_those_of_each_cell_and_concavity_alone(labels: Labels) -> None:
    apart = separated(labels)
    for found, expected in zip(contours_and_skeletons(apart), shapes.contours_and_skeletons(apart), strict=True):
        assert np.array_equal(found, expected)


@given(cells(), st.integers(40, 140), st.integers(100, 140))
def test_concavities_are_alike_wherever_they_lie(labels: Labels, left: int, top: int) -> None:
    apart = np.pad(separated(labels), 1)
    large = np.zeros((200, 200), np.uint32)
    place = np.s_[top : top + apart.shape[0], left : left + apart.shape[1]]
    large[place] = apart
    for one, other in zip(contours_and_skeletons(large), contours_and_skeletons(apart), strict=True):
        assert np.array_equal(one[place], other)
        assert one.sum() == other.sum()


@pytest.mark.parametrize("case", ["U", "comb", "cluster"])
def test_large_concavities_are_those_of_skimage(case: str) -> None:
    labels = separated(CASES[case].repeat(4, axis=0).repeat(4, axis=1))
    skeletons = skeleton(labels > 0)
    for label in np.unique(labels[labels > 0]):
        cell = labels == label
        skeletons |= skeleton(convex_hull_image(cell, offset_coordinates=False) & ~cell)
    assert np.array_equal(contours_and_skeletons(labels)[1], skeletons)


@pytest.mark.parametrize("case", ["U", "U around a cell", "comb", "ring around a cell", "cluster"])
def test_concavities_are_the_hulls_of_skimage_without_the_cells(case: str) -> None:
    labels = separated(CASES[case])
    contours, skeletons = boundary_pixels(labels), skeleton(labels > 0)
    for label in np.unique(labels[labels > 0]):
        cell = labels == label
        concavity = convex_hull_image(cell, offset_coordinates=False) & ~cell
        contours |= boundary_pixels(concavity.astype(int))
        skeletons |= skeleton(concavity)
    found = contours_and_skeletons(labels)
    assert np.array_equal(found[0], contours)
    assert np.array_equal(found[1], skeletons)


@settings(max_examples=100)
@given(cells(longest=13))
def test_pruned_concavities_are_opened_ones(labels: Labels) -> None:
    """Where no branch is short enough to go, what goes is thinner than 3 px."""
    apart = separated(labels)
    contours, skeletons = boundary_pixels(apart), pruned(skeleton(apart > 0), apart > 0, length=1e-9)
    for label in np.unique(apart[apart > 0]):
        concavity = shapes.hull(apart == label) & (apart != label)
        opened = ndimage.binary_opening(np.pad(concavity, 2), np.ones((3, 3), bool))[2:-2, 2:-2]
        contours |= boundary_pixels(opened.astype(int))
        skeletons |= skeleton(opened)
    found = contours_and_skeletons(apart, prune=1e-9)
    assert np.array_equal(found[0], contours)
    assert np.array_equal(found[1], skeletons)


def test_labels_are_numbered_whatever_their_size() -> None:
    for top in (3, 1000, 2**32 - 1):
        labels, count = consecutive_labels(np.array([[0, 2], [top, 2]], np.uint32))
        assert (labels.tolist(), count) == ([[0, 1], [2, 1]], 2)

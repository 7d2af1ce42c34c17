"""3-D objects: equal to cellpose's rule for stitching slices, written plainly; gaps; the smaller object."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cellscale.errors import InputError
from cellscale.linking.slices import SliceRules, join_slices
from cellscale.linking.tables import overlap_sums
from cellscale.types import Labels


def stack(seed: int, slices: int = 5) -> Labels:
    """Labels (z, y, x), numbered through the slices."""
    rng = np.random.default_rng(seed)
    made, count = [], 0
    rows, columns = np.mgrid[:30, :36]
    places = rng.uniform(0, 36, (9, 2))
    for _ in range(slices):
        labels = np.zeros((30, 36), np.int64)
        for k, (y, x) in enumerate(places + rng.normal(0, 1.5, places.shape)):
            labels[(rows - y) ** 2 + (columns - x) ** 2 <= rng.uniform(2, 5) ** 2] = k + 1
        ids, numbers = np.unique(labels, return_inverse=True)
        numbers = numbers.reshape(labels.shape) + (ids[0] > 0)
        made.append(np.where(numbers > 0, numbers + count, 0))
        count = int(made[-1].max(initial=count))
    return np.stack(made).astype(np.uint32)


def joined(labels: Labels, rules: SliceRules) -> Labels:
    ids, areas = np.unique(labels[labels > 0], return_counts=True)
    assert ids.tolist() == list(range(1, len(ids) + 1))
    slices = np.array([z for z, plane in enumerate(labels) for _ in np.unique(plane[plane > 0])], np.int64)
    parts = [
        overlap_sums(labels[z], labels[z + apart])
        for apart in range(1, rules.max_gap + 2)
        for z in range(len(labels) - apart)
    ]
    table = {name: np.concatenate([part[name] for part in parts]) for name in ("a", "b", "pixels")}
    table = {**table, "a": table["a"] - 1, "b": table["b"] - 1}
    numbers = join_slices(areas.astype(np.int64), slices, table, rules)
    return np.concatenate([[0], numbers])[labels].astype(np.uint32)


def test_a_gap_is_no_longer_than_the_image() -> None:
    labels = stack(3)
    longest = joined(labels, SliceRules(max_gap=len(labels) - 2))
    np.testing.assert_array_equal(joined(labels, SliceRules(max_gap=len(labels))), longest)
    endless = SliceRules(max_gap=10**12)
    areas, slices = np.array([4, 4], np.int64), np.array([0, 2], np.int64)
    pairs = {"a": np.array([0]), "b": np.array([1]), "pixels": np.array([4])}
    assert join_slices(areas, slices, pairs, endless).tolist() == [1, 1]
    assert join_slices(areas[:0], slices[:0], {name: column[:0] for name, column in pairs.items()}, endless).size == 0


def overlaps(below: NDArray[Any], here: NDArray[Any]) -> NDArray[np.float64]:
    """IoU of the objects of two slices, (objects here, objects below)."""
    masks, others = ([plane == k for k in np.unique(plane[plane > 0])] for plane in (here, below))
    return np.array([[(a & b).sum() / (a | b).sum() for a in others] for b in masks]).reshape(len(masks), len(others))


def tied(labels: Labels) -> bool:
    """Whether an object has its greatest IoU with two objects of a neighbouring slice; no rule says which counts."""
    for z in range(len(labels) - 1):
        iou = overlaps(labels[z], labels[z + 1])
        for rows in (iou, iou.T):
            if any(row.size and row.max() > 0 and (row == row.max()).sum() > 1 for row in rows):
                return True
    return False


def stitched(labels: Labels, threshold: float, *, mutual: bool) -> Labels:
    """Cellpose's rule: in each slice after the first, an object takes the number of the object below with which it has
    the greatest IoU, of those that have their greatest one with it. If `mutual`, it must be its own greatest, too."""
    out = labels.astype(np.int64)
    for z in range(len(out) - 1):
        below, here = np.unique(out[z][out[z] > 0]), np.unique(labels[z + 1][labels[z + 1] > 0])
        iou = overlaps(out[z], labels[z + 1])
        iou[iou < threshold] = 0
        if iou.size:
            less = iou < iou.max(axis=0)
            iou[less | (iou < iou.max(axis=1, keepdims=True)) if mutual else less] = 0
        for row, b in zip(iou, here, strict=True):
            if row.size and row.max() > 0:
                out[z + 1][labels[z + 1] == b] = below[row.argmax()]
    return out.astype(np.uint32)


def inside(parts: Labels, whole: Labels) -> bool:
    """Whether each object of one image lies in one object of the other."""
    pairs = np.unique(np.stack([parts.ravel(), whole.ravel()]), axis=1)
    return bool(len(np.unique(pairs[0])) == pairs.shape[1])


@given(seed=st.integers(0, 2**32), threshold=st.sampled_from([0.1, 0.25, 0.5]))
@settings(max_examples=40, deadline=None)
def test_objects_are_those_of_cellpose_where_matches_are_mutual(seed: int, threshold: float) -> None:
    labels = stack(seed)
    assume(not tied(labels))
    found, plain = joined(labels, SliceRules(threshold=threshold)), stitched(labels, threshold, mutual=True)
    assert inside(found, plain)
    assert inside(plain, found)
    assert inside(found, stitched(labels, threshold, mutual=False))


def test_a_branch_goes_on_in_one_arm_and_touching_cells_stay_apart() -> None:
    labels = np.zeros((3, 10, 20), np.uint32)
    labels[0, 2:8, 2:18] = 1
    labels[1, 2:8, 2:12], labels[1, 2:8, 12:18] = 2, 3
    labels[2, 2:8, 2:12], labels[2, 2:8, 12:18] = 4, 5
    found = joined(labels, SliceRules())
    assert [np.unique(plane[plane > 0]).tolist() for plane in found] == [[1], [1, 2], [1, 2]]


def test_a_missing_slice_is_bridged_if_asked() -> None:
    labels = np.zeros((4, 10, 10), np.uint32)
    labels[0, 2:8, 2:8], labels[2, 2:8, 2:8], labels[3, 2:8, 2:8] = 1, 2, 3
    assert [int(plane.max()) for plane in joined(labels, SliceRules())] == [1, 0, 2, 2]
    assert [int(plane.max()) for plane in joined(labels, SliceRules(max_gap=1))] == [1, 0, 1, 1]


def test_a_small_cap_belongs_to_the_cell_below_by_its_own_share() -> None:
    labels = np.zeros((2, 20, 20), np.uint32)
    labels[0, 2:18, 2:18], labels[1, 8:11, 8:11] = 1, 2
    assert int(joined(labels, SliceRules()).max()) == 2
    assert int(joined(labels, SliceRules(measure="smaller")).max()) == 1


def test_rules_that_make_no_sense_are_refused() -> None:
    with pytest.raises(InputError, match="threshold between slices is 0; expected more than 0, up to 1"):
        SliceRules(threshold=0)
    with pytest.raises(InputError, match="largest gap is -1 slices"):
        SliceRules(max_gap=-1)
    with pytest.raises(InputError, match="'dice' is not a valid measure"):
        SliceRules(measure="dice")  # type: ignore[arg-type]

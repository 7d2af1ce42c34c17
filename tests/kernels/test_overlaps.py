from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellscale.errors import InputError
from cellscale.kernels.overlaps import label_areas, overlap_table
from cellscale.testing.strategies import label_images, label_volumes


@given(label_images(), st.integers(0, 2**32 - 1))
def test_overlaps_are_the_counts_of_pairs(labels, seed) -> None:
    other = np.random.default_rng(seed).permutation(labels.ravel()).reshape(labels.shape).astype(np.int64)
    columns = overlap_table(labels, other)
    expected = Counter(zip(labels.ravel().tolist(), other.ravel().tolist(), strict=True))
    assert list(zip(*(column.tolist() for column in columns), strict=True)) == [
        (*pair, count) for pair, count in sorted(expected.items())
    ]


@given(label_volumes(), st.integers(2, 5))
def test_overlaps_of_volumes_are_the_same_with_threads(labels, threads) -> None:
    other = labels[::-1]
    columns = overlap_table(labels, other, threads=threads)
    expected = sorted(Counter(zip(labels.ravel().tolist(), other.ravel().tolist(), strict=True)).items())
    assert list(zip(*(column.tolist() for column in columns), strict=True)) == [(*pair, n) for pair, n in expected]
    for one, many in zip(label_areas(labels), label_areas(labels, threads=threads), strict=True):
        assert np.array_equal(one, many)


@given(label_images())
def test_areas_are_the_counts_of_cells(labels) -> None:
    ids, areas = label_areas(labels)
    expected = Counter(labels[labels > 0].tolist())
    assert dict(zip(ids.tolist(), areas.tolist(), strict=True)) == expected
    assert ids.tolist() == sorted(expected)


def test_the_largest_labels_are_kept_apart() -> None:
    top = np.iinfo(np.uint32).max
    a, b = np.array([[top, top - 1]], np.uint32), np.array([[0, top]], np.uint32)
    ids_a, ids_b, counts = overlap_table(a, b)
    assert (ids_a.tolist(), ids_b.tolist(), counts.tolist()) == ([top - 1, top], [top, 0], [1, 1])


def test_different_shapes_are_refused() -> None:
    with pytest.raises(InputError, match=r"a and b have the shapes \(2, 2\) and \(2, 3\)"):
        overlap_table(np.zeros((2, 2), int), np.zeros((2, 3), int))

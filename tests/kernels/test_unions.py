import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellscale.errors import InputError
from cellscale.kernels.unions import merge, relabel
from cellscale.testing.naive import components as naive
from cellscale.testing.strategies import label_images

members = st.integers(1, 12).flatmap(
    lambda n: st.tuples(st.just(n), st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1))))
)


@given(members, st.randoms())
def test_the_smallest_member_is_the_root_in_any_order(drawn, random) -> None:
    count, pairs = drawn
    expected = naive.merge(count, pairs)
    random.shuffle(pairs)
    assert merge(count, np.array(pairs, np.int64).reshape(-1, 2)).tolist() == expected


@given(label_images())
def test_relabelling_looks_every_pixel_up(labels) -> None:
    table = np.array([0, 5, 5, 9, 1, 2, 3, 0, *range(1000)], np.int64)
    found = relabel(labels, table)
    assert found.dtype == np.uint32
    assert np.array_equal(found, table[labels])


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match=r"Pairs name the members 0 to 3; expected 0 to 2"):
        merge(3, np.array([[0, 3]]))
    with pytest.raises(InputError, match=r"table\[0\] is not 0"):
        relabel(np.zeros((2, 2), int), np.array([1, 2]))
    with pytest.raises(InputError, match=r"Label 7 at pixel \(1, 0\) has no entry in a table of 2"):
        relabel(np.array([[0, 1], [7, 0]]), np.array([0, 2]))

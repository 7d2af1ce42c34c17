import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellscale.errors import InputError
from cellscale.kernels.forests import forest_votes
from cellscale.testing.naive import forests as naive

FEATURES = 3


def grown(rng, trees, nodes):
    """Random trees: a node has two children after it, or none."""
    child = np.zeros((trees, nodes, 2), np.int32)
    for tree in child:
        free = 1
        for node in range(nodes):
            if node < free and free + 2 <= nodes and rng.random() < 0.7:
                tree[node] = free, free + 1
                free += 2
    return {
        "feature": rng.integers(0, FEATURES, (trees, nodes)).astype(np.int32),
        "threshold": rng.integers(-2, 3, (trees, nodes)).astype(np.float32),
        "child": child,
        "votes": rng.integers(0, 1 << 16, (trees, nodes, 3)).astype(np.int32),
    }


@given(st.integers(0, 2**32 - 1), st.integers(0, 4), st.integers(1, 15), st.integers(0, 20))
def test_votes_are_those_of_the_leaves(seed, trees, nodes, points):
    rng = np.random.default_rng(seed)
    forest = grown(rng, trees, nodes)
    values = rng.integers(-3, 4, (points, FEATURES)).astype(np.float32)
    found = forest_votes(values, **forest)
    assert found.dtype == np.int64
    assert np.array_equal(found, naive.forest_votes(values, **forest))


def one(**changes):
    forest = grown(np.random.default_rng(1), 2, 7)
    assert forest["child"][0, 0].any()
    for name, (at, value) in changes.items():
        forest[name][at] = value
    return forest


@pytest.mark.parametrize(
    "forest",
    [one(child=((0, 0), (9, 2))), one(child=((0, 0), (0, 2))), one(feature=((0, 0), FEATURES))],
    ids=["a child beyond the last", "a tree that never ends", "a feature that is not there"],
)
def test_a_broken_forest_is_refused(forest):
    with pytest.raises(InputError, match="names a child or a feature that is not there; it has 7 nodes"):
        forest_votes(np.zeros((1, FEATURES), np.float32), **forest)


def test_arrays_that_do_not_belong_together_are_refused():
    forest = one()
    with pytest.raises(InputError, match=r"A forest of \(2, 7\) \(trees, nodes\) has .*'threshold': \(2, 6\)"):
        forest_votes(np.zeros((1, FEATURES), np.float32), **{**forest, "threshold": forest["threshold"][:, :6]})

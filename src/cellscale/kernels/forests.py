"""Decision forests as flat arrays: which share of its trees votes for each class, in whole numbers.

L. Breiman, Random forests, 2001. Votes are integers, so that their sum depends neither on the order of the trees nor on
the order of the pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cellscale.errors import InputError
from cellscale.kernels.compiling import kernel

VOTE = 1 << 16
"""What one tree has to give: the votes of a leaf sum to about this."""


@kernel
def _add_votes(
    values: NDArray[np.float32],
    feature: NDArray[np.int32],
    threshold: NDArray[np.float32],
    child: NDArray[np.int32],
    votes: NDArray[np.int32],
    out: NDArray[np.int64],
) -> None:
    for tree in range(feature.shape[0]):
        for i in range(values.shape[0]):
            node = 0
            while child[tree, node, 0] > 0:
                side = 0 if values[i, feature[tree, node]] <= threshold[tree, node] else 1
                node = child[tree, node, side]
            for k in range(votes.shape[2]):
                out[i, k] += votes[tree, node, k]


def forest_votes(
    values: NDArray[np.float32],
    *,
    feature: NDArray[np.int32],
    threshold: NDArray[np.float32],
    child: NDArray[np.int32],
    votes: NDArray[np.int32],
) -> NDArray[np.int64]:
    """Sum the votes of the leaves that each point falls into, int64, (points, classes).

    Parameters
    ----------
    values : float32 array, (points, features)
        What the trees look at.
    feature, threshold : int32 and float32 array, (trees, nodes)
        A point goes to the first child of a node if its value of the feature is at most the threshold.
    child : int32 array, (trees, nodes, 2)
        Numbers of the child, each greater than its parent's; 0: a leaf.
    votes : int32 array, (trees, nodes, classes)
        What a leaf gives to each class.

    Raises
    ------
    InputError
        If shapes or types do not fit, or a node names a feature or a child that is not there.
    """
    nodes = feature.shape
    shapes = {"threshold": threshold.shape, "child": child.shape[:-1], "votes": votes.shape[:-1]}
    wrong = [name for name, shape in shapes.items() if shape != nodes]
    if wrong or values.ndim != 2 or child.shape[2:] != (2,):
        raise InputError(
            f"A forest of {nodes} (trees, nodes) has {shapes}, and values of shape {values.shape}; expected (points, "
            "features) and arrays of equal leading axes."
        )
    _check_nodes(feature, child, values.shape[1])
    out = np.zeros((len(values), votes.shape[2]), np.int64)
    _add_votes(
        np.ascontiguousarray(values, np.float32),
        np.ascontiguousarray(feature, np.int32),
        np.ascontiguousarray(threshold, np.float32),
        np.ascontiguousarray(child, np.int32),
        np.ascontiguousarray(votes, np.int32),
        out,
    )
    return out


def _check_nodes(feature: NDArray[np.int32], child: NDArray[np.int32], features: int) -> None:
    """Refuse what would read outside of the arrays, or never end."""
    number = np.arange(feature.shape[1])[:, None]
    there = (child > number) & (child < feature.shape[1])
    known = (feature >= 0) & (feature < features)
    leaf = np.all(child == 0, axis=2)
    if not np.all(leaf | (np.all(there, axis=2) & known)):
        raise InputError(
            f"A node of the forest names a child or a feature that is not there; it has {feature.shape[1]} nodes, and "
            f"there are {features} features. Were the method's scales or channels changed after the training?"
        )

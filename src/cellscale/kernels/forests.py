"""Decision forests as flat arrays: the votes of all trees for each class, as integers.

Integers add up to the same sum in any order, so votes do not depend on how pixels are divided among blocks or tiles.

L. Breiman, Random forests, Machine Learning 45, 2001.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cellscale.errors import InputError
from cellscale.kernels.compiling import kernel

VOTE = 1 << 16
"""Total of a leaf's votes, up to rounding: fits into int32, and the sum over all trees into int64."""
BLOCK = 256
"""Points that pass through one tree after the other before the next block of points begins."""


@kernel
def _add_votes(
    values: NDArray[np.float32],
    feature: NDArray[np.int32],
    threshold: NDArray[np.float32],
    child: NDArray[np.int32],
    votes: NDArray[np.int32],
    out: NDArray[np.int64],
) -> None:
    """Add the votes of all trees to `out` (points, classes); shapes as in `forest_votes`."""
    # A block of points stays in the processor's cache while every tree is walked. Unsigned indices save the test for
    # negative ones. A node's first child is 0 only in a leaf, as children have greater numbers than their parents.
    for start in range(0, values.shape[0], BLOCK):
        for tree in range(feature.shape[0]):
            features, thresholds, below = feature[tree], threshold[tree], child[tree]
            for i in range(start, min(start + BLOCK, values.shape[0])):
                node = np.uintp(0)
                left = below[node, 0]
                while left > 0:
                    fits = values[i, np.uintp(features[node])] <= thresholds[node]
                    node = np.uintp(left) if fits else np.uintp(below[node, 1])
                    left = below[node, 0]
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
        Features of each point.
    feature, threshold : int32 and float32 array, (trees, nodes)
        A point goes to the first child of a node if its value of the feature is at most the threshold.
    child : int32 array, (trees, nodes, 2)
        Numbers of the child, each greater than its parent's; 0: a leaf.
    votes : int32 array, (trees, nodes, classes)
        Votes of a leaf for each class.

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
    """Raise InputError for a forest on which a walk would leave the arrays or never end."""
    number = np.arange(feature.shape[1])[:, None]
    there = (child > number) & (child < feature.shape[1])
    known = (feature >= 0) & (feature < features)
    leaf = np.all(child == 0, axis=2)
    if not np.all(leaf | (np.all(there, axis=2) & known)):
        raise InputError(
            f"A node of the forest names a child or a feature that is not there; it has {feature.shape[1]} nodes, and "
            f"there are {features} features. Were the method's scales or channels changed after the training?"
        )

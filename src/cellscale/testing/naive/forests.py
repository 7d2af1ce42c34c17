"""Naive twin of `cellscale.kernels.forests`: walk each tree for each point."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def forest_votes(
    values: NDArray[np.float32],
    *,
    feature: NDArray[np.int32],
    threshold: NDArray[np.float32],
    child: NDArray[np.int32],
    votes: NDArray[np.int32],
) -> NDArray[np.int64]:
    """Sum of the votes (points, classes) of the leaves that each point (points, features) falls into.

    Parameters
    ----------
    values : float32 array, (points, features)
        Features that the nodes compare.
    feature, threshold : array, (trees, nodes)
        A point takes the first child if its value of the feature is at most the threshold.
    child : int32 array, (trees, nodes, 2)
        Numbers of the children; 0 and 0 for a leaf.
    votes : int32 array, (trees, nodes, classes)
        Votes of a leaf for each class.
    """
    found = np.zeros((len(values), votes.shape[2]), np.int64)
    for i, point in enumerate(values):
        for tree in range(len(feature)):
            node = 0
            while child[tree, node].any():
                left, right = child[tree, node]
                node = left if point[feature[tree, node]] <= threshold[tree, node] else right
            found[i] += votes[tree, node]
    return found

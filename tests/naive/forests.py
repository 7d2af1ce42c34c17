"""A forest walked tree by tree and point by point."""

import numpy as np


def forest_votes(values, *, feature, threshold, child, votes):
    found = np.zeros((len(values), votes.shape[2]), int)
    for i, point in enumerate(values):
        for tree in range(len(feature)):
            node = 0
            while child[tree, node].any():
                left, right = child[tree, node]
                node = left if point[feature[tree, node]] <= threshold[tree, node] else right
            found[i] += votes[tree, node]
    return found

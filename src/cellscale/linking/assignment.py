"""Assignment: choice of candidate pairs as links, with the least total cost.

K. Jaqaman et al., Robust single-particle tracking in live-cell time-lapse sequences, 2008. An object of the
first plane that gets no partner has a fixed cost, greater than that of every candidate pair. Costs are whole numbers:
sums of them are exact in any order.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from cellscale.types import Table

UNIT = 2**20
"""Cost 1.0; sums over millions of links stay below 2⁵³, where float64 is exact."""


def assign(candidates: Table, counts: tuple[int, int], *, nothing: int) -> NDArray[np.int64]:
    """Choose links of the least total cost, at most one for each object.

    Parameters
    ----------
    candidates : Table
        a, b (rows of the two planes, each pair once) and cost, from 0 to less than `nothing`.
    counts : tuple of int
        Number of objects of the two planes.
    nothing : int
        Cost of an object of the first plane that gets no link.

    Returns
    -------
    int64 array, (n,)
        Indices of the chosen candidates, ascending by a.
    """
    a, b, cost = (candidates[name] for name in ("a", "b", "cost"))
    if not len(a):
        return np.zeros(0, np.int64)
    n, m = counts
    # Each object of the first plane has a partner of its own that stands for none: the matching is then complete. Costs
    # begin at 1 because a sparse entry of 0 is no entry.
    rows, columns = np.concatenate([a, np.arange(n)]), np.concatenate([b, m + np.arange(n)])
    costs = np.concatenate([cost, np.full(n, nothing)]) + 1
    chosen, partners = min_weight_full_bipartite_matching(
        coo_array((costs.astype(np.float64), (rows, columns)), shape=(n, m + n)).tocsr()
    )
    taken = np.full(n, -1, np.int64)
    taken[chosen] = partners
    return np.flatnonzero(taken[a] == b)[np.argsort(a[taken[a] == b], kind="stable")]

"""Union–find and relabelling: from fragments to objects to final labels.

R. E. Tarjan and J. van Leeuwen, Worst-case analysis of set union algorithms, 1984: path halving. The root of a set is
its smallest member, not that of greatest rank, so that the result does not depend on the order of the unions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellscale.errors import InputError
from cellscale.kernels.arguments import label_image
from cellscale.kernels.compiling import kernel
from cellscale.types import Labels


@kernel
def root(parent: NDArray[np.int64], i: int) -> int:
    """Return the root of member `i`, halving the path to it; for compiled callers."""
    while parent[i] != i:
        parent[i] = parent[parent[i]]  # skip one: every walk halves the path for the next
        i = parent[i]
    return i


@kernel
def unite(parent: NDArray[np.int64], i: int, j: int) -> None:
    """Merge the sets of `i` and `j` under the smaller root; for compiled callers."""
    a, b = root(parent, i), root(parent, j)
    parent[max(a, b)] = min(a, b)


@kernel
def _merge(parent: NDArray[np.int64], pairs: NDArray[np.int64]) -> None:
    for k in range(pairs.shape[0]):
        unite(parent, pairs[k, 0], pairs[k, 1])
    # Roots are the smallest members, so parents come before their children and point to their root already when a child
    # is reached: one pass in ascending order flattens all trees.
    for i in range(parent.size):
        parent[i] = parent[parent[i]]


def merge(count: int, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Merge the sets of each pair of the members 0 … `count` − 1.

    Parameters
    ----------
    count : int
        Number of members.
    pairs : int64 array, (m, 2)
        Members that belong together; the order of the pairs does not matter.

    Returns
    -------
    int64 array, (count,)
        The smallest member of each one's set.

    Raises
    ------
    InputError
        If a pair names a member that does not exist.
    """
    rows = np.ascontiguousarray(pairs, np.int64).reshape(-1, 2)
    if rows.size and (rows.min() < 0 or rows.max() >= count):
        raise InputError(f"Pairs name the members {rows.min()} to {rows.max()}; expected 0 to {count - 1}.")
    parent = np.arange(count, dtype=np.int64)
    _merge(parent, rows)
    return parent


@kernel
def _look_up(labels: Labels, table: Labels, out: Labels) -> int:
    """Write the table's entries (n,) of labels (n,); return the index of the first label without an entry, or −1."""
    for i in range(labels.size):
        if labels[i] >= table.size:
            return i
        out[i] = table[labels[i]]
    return -1


def relabel(labels: NDArray[np.integer[Any]], table: NDArray[np.integer[Any]]) -> Labels:
    """Replace every label by its entry in a table.

    Parameters
    ----------
    labels : integer array, (y, x) or (z, y, x)
        Labels, at most len(table) − 1.
    table : integer array, (n,)
        The new label of each; table[0] is 0.

    Returns
    -------
    uint32 array, as the labels

    Raises
    ------
    InputError
        If the background would change or a label has no entry.
    """
    image, entries = label_image(labels, axes=3), label_image(np.asarray(table).reshape(1, -1), "table")[0]
    if entries.size == 0 or entries[0] != 0:
        raise InputError("table[0] is not 0: background would become a cell. Put 0 first.")
    out = np.empty_like(image)
    missing = _look_up(image.reshape(-1), entries, out.reshape(-1))
    if missing >= 0:
        at, label = tuple(int(i) for i in np.unravel_index(missing, image.shape)), image.flat[missing]
        raise InputError(f"Label {label} at pixel {at} has no entry in a table of {entries.size}.")
    return out

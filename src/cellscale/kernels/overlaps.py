"""Which labels of two images share pixels, and how many; how many pixels a label has."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellscale.kernels.arguments import check_equal_shapes, label_image
from cellscale.kernels.compiling import kernel
from cellscale.kernels.threads import in_bands, worthwhile
from cellscale.types import Labels


@kernel
def _runs_of_pairs(left: Labels, right: Labels, pairs: NDArray[np.uint64], lengths: NDArray[np.int64]) -> int:
    """Write each run of equal pairs once; returned is the number of runs."""
    n = -1
    for i in range(left.size):
        if i == 0 or left[i] != left[i - 1] or right[i] != right[i - 1]:
            n += 1
            pairs[n] = (np.uint64(left[i]) << np.uint64(32)) | np.uint64(right[i])
            lengths[n] = 0
        lengths[n] += 1
    return n + 1


def _summed(pairs: NDArray[np.uint64], lengths: NDArray[np.int64]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Different pairs in ascending order, and the sum of the lengths of each."""
    order = np.argsort(pairs)
    ordered = pairs[order]
    starts = np.flatnonzero(np.concatenate([np.ones(min(len(pairs), 1), bool), ordered[1:] != ordered[:-1]]))
    return ordered[starts], np.add.reduceat(lengths[order], starts) if len(pairs) else np.zeros(0, np.int64)


def _counted_pairs(a: Labels, b: Labels, threads: int = 1) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Different pairs a << 32 | b in ascending order, and how often each occurs."""
    left, right = a.reshape(-1), b.reshape(-1)
    parts: list[tuple[NDArray[np.uint64], NDArray[np.int64]]] = []

    def count(begin: int, end: int) -> None:
        pairs, lengths = np.empty(end - begin, np.uint64), np.empty(end - begin, np.int64)
        n = _runs_of_pairs(left[begin:end], right[begin:end], pairs, lengths)
        parts.append(_summed(pairs[:n], lengths[:n]))

    in_bands(count, left.size, worthwhile(threads, left.size))
    if len(parts) == 1:
        return parts[0]
    return _summed(np.concatenate([pairs for pairs, _ in parts]), np.concatenate([counts for _, counts in parts]))


def overlap_table(
    a: NDArray[np.integer[Any]], b: NDArray[np.integer[Any]], *, threads: int = 1
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Count the pixels that each label of one image shares with each of another, background included.

    Parameters
    ----------
    a, b : integer array, (y, x) or (z, y, x)
        Label images of equal shape.
    threads : int
        So many work at once, but one on less than 2²¹ pixels; the result does not depend on it.

    Returns
    -------
    ids_a, ids_b, counts : int64 array, (n,)
        Pairs of labels that occur, in ascending order, and their pixels; the sum of all is a's size.
    """
    left, right = label_image(a, "a", axes=3), label_image(b, "b", axes=3)
    check_equal_shapes(left, right, "a and b")
    pairs, counts = _counted_pairs(left, right, threads)
    return (pairs >> np.uint64(32)).astype(np.int64), (pairs & np.uint64(0xFFFFFFFF)).astype(np.int64), counts


def label_areas(labels: NDArray[np.integer[Any]], *, threads: int = 1) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count the pixels of each cell.

    Parameters
    ----------
    labels : integer array, (y, x) or (z, y, x)
        Cells.
    threads : int
        So many work at once, but one on less than 2²¹ pixels; the result does not depend on it.

    Returns
    -------
    ids, areas : int64 array, (n,)
        Labels that occur, in ascending order and without background, and their pixels.
    """
    image = label_image(labels, axes=3)
    pairs, counts = _counted_pairs(image, image, threads)
    ids = (pairs & np.uint64(0xFFFFFFFF)).astype(np.int64)
    return ids[ids > 0], counts[ids > 0]

"""Overlaps of two label images, and areas of the labels of one.

Pairs of labels are packed into one uint64 key, a << 32 | b, which sorts as the pair does. Label images have long runs
of equal pairs, so runs are counted first and only their keys are sorted.
"""

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
    """Write key and length (n,) of each run of equal pairs of two flat label images; return the number of runs."""
    n = -1  # index of the current run
    for i in range(left.size):
        if i == 0 or left[i] != left[i - 1] or right[i] != right[i - 1]:
            n += 1
            pairs[n] = (np.uint64(left[i]) << np.uint64(32)) | np.uint64(right[i])
            lengths[n] = 0
        lengths[n] += 1
    return n + 1


@kernel
def _runs_in_common(left: Labels, right: Labels, pairs: NDArray[np.uint64], lengths: NDArray[np.int64]) -> int:
    """Write key and length (n,) of each run of equal pairs without background; return the number of runs.

    Runs of one pair that background separates are two runs; their keys are sorted and added up like those of others.
    """
    n, last = -1, np.uint64(0)
    for i in range(left.size):
        key = np.uint64(0)
        if left[i] > 0 and right[i] > 0:
            key = (np.uint64(left[i]) << np.uint64(32)) | np.uint64(right[i])
            if key != last:
                n += 1
                pairs[n], lengths[n] = key, 0
            lengths[n] += 1
        last = key
    return n + 1


def _summed(pairs: NDArray[np.uint64], lengths: NDArray[np.int64]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return the different keys in ascending order, and the sum of the lengths of each."""
    order = np.argsort(pairs)
    ordered = pairs[order]
    starts = np.flatnonzero(np.concatenate([np.ones(min(len(pairs), 1), bool), ordered[1:] != ordered[:-1]]))
    return ordered[starts], np.add.reduceat(lengths[order], starts) if len(pairs) else np.zeros(0, np.int64)


def _counted_pairs(a: Labels, b: Labels, threads: int = 1) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return the different keys a << 32 | b in ascending order, and the number of pixels of each.

    Bands are counted by themselves; their sums do not depend on the order in which they are added.
    """
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
        Number of threads, for 2²¹ pixels or more; the result does not depend on it.

    Returns
    -------
    ids_a, ids_b, counts : int64 array, (n,)
        Pairs of labels that occur, in ascending order, and their pixels; the counts add up to the size of `a`.
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
        Number of threads, for 2²¹ pixels or more; the result does not depend on it.

    Returns
    -------
    ids, areas : int64 array, (n,)
        Labels that occur, in ascending order and without background, and their pixels.
    """
    image = label_image(labels, axes=3)
    pairs, counts = _counted_pairs(image, image, threads)
    ids = (pairs & np.uint64(0xFFFFFFFF)).astype(np.int64)
    return ids[ids > 0], counts[ids > 0]


def common_pixels(
    a: NDArray[np.integer[Any]], b: NDArray[np.integer[Any]]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Count the pixels that each cell of one image shares with each of another, without background.

    After one pass over the pixels, the work follows from the runs of pixels that are a cell in both.

    Parameters
    ----------
    a, b : integer array, (y, x) or (z, y, x)
        Label images of equal shape.

    Returns
    -------
    ids_a, ids_b, counts : int64 array, (n,)
        Pairs of labels that share pixels, in ascending order, and their number.
    """
    left, right = label_image(a, "a", axes=3), label_image(b, "b", axes=3)
    check_equal_shapes(left, right, "a and b")
    runs, lengths = np.empty(left.size, np.uint64), np.empty(left.size, np.int64)
    n = _runs_in_common(left.reshape(-1), right.reshape(-1), runs, lengths)
    pairs, counts = _summed(runs[:n], lengths[:n])
    return (pairs >> np.uint64(32)).astype(np.int64), (pairs & np.uint64(0xFFFFFFFF)).astype(np.int64), counts

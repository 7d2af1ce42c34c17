"""Instances that compete for pixels: which of them stay, and which pixel is whose. Whole numbers only.

Keys are strict: a higher score comes first, then the order in which the candidates are given.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cellscale.errors import InputError
from cellscale.kernels.compiling import kernel
from cellscale.types import Candidates

PER_MILLE = 1000


def by_key(candidates: Candidates) -> NDArray[np.int64]:
    """Numbers of the candidates, the highest (score, −y, −x of the anchor) first; equal ones in the order given."""
    y, x = candidates.anchors.T
    return np.lexsort((x, y, -candidates.scores.astype(np.int64)))


@kernel
def _common(a: NDArray[np.int64], b: NDArray[np.int64]) -> int:
    """Pixels that two boxes share."""
    height, width = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return int(max(height, 0) * max(width, 0))


@kernel
def _overlap(a: NDArray[np.int64], b: NDArray[np.int64], most: int) -> bool:
    common = _common(a, b)
    both = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common
    return bool(PER_MILLE * common > most * both)


@kernel
def _suppress(
    boxes: NDArray[np.int64],
    anchors: NDArray[np.int32],
    rank: NDArray[np.int64],
    most: int,
    kept: NDArray[np.bool_],
) -> None:
    """Boxes are sorted by their first row; a pair's lower key goes. Equal anchors would be one object after a join."""
    for i in range(boxes.shape[0]):
        j = i + 1
        while j < boxes.shape[0] and boxes[j, 0] < boxes[i, 2]:
            if _overlap(boxes[i], boxes[j], most) or (anchors[i] == anchors[j]).all():
                kept[i if rank[i] > rank[j] else j] = False
            j += 1


def unsuppressed(candidates: Candidates, *, most: float) -> NDArray[np.bool_]:
    """Keep the candidates that none with a higher key overlaps, or shares its anchor with; one step, not a chain.

    So a candidate's fate depends on those whose boxes meet its own and on no others, unlike in a greedy suppression.

    Parameters
    ----------
    candidates : Candidates
        n of them.
    most : float
        Greatest overlap that is allowed: area of both boxes in common over the area of either.

    Returns
    -------
    bool array, (n,)
    """
    if not 0 <= most <= 1:
        raise InputError(f"The greatest overlap is {most}; expected 0 to 1.")
    rank = np.empty(len(candidates), np.int64)
    rank[by_key(candidates)] = np.arange(len(candidates))
    order = np.argsort(candidates.boxes[:, 0], kind="stable")
    kept = np.ones(len(candidates), bool)
    boxes, anchors = candidates.boxes[order].astype(np.int64), candidates.anchors[order]
    _suppress(boxes, anchors, rank[order], round(PER_MILLE * most), kept)
    found = np.empty_like(kept)
    found[order] = kept
    return found


@kernel
def _place(at: int, start: int, stop: int, size: int) -> tuple[int, int]:
    """Mask cell before a pixel's centre, and how far beyond that cell's centre it is, in 1 / (2 · (stop − start))."""
    span = 2 * (stop - start)
    steps = min(max((2 * (at - start) + 1) * size - (stop - start), 0), (size - 1) * span)
    return steps // span, steps % span


@kernel
def _value(mask: NDArray[np.uint8], box: NDArray[np.int64], y: int, x: int) -> int:
    """The mask at a pixel of its box, bilinear between the centres of mask cells, rounded down."""
    size = mask.shape[0]
    j, fy = _place(y, box[0], box[2], size)
    i, fx = _place(x, box[1], box[3], size)
    below, right = min(j + 1, size - 1), min(i + 1, size - 1)
    height, width = 2 * (box[2] - box[0]), 2 * (box[3] - box[1])
    upper = (width - fx) * np.int64(mask[j, i]) + fx * np.int64(mask[j, right])
    lower = (width - fx) * np.int64(mask[below, i]) + fx * np.int64(mask[below, right])
    return int(((height - fy) * upper + fy * lower) // (height * width))


@kernel
def _paint(
    boxes: NDArray[np.int64],
    scores: NDArray[np.int64],
    masks: NDArray[np.uint8],
    least: int,
    best: NDArray[np.int64],
    owner: NDArray[np.int32],
) -> None:
    """Paint candidates from the highest key on: a later one must be strictly stronger."""
    for n in range(boxes.shape[0]):
        box = boxes[n]
        for y in range(max(box[0], 0), min(box[2], owner.shape[0])):
            for x in range(max(box[1], 0), min(box[3], owner.shape[1])):
                value = _value(masks[n], box, y, x)
                if value >= least and value * scores[n] > best[y, x]:
                    best[y, x] = value * scores[n]
                    owner[y, x] = n + 1


def painted(candidates: Candidates, *, least: int = 128) -> NDArray[np.int32]:
    """Give each pixel to the candidate with the greatest mask value times score.

    Parameters
    ----------
    candidates : Candidates
        n of them.
    least : int
        Mask values below this claim no pixel, 0 … 255.

    Returns
    -------
    int32 array, (y, x) of the region
        Number of the candidate, from 1; 0: nobody's. Ties go to the higher key.
    """
    order = by_key(candidates)
    owner = np.zeros(candidates.shape, np.int32)
    _paint(
        candidates.boxes[order].astype(np.int64),
        candidates.scores[order].astype(np.int64),
        candidates.masks[order],
        least,
        np.zeros(candidates.shape, np.int64),
        owner,
    )
    return np.concatenate([[0], order + 1]).astype(np.int32)[owner]

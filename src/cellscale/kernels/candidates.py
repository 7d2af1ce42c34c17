"""Suppression and painting of candidates that compete for pixels, in integers.

Keys are strict: (score, −y, −x of the anchor), then the order in which candidates are given. Scores are uint16, mask
values uint8 and boxes up to 2²⁵ px a side, so all products below stay within int64.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cellscale.errors import InputError
from cellscale.kernels.compiling import kernel
from cellscale.types import Candidates

PER_MILLE = 1000
"""Overlaps are compared in 1 / PER_MILLE, so that no quotient is rounded."""


def by_key(candidates: Candidates) -> NDArray[np.int64]:
    """Return the numbers (n,) of the candidates, the highest key first."""
    y, x = candidates.anchors.T
    return np.lexsort((x, y, -candidates.scores.astype(np.int64)))


@kernel
def _common(a: NDArray[np.int64], b: NDArray[np.int64]) -> int:
    """Return the number of pixels that two boxes y0, x0, y1, x1 share."""
    height, width = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return int(max(height, 0) * max(width, 0))


@kernel
def _overlap(a: NDArray[np.int64], b: NDArray[np.int64], most: int) -> bool:
    """Return whether the intersection over union of two boxes is above most / PER_MILLE."""
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
    """Drop the lower key of each pair of boxes that overlap too much or share an anchor, in `kept` (n,).

    Boxes (n, 4) are sorted by their first row: those that can meet box i follow it directly, up to the first one that
    begins below its end. Candidates with equal anchors would become one object when tiles are joined.
    """
    for i in range(boxes.shape[0]):
        j = i + 1
        while j < boxes.shape[0] and boxes[j, 0] < boxes[i, 2]:
            if _overlap(boxes[i], boxes[j], most) or (anchors[i] == anchors[j]).all():
                kept[i if rank[i] > rank[j] else j] = False
            j += 1


def unsuppressed(candidates: Candidates, *, most: float) -> NDArray[np.bool_]:
    """Keep the candidates that overlap none with a higher key, and share their anchor with none.

    This is the Fast NMS of D. Bolya et al., YOLACT, 2019: a suppressed candidate still suppresses others. Whether a
    candidate is kept therefore depends only on the candidates whose boxes meet its own; in a greedy suppression it
    would depend on chains of any length.

    Parameters
    ----------
    candidates : Candidates
        n of them.
    most : float
        Greatest intersection over union of two boxes that is allowed.

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
    """Return the grid cell at or before a pixel's centre, and how far beyond its centre it is, in 1 / span.

    Along one axis the box start … stop − 1 has `size` grid cells. In units of cells the centre of pixel `at` lies at
    (at − start + ½) · size / (stop − start) − ½ from the centre of cell 0. Both sides are multiplied by
    span = 2 · (stop − start) to stay in integers.
    """
    span = 2 * (stop - start)
    steps = min(max((2 * (at - start) + 1) * size - (stop - start), 0), (size - 1) * span)
    return steps // span, steps % span


@kernel
def _value(mask: NDArray[np.uint8], box: NDArray[np.int64], y: int, x: int) -> int:
    """Return the mask (size, size) at a pixel of its box, bilinear between the centres of grid cells, rounded down.

    Weights are numerators over height and width; one division by their product comes last.
    """
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
    """Write the number of each pixel's owner from 1, (y, x); `best` has its mask value times score.

    Candidates are sorted by key: of equal products the first, with the higher key, stays.
    """
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
        Least mask value that claims a pixel, 0 … 255.

    Returns
    -------
    int32 array, (y, x) of the region
        Number of the owner, from 1; 0 for no owner. Ties go to the higher key.
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

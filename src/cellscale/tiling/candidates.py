"""Candidates of windows: each belongs to one window, so a frame's candidates follow from its windows alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellscale.tiling.windows import Windows
from cellscale.types import Box, Candidates

SEAM_PX = 8
"""Margin around its core in which a window keeps candidates, px: two windows may round the middle of one cell
differently and each leave it to the other. The suppression that follows keeps one of two."""


def owned(candidates: Candidates, windows: Windows, window: int, *, seam: int) -> Candidates:
    """Take a window's candidates whose middle lies in its core, in the coordinates of the frame.

    It is the middle of the box's part in the frame, so that a cell that the mirrored border completes has one too. A
    box that touches a side where the window cuts the image is dropped: its cell is a neighbour's.

    Parameters
    ----------
    candidates : Candidates
        In the coordinates of the window.
    windows : Windows
        Windows of the frame.
    window : int
        The window's number.
    seam : int
        Candidates so far outside the core are taken too, px.
    """
    seen = windows.window_box(window)
    boxes = candidates.boxes + np.array([seen.y0, seen.x0] * 2, np.int32)
    low, high = np.maximum(boxes[:, :2], 0), np.minimum(boxes[:, 2:], windows.shape)
    core = windows.core_box(window).grow(seam)
    mine = _inside((low + high) // 2, core) & (low < high).all(axis=1)
    cut_low = (boxes[:, :2] <= (seen.y0, seen.x0)) & (np.array([seen.y0, seen.x0]) > 0)
    cut_high = (boxes[:, 2:] >= (seen.y1, seen.x1)) & (np.array([seen.y1, seen.x1]) < windows.shape)
    kept = mine & ~(cut_low | cut_high).any(axis=1)
    return replace(candidates, shape=windows.shape, boxes=boxes, anchors=low.astype(np.int32)).some(kept)


def _inside(points: NDArray[np.integer[Any]], box: Box) -> NDArray[np.bool_]:
    """Whether points (n, 2) lie in a box."""
    inside: NDArray[np.bool_] = (points >= (box.y0, box.x0)) & (points < (box.y1, box.x1))
    return inside[:, 0] & inside[:, 1]


def arrays_of(candidates: Candidates) -> dict[str, NDArray[Any]]:
    """Candidates as named arrays."""
    return {
        "boxes": candidates.boxes,
        "anchors": candidates.anchors,
        "scores": candidates.scores,
        "masks": candidates.masks,
    }


def from_arrays(arrays: Mapping[str, NDArray[Any]], shape: tuple[int, int]) -> Candidates:
    """Candidates of a region from `arrays_of` them."""
    return Candidates(
        shape=shape,
        boxes=arrays["boxes"],
        anchors=arrays["anchors"],
        scores=arrays["scores"],
        masks=arrays["masks"],
    )


def gathered(parts: Sequence[Candidates], shape: tuple[int, int]) -> Candidates:
    """Concatenate the candidates of windows, in the coordinates of one region of this shape."""
    each = [arrays_of(part) for part in parts]
    return from_arrays({name: np.concatenate([arrays[name] for arrays in each]) for name in each[0]}, shape)

"""Smooth outlines of cells: the median of each cell's mask, all cells in one pass."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellscale.errors import InputError
from cellscale.kernels.arguments import label_image
from cellscale.kernels.compiling import kernel
from cellscale.types import Labels


@kernel
def _vote(labels: Labels, half: int, out: Labels) -> None:
    """Write the label that holds more than half of each window; 0 if none does, or the background.

    R. S. Boyer and J. S. Moore, MJRTY: a fast majority vote algorithm, 1991: a label with a majority outlasts all
    others when unlike pixels cancel each other out; a second look counts the survivor.
    """
    height, width = labels.shape
    most = (2 * half + 1) ** 2 // 2
    for y in range(height):
        for x in range(width):
            winner, lead = np.uint32(0), 0
            for j in range(y - half, y + half + 1):
                row = labels[min(max(j, 0), height - 1)]
                for i in range(x - half, x + half + 1):
                    here = row[min(max(i, 0), width - 1)]
                    if lead == 0:
                        winner = here
                    lead += 1 if here == winner else -1
            count = 0
            if winner > 0 and lead > 0:
                for j in range(y - half, y + half + 1):
                    row = labels[min(max(j, 0), height - 1)]
                    for i in range(x - half, x + half + 1):
                        count += row[min(max(i, 0), width - 1)] == winner
            out[y, x] = winner if count > most else np.uint32(0)


def smooth_labels(labels: NDArray[np.integer[Any]], *, side: int) -> Labels:
    """Smooth the mask of each cell by a median of `side` × `side` px.

    Parameters
    ----------
    labels : integer array, (y, x)
        Cells; the border pixels are repeated outside the image.
    side : int
        Side of the window, px, an odd number; 1: nothing changes.

    Returns
    -------
    uint32 array, (y, x)
        A pixel is a cell's where the cell holds more than half of the window. Cells too small to hold it anywhere
        keep their pixels.

    Raises
    ------
    InputError
        If `side` is even or less than 1.
    """
    image = label_image(labels)
    if side < 1 or side % 2 == 0:
        raise InputError(f"side is {side} px; expected an odd number, 1 or more.")
    if side == 1 or image.size == 0:
        return image
    out = np.empty_like(image)
    _vote(image, side // 2, out)
    # A cell that gets its pixels back may take the last ones from another: each round saves at least one cell.
    while (lost := np.setdiff1d(image[image > 0], out)).size:
        out = np.where(np.isin(image, lost), image, out)
    return out

"""Cells and their concavities, a cell's convex hull without the cell: contours and skeletons of both.

The hull is that of the pixels' centres, in whole numbers: in each row from the lower envelope of the leftmost pixels to
the upper envelope of the rightmost. Concavities of different cells may overlap.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellscale.arrays import Labels, Mask
from cellscale.kernels.arguments import label_image
from cellscale.kernels.compiling import kernel
from cellscale.kernels.overlaps import label_areas
from cellscale.kernels.skeletons import removable, skeleton, thin
from cellscale.kernels.touching import rims
from cellscale.kernels.unions import relabel

LARGEST_TABLE = 2**22


@kernel
def _boxes(labels: Labels, count: int) -> NDArray[np.int64]:
    """Return y0, x0, y1, x1 of the labels 1 … count, half-open; y1 is 0 where there is none."""
    boxes = np.zeros((count, 4), np.int64)
    boxes[:, :2] = max(labels.shape)
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            if labels[y, x] > 0:
                box = boxes[labels[y, x] - 1]
                box[0], box[1] = min(box[0], y), min(box[1], x)
                box[2], box[3] = y + 1, max(box[3], x + 1)
    return boxes


@kernel
def _sag(values: NDArray[np.int64], absent: int, stack: NDArray[np.int64]) -> None:
    """Replace values by the smallest whole numbers on or above their lower convex envelope; first and last exist."""
    n = 0
    for y in range(values.size):
        if values[y] != absent:
            while n > 1:
                a, b = stack[n - 2], stack[n - 1]
                if (values[b] - values[a]) * (y - a) < (values[y] - values[a]) * (b - a):
                    break
                n -= 1
            stack[n] = y
            n += 1
    for k in range(n - 1):
        a, b = stack[k], stack[k + 1]
        rise = values[b] - values[a]
        for y in range(a + 1, b):
            values[y] = values[a] - ((a - y) * rise) // (b - a)


@kernel
def _hull(labels: Labels, label: int, box: NDArray[np.int64], rows: NDArray[np.int64]) -> None:
    """Write first and minus last column of the hull in each row of the box to rows 0 and 1."""
    height, absent = box[2] - box[0], labels.shape[1]
    rows[:2, :height] = absent
    for y in range(height):
        line = labels[box[0] + y]
        first, last = box[1], box[3] - 1
        while first <= last and line[first] != label:
            first += 1
        while last > first and line[last] != label:
            last -= 1
        if first <= last:
            rows[0, y], rows[1, y] = first, -last
    _sag(rows[0, :height], absent, rows[2])
    _sag(rows[1, :height], absent, rows[2])


@kernel
def _fill(
    labels: Labels, label: int, box: NDArray[np.int64], rows: NDArray[np.int64], pixels: NDArray[np.uint8]
) -> bool:
    """Set the pixels of the hull that are not the label's, in rows two longer than the box's; whether there are any."""
    found = False
    y0, x0, y1, x1 = box
    for y in range(y1 - y0):
        first, stop = rows[0, y], 1 - rows[1, y]
        line, begin = labels[y0 + y, first:stop], y * (x1 - x0 + 2) + first - x0
        outside = pixels[begin : begin + stop - first]
        for x in range(line.size):
            outside[x] = line[x] != label
        for x in range(line.size):
            found |= outside[x] != 0
    return found


@kernel
def _is_rim(pixels: NDArray[np.uint8], at: int, y: int, x: int, shape: tuple[int, int, int]) -> bool:
    """Whether a 4-neighbour inside the image does not belong; shape is the image's height and width, and the row's."""
    height, width, step = shape
    return (
        (y > 0 and not pixels[at - step])
        or (y + 1 < height and not pixels[at + step])
        or (x > 0 and not pixels[at - 1])
        or (x + 1 < width and not pixels[at + 1])
    )


@kernel
def _add_concavities(labels: Labels, boxes: NDArray[np.int64], contours: Mask, skeletons: Mask) -> None:
    """Mark the contours and skeletons of each label's hull without the label."""
    height, width = labels.shape
    table = removable()
    rows = np.zeros((3, height), np.int64)
    largest = 0
    for i in range(boxes.shape[0]):
        if boxes[i, 2] > 0:
            largest = max(largest, (boxes[i, 2] - boxes[i, 0] + 2) * (boxes[i, 3] - boxes[i, 1] + 2))
    scratch, queues = np.zeros(largest, np.uint8), np.zeros((3, largest), np.int32)
    for i in range(boxes.shape[0]):
        y0, x0, y1, x1 = boxes[i]
        if y1 == 0:
            continue
        step = x1 - x0 + 2
        pixels = scratch[: (y1 - y0 + 2) * step]
        pixels[:] = 0
        _hull(labels, i + 1, boxes[i], rows)
        origin = (1 - y0) * step + 1 - x0
        if not _fill(labels, i + 1, boxes[i], rows, pixels[step + 1 :]):
            continue
        for y in range(y0, y1):
            for x in range(rows[0, y - y0], 1 - rows[1, y - y0]):
                at = origin + y * step + x
                if pixels[at] and _is_rim(pixels, at, y, x, (height, width, step)):
                    contours[y, x] = True
        thin(pixels, step, table, queues)
        for y in range(y0, y1):
            for x in range(rows[0, y - y0], 1 - rows[1, y - y0]):
                if pixels[origin + y * step + x]:
                    skeletons[y, x] = True


def numbered(labels: Labels) -> tuple[Labels, int]:
    """Number the labels that occur 1 … n in their order; return them and n."""
    ids, _ = label_areas(labels)
    if ids.size == 0 or ids[-1] == ids.size:
        return labels, ids.size
    if ids[-1] > LARGEST_TABLE:
        return (np.searchsorted(ids, labels, side="right")).astype(np.uint32), ids.size
    table = np.zeros(ids[-1] + 1, np.uint32)
    table[ids] = np.arange(1, ids.size + 1)
    return relabel(labels, table), ids.size


def contours_and_skeletons(labels: NDArray[np.integer[Any]]) -> tuple[Mask, Mask]:
    """Return contours and skeletons of all cells and their concavities.

    Parameters
    ----------
    labels : integer array, (y, x)
        Cells, no two of them 8-adjacent.

    Returns
    -------
    contours : bool array, (y, x)
        Γ_H: pixels of a cell or a concavity with a 4-neighbour outside it; the image's border makes no contour.
    skeletons : bool array, (y, x)
        K: the skeletons of the cells and of the concavities.
    """
    image = label_image(labels)
    count = int(image.max(initial=0))
    if count > LARGEST_TABLE:
        image, count = numbered(image)
    contours, skeletons = rims(image), skeleton(image > 0)
    if count:
        _add_concavities(image, _boxes(image, count), contours, skeletons)
    return contours, skeletons

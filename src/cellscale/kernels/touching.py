"""Touching cells: gaps between them, the class of pixels where they meet, and their assignment to cells.

The loops have no branches, so that the compiler vectorises them: neighbours are compared with minima and exclusive ors
of shifted rows.

F. A. Guerrero-Peña et al., Multiclass weighted loss for instance segmentation of cluttered cells, ICIP 2018.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellscale.errors import InputError
from cellscale.kernels.arguments import check_equal_shapes, label_image, mask_image
from cellscale.kernels.compiling import kernel
from cellscale.kernels.distances.envelopes import FAR
from cellscale.kernels.distances.transform import labels_for, two_nearest_labels
from cellscale.types import Labels, Mask

BACKGROUND_RANK = np.iinfo(np.uint32).max
"""0 − 1 in uint32: what background becomes when 1 is subtracted from every label; above all labels."""


@kernel
def _separate(labels: Labels, out: Labels) -> None:
    """Write labels (y, x) without the pixels that have a lower label, other than background, in their 3×3 square.

    With 1 subtracted in uint32, background wraps around to the greatest number, so that it never is the minimum: a
    pixel is deleted if the minimum of its square is below its own number.
    """
    height, width = labels.shape
    column = np.full(width + 2, BACKGROUND_RANK, np.uint32)
    middle, left, right = column[1 : width + 1], column[:width], column[2:]
    for y in range(height):
        here, above, below = labels[y], labels[max(y - 1, 0)], labels[min(y + 1, height - 1)]
        found = out[y]
        # Minima of three rows first, then of three columns of these: (x + 2,) with a margin of BACKGROUND_RANK.
        for x in range(width):
            one, two, three = np.uint32(here[x] - 1), np.uint32(above[x] - 1), np.uint32(below[x] - 1)
            middle[x] = min(one, two, three)
        for x in range(width):
            least = min(middle[x], left[x], right[x])
            found[x] = np.uint32(0) if least < np.uint32(here[x] - 1) else here[x]


def separated(labels: NDArray[np.integer[Any]]) -> Labels:
    """Put a gap of one pixel between touching cells.

    A pixel of label a becomes background where one of its 8 neighbours has a label b with 0 < b < a, so that no two
    labels stay 8-adjacent. Applied twice, it changes nothing more.

    Parameters
    ----------
    labels : integer array, (y, x)
        Cells.

    Returns
    -------
    uint32 array, (y, x)
    """
    image = label_image(labels)
    out = np.empty_like(image)
    _separate(image, out)
    return out


@kernel
def _boundary_pixels(labels: Labels, out: Mask) -> None:
    """Mark pixels (y, x) whose exclusive or with one of four neighbours is not 0; the border is repeated outwards."""
    height, width = labels.shape
    row = np.empty(width + 2, np.uint32)
    middle, left, right = row[1 : width + 1], row[:width], row[2:]
    for y in range(height):
        here, above, below, found = labels[y], labels[max(y - 1, 0)], labels[min(y + 1, height - 1)], out[y]
        middle[:] = here
        row[0], row[width + 1] = here[0], here[width - 1]
        for x in range(width):
            aside = (left[x] ^ here[x]) | (right[x] ^ here[x])
            found[x] = (here[x] > 0) & ((aside | (above[x] ^ here[x]) | (below[x] ^ here[x])) != 0)


def boundary_pixels(labels: NDArray[np.integer[Any]]) -> Mask:
    """Return the cell pixels (y, x) with a 4-neighbour of another label or background; beyond the border is neither."""
    image = label_image(labels)
    out = np.empty(image.shape, np.bool_)
    if out.size:
        _boundary_pixels(image, out)
    return out


def _grown(padded: Mask) -> Mask:
    """Dilate with a 3×3 square and cut one pixel off each side."""
    rows = padded[:-2] | padded[1:-1] | padded[2:]
    return rows[:, :-2] | rows[:, 1:-1] | rows[:, 2:]


def touching_classes(labels: NDArray[np.integer[Any]], *, within: float = 0.0) -> NDArray[np.uint8]:
    """Return the three classes of Algorithm 1.

    With g the separated cells, touching is the dilation of closing(g) − g, both with a 3×3 square; it overrides the
    cells. Outside the image is background, so the image's border closes nothing. On a binary mask a closing also fills
    notches of one cell's outline, where nothing touches; `within` drops them.

    Parameters
    ----------
    labels : integer array, (y, x)
        Cells.
    within : float
        Pixels of closing(g) − g count where the second-nearest cell is at most this far away, px; 0: all do, as
        printed.

    Returns
    -------
    uint8 array, (y, x)
        0 background, 1 cell, 2 touching.
    """
    if within < 0:
        raise InputError(f"within is {within} px; expected 0 (all gaps) or more.")
    apart = separated(labels)
    cells = apart > 0
    closed = ~_grown(~_grown(np.pad(cells, 2)))
    gaps = closed & ~cells
    if within > 0 and gaps.any():
        *_, second = two_nearest_labels(apart)
        gaps &= second <= within**2
    return np.where(_grown(np.pad(gaps, 1)), np.uint8(2), cells.view(np.uint8))


def contact_regions(labels: NDArray[np.integer[Any]], *, width: float) -> Mask:
    """Find the pixels between and along adjacent cells.

    With d1 and d2 the distances to the two nearest cells: outside cells d1 + d2 ≤ width, inside cells at most width / 2
    to the nearest other cell.

    Parameters
    ----------
    labels : integer array, (y, x)
        Cells.
    width : float
        Width of the region, px.

    Returns
    -------
    bool array, (y, x)
        None with fewer than two cells.
    """
    _, first, _, second = two_nearest_labels(labels)
    d1, d2 = (np.where(second == FAR, np.inf, np.sqrt(squared.astype(np.float64))) for squared in (first, second))
    found: Mask = np.where(first > 0, d1 + d2 <= width, 2 * d2 <= width)
    return found


def assign_touching(cells: NDArray[np.integer[Any]], touching: Mask, *, radius: int, threads: int = 1) -> Labels:
    """Assign each touching pixel to its nearest cell (Algorithm 2).

    Parameters
    ----------
    cells : integer array, (y, x)
        Labels; cell pixels keep theirs.
    touching : bool array, (y, x)
        Pixels to assign.
    radius : int
        Touching pixels farther than this from every cell (Euclidean, px) become background.
    threads : int
        Number of threads, for 2²¹ pixels or more; the result does not depend on it.

    Returns
    -------
    uint32 array, (y, x)
        Among equally near pixels of cells the first in raster order decides.
    """
    image, mask = label_image(cells, "cells"), mask_image(touching, "touching")
    check_equal_shapes(image, mask, "cells and touching")
    return labels_for(image, mask, radius=radius, threads=threads)


@kernel
def _first_label(labels: Labels, y: int, x: int) -> int:
    """Return the first label in raster order of the 3×3 square around a pixel, 0 without any."""
    for j in range(max(y - 1, 0), min(y + 2, labels.shape[0])):
        for i in range(max(x - 1, 0), min(x + 2, labels.shape[1])):
            if labels[j, i] > 0:
                return int(labels[j, i])
    return 0


@kernel
def _grow(labels: Labels, through: Mask, out: Labels) -> None:
    """Write labels (y, x) grown by one step into the pixels of a mask (y, x)."""
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            grows = labels[y, x] == 0 and through[y, x]
            out[y, x] = _first_label(labels, y, x) if grows else labels[y, x]


def grown_through(cells: NDArray[np.integer[Any]], touching: Mask, *, steps: int) -> Labels:
    """Grow all cells through touching pixels at once, step by step, to the 8 neighbours.

    Parameters
    ----------
    cells : integer array, (y, x)
        Labels; cell pixels keep theirs.
    touching : bool array, (y, x)
        Pixels that cells may grow into.
    steps : int
        Number of steps, px.

    Returns
    -------
    uint32 array, (y, x)
        A pixel with several labelled neighbours takes the first in raster order, whatever their numbers are.
    """
    image, mask = label_image(cells, "cells").copy(), mask_image(touching, "touching")
    check_equal_shapes(image, mask, "cells and touching")
    out = np.empty_like(image)
    for _ in range(steps):
        _grow(image, mask, out)
        image, out = out, image
    return image

"""Connected components by runs: one scan finds the horizontal runs of a mask and merges them, a second writes labels.

A volume is scanned as one stack of rows, plane after plane. Runs are numbered in raster order and merged under the
smallest number, so numbering the roots in order numbers components by their first pixels, for any number of threads.

L. He, Y. Chao and K. Suzuki, A run-based two-scan labeling algorithm, IEEE Trans. Image Processing 17, 2008.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cellscale.errors import InputError
from cellscale.kernels.arguments import mask_image
from cellscale.kernels.compiling import kernel
from cellscale.kernels.threads import in_bands, worthwhile
from cellscale.kernels.unions import unite
from cellscale.types import Mask


@kernel
def _find_runs(rows: Mask, runs: NDArray[np.int32], counts: NDArray[np.int64]) -> int:
    """Write first column and last + 1 of every run, (runs, 2), and the number of runs of each row; return the total."""
    found = 0
    for y in range(rows.shape[0]):
        before = found
        inside = False
        for x in range(rows.shape[1]):
            if rows[y, x] != inside:  # a run begins (column 0 of `runs`) or ends (column 1)
                runs[found, int(inside)] = x
                found += inside
                inside = not inside
        if inside:
            runs[found, 1] = rows.shape[1]
            found += 1
        counts[y] = found - before
    return found


@kernel
def _unite_rows(
    runs: NDArray[np.int32], above: tuple[int, int], here: tuple[int, int], gap: int, parent: NDArray[np.int64]
) -> None:
    """Merge the overlapping runs of two rows; with `gap` 1, runs that touch at corners too.

    `above` and `here` are the first run and the last + 1 of each row. Both lists are sorted: of two runs the one that
    ends first cannot meet anything after the other, as in a merge.
    """
    i, j = above[0], here[0]
    while i < above[1] and j < here[1]:
        if runs[i, 0] < runs[j, 1] + gap and runs[j, 0] < runs[i, 1] + gap:
            unite(parent, i, j)
        if runs[i, 1] < runs[j, 1]:
            i += 1
        else:
            j += 1


@kernel
def _unite_runs(
    runs: NDArray[np.int32],
    starts: NDArray[np.int64],
    height: int,
    gap: int,
    band: tuple[int, int],
    inside: bool,
    parent: NDArray[np.int64],
) -> None:
    """Merge the runs of a band of rows with neighbouring runs inside the band, or with those before it.

    The insides of bands are merged in parallel: their entries of `parent` are disjoint. The links between bands follow
    in one thread.

    Parameters
    ----------
    runs : int32 array, (runs, 2)
        First column and last + 1.
    starts : int64 array, (rows + 1,)
        Row i has the runs starts[i] … starts[i + 1] − 1.
    height : int
        Rows of a plane; row i of plane z is row z · height + i.
    gap : int
        1 where corners and edges count as neighbours, else 0.
    band : tuple of int
        First row and last + 1.
    inside : bool
        Whether to merge inside the band or with the runs before it.
    parent : int64 array, (runs,)
        The union–find forest; changed.
    """
    begin, end = band
    # Neighbours before a row are the row above it and, in the plane above, the rows y − gap … y + gap. The farthest is
    # height + gap rows back, so only the first height + 1 rows of a band have neighbours before the band.
    for row in range(begin, end if inside else min(end, begin + height + 1)):
        y = row % height
        here = (starts[row], starts[row + 1])
        if y > 0 and (row > begin) == inside:
            _unite_rows(runs, (starts[row - 1], here[0]), here, gap, parent)
        for aside in range(-gap, gap + 1):
            other = row - height + aside
            if other >= 0 and 0 <= y + aside < height and (other >= begin) == inside:
                _unite_rows(runs, (starts[other], starts[other + 1]), here, gap, parent)


@kernel
def _number_runs(parent: NDArray[np.int64]) -> int:
    """Replace parents by numbers from 1 in the order of the roots, in one pass: parents precede their children."""
    count = 0
    for i in range(parent.size):
        if parent[i] == i:
            count += 1
            parent[i] = count
        else:
            parent[i] = parent[parent[i]]
    return count


@kernel
def _paint(
    runs: NDArray[np.int32], starts: NDArray[np.int64], numbers: NDArray[np.int64], out: NDArray[np.int32]
) -> None:
    """Write the number of each run (runs,) to its pixels, (y, x)."""
    for y in range(out.shape[0]):
        for run in range(starts[y], starts[y + 1]):
            out[y, runs[run, 0] : runs[run, 1]] = numbers[run]


def connected_components(
    mask: Mask, *, connectivity: Literal[4, 8, 6, 26] = 4, threads: int = 1
) -> tuple[NDArray[np.int32], int]:
    """Number the connected components of a mask.

    Parameters
    ----------
    mask : bool array, (y, x) or (z, y, x)
        Foreground.
    connectivity : {4, 8, 6, 26}
        Neighbours of a pixel: across sides only, or across corners and edges as well; 6 or 26 in a volume.
    threads : int
        Number of threads, for 2²¹ pixels or more; the result does not depend on it.

    Returns
    -------
    labels : int32 array, as the mask
        0 is background; components are numbered from 1 in the raster order of their first pixels.
    count : int
        Number of components.

    Raises
    ------
    InputError
        If the mask is not an array of booleans with two or three axes, or the connectivity does not fit it.
    """
    image = mask_image(mask, axes=3)
    if connectivity not in (allowed := (4, 8) if image.ndim == 2 else (6, 26)):
        raise InputError(
            f"connectivity is {connectivity}; expected {allowed[0]} (sides) or {allowed[1]} (sides and corners)."
        )
    gap, threads = int(connectivity > 6), worthwhile(threads, image.size)
    height, width = image.shape[-2:]
    rows = image.reshape(-1, width) if image.size else np.zeros((0, width), bool)
    starts = np.zeros(len(rows) + 1, np.int64)
    found: dict[int, NDArray[np.int32]] = {}

    def find(begin: int, end: int) -> None:
        runs = np.empty(((end - begin) * ((width + 1) // 2), 2), np.int32)  # a row has at most ⌈width / 2⌉ runs
        found[begin] = runs[: _find_runs(rows[begin:end], runs, starts[begin + 1 : end + 1])]

    in_bands(find, len(rows), threads)
    np.cumsum(starts, out=starts)
    begins = sorted(found)
    runs = found[0] if len(begins) == 1 else np.concatenate([found[begin] for begin in begins])
    parent = np.arange(len(runs), dtype=np.int64)
    in_bands(lambda a, b: _unite_runs(runs, starts, height, gap, (a, b), True, parent), len(rows), threads)
    for band in pairwise([*begins[1:], len(rows)]):
        _unite_runs(runs, starts, height, gap, band, False, parent)
    count = _number_runs(parent)
    labels = np.zeros(image.shape, np.int32)
    lines = labels.reshape(-1, width) if image.size else labels.reshape(0, width)
    in_bands(lambda a, b: _paint(runs, starts[a : b + 1], parent, lines[a:b]), len(rows), threads)
    return labels, count

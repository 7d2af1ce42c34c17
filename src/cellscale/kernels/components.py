"""Connected components by runs: one scan finds and unites the runs of a mask, a second writes their numbers."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cellscale.arrays import Mask
from cellscale.errors import InputError
from cellscale.kernels.arguments import mask_image
from cellscale.kernels.compiling import kernel
from cellscale.kernels.unions import unite


@kernel
def _find_runs(mask: Mask, runs: NDArray[np.int32], starts: NDArray[np.int64]) -> int:
    """Write first and last + 1 column of every run; `starts` is the first run of each row."""
    found = 0
    for y in range(mask.shape[0]):
        starts[y] = found
        inside = False
        for x in range(mask.shape[1]):
            if mask[y, x] != inside:
                runs[found, int(inside)] = x
                found += inside
                inside = not inside
        if inside:
            runs[found, 1] = mask.shape[1]
            found += 1
    starts[mask.shape[0]] = found
    return found


@kernel
def _unite_runs(runs: NDArray[np.int32], starts: NDArray[np.int64], gap: int, parent: NDArray[np.int64]) -> None:
    """Unite runs of neighbouring rows that overlap; `gap` is 1 where corners count too."""
    for y in range(1, starts.size - 1):
        above, here = starts[y - 1], starts[y]
        while above < starts[y] and here < starts[y + 1]:
            if runs[above, 0] < runs[here, 1] + gap and runs[here, 0] < runs[above, 1] + gap:
                unite(parent, above, here)
            if runs[above, 1] < runs[here, 1]:
                above += 1
            else:
                here += 1


@kernel
def _number_runs(parent: NDArray[np.int64]) -> int:
    """Replace parents by numbers from 1 in the order of the roots; parents come before their children."""
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
    for y in range(out.shape[0]):
        for run in range(starts[y], starts[y + 1]):
            out[y, runs[run, 0] : runs[run, 1]] = numbers[run]


def connected_components(mask: Mask, *, connectivity: Literal[4, 8] = 4) -> tuple[NDArray[np.int32], int]:
    """Number the connected components of a mask.

    Parameters
    ----------
    mask : bool array, (y, x)
        Foreground.
    connectivity : {4, 8}
        Whether pixels are connected through sides alone or through corners too.

    Returns
    -------
    labels : int32 array, (y, x)
        0 is background; components are numbered from 1 in the raster order of their first pixels.
    count : int
        Number of components.

    Raises
    ------
    InputError
        If the mask is not a (y, x) array of booleans, or the connectivity is neither 4 nor 8.
    """
    if connectivity not in (4, 8):
        raise InputError(f"connectivity is {connectivity}; expected 4 (sides) or 8 (sides and corners).")
    image = mask_image(mask)
    height, width = image.shape
    runs = np.empty((height * ((width + 1) // 2), 2), np.int32)
    starts = np.zeros(height + 1, np.int64)
    parent = np.arange(_find_runs(image, runs, starts), dtype=np.int64)
    _unite_runs(runs, starts, int(connectivity == 8), parent)
    count = _number_runs(parent)
    labels = np.zeros(image.shape, np.int32)
    _paint(runs, starts, parent, labels)
    return labels, count

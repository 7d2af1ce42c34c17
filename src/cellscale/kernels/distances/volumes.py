"""Compiled part of exact distance transforms of volumes: a third pass, along z, over the squared distances of planes.

The pass works like that along the rows of a plane (see `cellscale.kernels.distances.planes`), with squared distances
within planes instead of v²: candidates from beyond a run of equal labels never win, distances of adjacent planes
differ by at most their spacing, and all voxels of a slab, (z, x), look i planes up and down at once. Slabs with far
distances are settled column by column by lower envelopes. The algorithms are those of `planes`, one axis further.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellscale.kernels.compiling import kernel
from cellscale.kernels.distances.envelopes import NONE, SQUARED
from cellscale.kernels.distances.planes import (
    NARROW,
    UNBOUNDED,
    UNSEEN,
    Limits,
    Range,
    Steps,
    greatest,
    in_columns,
    in_rows,
    least,
    next_bound,
    square,
    write,
    write_by_envelopes,
)
from cellscale.types import Labels

SLAB = 128
"""Columns of a slab, px: its rows of all planes, 256 bytes each in 16 bits, stay in the processor's cache."""
REACH = 64
"""Planes to either side up to which slabs that do not fit into 16 bits are searched; beyond, envelopes take over. A
squared distance of `Limits.far` plus step · REACH² must fit into the type of the distances."""


@kernel
def in_planes(
    labels: Labels,
    planes: Range,
    steps: Steps,
    limits: Limits,
    out: NDArray[Any],
    roots: NDArray[np.float32],
) -> None:
    """Write the distances within planes for some planes of a volume (z, y, x); the rest as for `in_rows`."""
    _, height, width = labels.shape
    vertical = np.empty((height, width), np.uint16)
    for z in range(planes.begin, planes.end):
        in_columns(labels[z], 0, width, vertical)
        in_rows(labels[z], vertical, Range(0, height), steps, limits, out[z], roots[z])


@kernel
def _bounds(best: NDArray[Any], step: int) -> NDArray[np.int64]:
    """Return bounds (z,) on the squared distances in each plane of a slab (z, x).

    A plane is bounded by what its own voxels have found and, up and down, by the bound of the next plane.
    """
    found = np.empty(best.shape[0], np.int64)
    # One pass down and one up carry every plane's bound to all others.
    for z in range(found.size):
        found[z] = greatest(best[z])
        found[z] = min(found[z], next_bound(found[z - 1], step) if z > 0 else UNBOUNDED)
    for z in range(found.size - 2, -1, -1):
        found[z] = min(found[z], next_bound(found[z + 1], step))
    return found


@kernel
def _search_slab(squares: NDArray[Any], step: int, most: int, best: NDArray[Any]) -> bool:
    """Search the planes of a slab up and down; return False, with `best` unchanged, if a bound is above `most`.

    Parameters
    ----------
    squares : uint16, int32 or int64 array, (z, x)
        Squared distances within the planes.
    step : int
        Squared spacing of the planes.
    most : int
        Greatest bound with which the sum of a square and step · i² below the bound fits into the type.
    best : array of the same type, (z, x)
        Upper bounds: distances within the plane and to the ends of runs along z. Gets the squared distances.
    """
    depth, width = squares.shape
    kind = best.dtype.type
    bounds = _bounds(best, step)
    if greatest(bounds) > most:
        return False
    lows = np.empty(depth, np.int64)
    for z in range(depth):
        lows[z] = least(squares[z])
    for z in range(depth):
        mine = best[z]
        for i in range(1, depth):
            if step * i * i >= bounds[z]:
                break
            # Beyond the first or last plane the voxel's own plane stands in: it offers nothing new.
            up, down = z - i if z >= i else z, z + i if z + i < depth else z
            # This pair of planes has nothing near enough; a pair farther away may, with smaller squares of its own.
            if step * i * i + min(lows[up], lows[down]) >= bounds[z]:
                continue
            offset = kind(step * i * i)
            one, other = squares[up], squares[down]
            for k in range(width):
                mine[k] = min(mine[k], kind(min(one[k], other[k]) + offset))
        # The plane's distances are final now, and bound those of the next plane more tightly.
        if z + 1 < depth:
            bounds[z + 1] = min(bounds[z + 1], next_bound(int(greatest(mine)), step))
    return True


@kernel
def _narrow_slab(
    planes: NDArray[Any],
    at: tuple[int, int],
    ends: NDArray[np.uint16],
    step: int,
    limit: int,
    squares: NDArray[np.uint16],
    best: NDArray[np.uint16],
) -> bool:
    """Write the squared distances of a slab in 16 bits; return False if one is or may be NARROW or more.

    Parameters
    ----------
    planes : int32 or int64 array, (z, y, x)
        Squared distances within the planes of the volume.
    at : tuple of int
        Row y and first column x of the slab.
    ends : uint16 array, (z, x)
        Distances to the nearest other label along z.
    step : int
        Squared spacing of the planes.
    limit : int
        Greatest squared distance that is wanted.
    squares : uint16 array, (z, x)
        Room for the squared distances within the planes.
    best : uint16 array, (z, x)
        Gets the squared distances.
    """
    most = np.uint16(min(limit, NARROW))
    for z in range(planes.shape[0]):
        found, own, bound = planes[z, at[0], at[1] :], squares[z], best[z]
        square(ends[z], step, bound)
        for k in range(own.size):
            own[k] = np.uint16(min(found[k], NARROW))
            bound[k] = min(bound[k], own[k], most)
    return _search_slab(squares, step, NARROW - 1, best)


@kernel
def _wide_slab(
    labels: Labels, planes: NDArray[Any], ends: NDArray[np.uint16], step: int, limits: Limits
) -> NDArray[Any]:
    """Return the squared distances of a slab, (z, x), in the type of the volume; column by column if some are far.

    Parameters
    ----------
    labels : uint8 or uint32 array, (z, x)
        The slab.
    planes : int32 or int64 array, (z, x)
        Squared distances within the planes.
    ends : uint16 array, (z, x)
        Distances to the nearest other label along z.
    step : int
        Squared spacing of the planes.
    limits : Limits
        Value for no other label, and the greatest squared distance that is wanted.
    """
    none = np.iinfo(planes.dtype).max
    kind = planes.dtype.type
    squares, best = np.empty_like(planes), np.empty_like(planes)
    depth, width = planes.shape
    for z in range(depth):
        for k in range(width):
            distance, found = np.int64(ends[z, k]), np.int64(planes[z, k])
            end = step * distance * distance if distance < UNSEEN else limits.far
            squares[z, k] = kind(found if found != none else limits.far)
            best[z, k] = kind(min(np.int64(squares[z, k]), end, limits.cap))
    # Bounds of at most step · REACH² keep i below REACH, and `far` + step · REACH² fits into the type (see REACH).
    if not _search_slab(squares, step, step * REACH * REACH, best):
        best[:] = limits.far
        sources, stack = np.zeros((3, depth), np.int64), np.empty((2, depth), np.int64)
        for k in range(width):
            for z in range(depth):
                sources[SQUARED, z] = squares[z, k] if squares[z, k] < limits.far else NONE
            write_by_envelopes(labels[:, k].copy(), sources, step, best[:, k], stack)
    return best


@kernel
def _copy(source: Labels, target: Labels) -> None:
    """Copy a row by a loop that is vectorised when compiled; a slice assignment is not."""
    for x in range(target.size):
        target[x] = source[x]


@kernel
def in_depth(
    labels: Labels,
    rows: Range,
    step: int,
    limits: Limits,
    out: NDArray[Any],
    roots: NDArray[np.float32],
) -> None:
    """Replace the squared distances within planes by distances within the volume, for some rows y of all planes.

    Parameters
    ----------
    labels : uint8 or uint32 array, (z, y, x)
        Cells.
    rows : Range
        Rows y that are replaced.
    step : int
        Squared spacing of the planes.
    limits : Limits
        Limits of the written distances.
    out : int32 or int64 array, (z, y, x)
        Squared distances within planes; gets those within the volume.
    roots : float32 array, (z, y, x) or (z, y, 0)
        As for `in_rows`.
    """
    depth, _, width = labels.shape
    ends = np.empty((depth, SLAB), np.uint16)
    for y in range(rows.begin, rows.end):
        for begin in range(0, width, SLAB):
            span = slice(begin, min(begin + SLAB, width))
            shape = depth, span.stop - begin
            # A slab (z, x) is a plane whose columns run along z: `in_columns` gives the distances to the ends of runs.
            slab = np.empty(shape, labels.dtype)
            for z in range(depth):
                _copy(labels[z, y, span], slab[z])
            in_columns(slab, 0, shape[1], ends)
            squares, short = np.empty(shape, np.uint16), np.empty(shape, np.uint16)
            if _narrow_slab(out, (y, begin), ends, step, limits.cap, squares, short):
                for z in range(depth):
                    write(short[z], limits, out[z, y, span], roots[z, y, span])
            else:
                best = _wide_slab(slab, out[:, y, span].copy(), ends, step, limits)
                for z in range(depth):
                    write(best[z], limits, out[z, y, span], roots[z, y, span])

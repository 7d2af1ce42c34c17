"""The compiled part of exact distance transforms of volumes: from distances within planes to those between them."""

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
    beside,
    greatest,
    in_columns,
    in_rows,
    least,
    settle,
    square,
    write,
)
from cellscale.types import Labels

SLAB = 128
"""So many columns go through all planes at once."""
REACH = 64
"""Squared distances that do not fit into 16 bits are looked for up to so many planes."""


@kernel
def in_planes(
    labels: Labels,
    planes: tuple[int, int],
    steps: tuple[int, int],
    limits: tuple[int, int, int, int],
    out: NDArray[Any],
    roots: NDArray[np.float32],
) -> None:
    """Write the squared distances within planes (z, y, x) for some of them; see `in_rows`."""
    _, height, width = labels.shape
    vertical = np.empty((height, width), np.uint16)
    for z in range(planes[0], planes[1]):
        in_columns(labels[z], 0, width, vertical)
        in_rows(labels[z], vertical, (0, height), steps, limits, out[z], roots[z])


@kernel
def _bounds(best: NDArray[Any], step: int) -> NDArray[np.int64]:
    """Return bounds on the squared distances in each plane of a slab from those of all its planes."""
    found = np.empty(best.shape[0], np.int64)
    for z in range(found.size):
        found[z] = greatest(best[z])
        found[z] = min(found[z], beside(found[z - 1], step) if z > 0 else UNBOUNDED)
    for z in range(found.size - 2, -1, -1):
        found[z] = min(found[z], beside(found[z + 1], step))
    return found


@kernel
def _look_through(squares: NDArray[Any], step: int, most: int, best: NDArray[Any]) -> bool:
    """Look through the planes of a slab (z, x) to both sides; whether no squared distance can have been above `most`.

    `best` holds what the pixels' own columns and planes offer, and gets the result.
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
            up, down = z - i if z >= i else z, z + i if z + i < depth else z
            if step * i * i + min(lows[up], lows[down]) >= bounds[z]:
                continue
            offset = kind(step * i * i)
            one, other = squares[up], squares[down]
            for k in range(width):
                mine[k] = min(mine[k], kind(min(one[k], other[k]) + offset))
        if z + 1 < depth:
            bounds[z + 1] = min(bounds[z + 1], beside(int(greatest(mine)), step))
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
    """Write the squared distances of a slab (z, x) if all are below NARROW or cut at a limit below it; whether.

    The slab begins at y and x in the planes (z, y, x).
    """
    most = np.uint16(min(limit, NARROW))
    for z in range(planes.shape[0]):
        found, own, bound = planes[z, at[0], at[1] :], squares[z], best[z]
        square(ends[z], step, bound)
        for k in range(own.size):
            own[k] = np.uint16(min(found[k], NARROW))
            bound[k] = min(bound[k], own[k], most)
    return _look_through(squares, step, NARROW - 1, best)


@kernel
def _wide_slab(
    labels: Labels, planes: NDArray[Any], ends: NDArray[np.uint16], step: int, limits: tuple[int, int]
) -> NDArray[Any]:
    """Return the squared distances of a slab (z, x), found column by column if some are far."""
    far, limit = limits
    none = np.iinfo(planes.dtype).max
    kind = planes.dtype.type
    squares, best = np.empty_like(planes), np.empty_like(planes)
    depth, width = planes.shape
    for z in range(depth):
        for k in range(width):
            distance, found = np.int64(ends[z, k]), np.int64(planes[z, k])
            end = step * distance * distance if distance < UNSEEN else far
            squares[z, k] = kind(found if found != none else far)
            best[z, k] = kind(min(np.int64(squares[z, k]), end, limit))
    if not _look_through(squares, step, step * REACH * REACH, best):
        best[:] = far
        sources, stack = np.zeros((3, depth), np.int64), np.empty((2, depth), np.int64)
        for k in range(width):
            for z in range(depth):
                sources[SQUARED, z] = squares[z, k] if squares[z, k] < far else NONE
            settle(labels[:, k].copy(), sources, step, best[:, k], stack)
    return best


@kernel
def _copy(source: Labels, target: Labels) -> None:
    """Copy a row; compiled, an assignment does not copy many pixels at once."""
    for x in range(target.size):
        target[x] = source[x]


@kernel
def in_depth(
    labels: Labels,
    rows: tuple[int, int],
    step: int,
    limits: tuple[int, int, int, int],
    out: NDArray[Any],
    roots: NDArray[np.float32],
) -> None:
    """Replace the squared distances within planes (z, y, x) by those within the volume, for some of the rows y."""
    depth, _, width = labels.shape
    ends = np.empty((depth, SLAB), np.uint16)
    for y in range(rows[0], rows[1]):
        for begin in range(0, width, SLAB):
            span = slice(begin, min(begin + SLAB, width))
            shape = depth, span.stop - begin
            slab = np.empty(shape, labels.dtype)
            for z in range(depth):
                _copy(labels[z, y, span], slab[z])
            in_columns(slab, 0, shape[1], ends)
            thin, short = np.empty(shape, np.uint16), np.empty(shape, np.uint16)
            if _narrow_slab(out, (y, begin), ends, step, limits[1], thin, short):
                for z in range(depth):
                    write(short[z], limits, out[z, y, span], roots[z, y, span])
            else:
                best = _wide_slab(slab, out[:, y, span].copy(), ends, step, limits[:2])
                for z in range(depth):
                    write(best[z], limits, out[z, y, span], roots[z, y, span])

"""Tables of fragments: integers that add up over tiles, so that whole objects can be decided once tiles are joined.

Each column is a sum, a minimum or a maximum over pixels (`REDUCTIONS`). These are associative and exact in integers:
the table of an object is the same however tiles cut it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cellscale.kernels.compiling import kernel
from cellscale.kernels.overlaps import label_areas
from cellscale.types import Box, Fragments, Labels, Table

REDUCTIONS = {
    "area": "sum",
    "sum_y": "sum",
    "sum_x": "sum",
    "first": "min",
    "y0": "min",
    "x0": "min",
    "y1": "max",
    "x1": "max",
    "lowest": "min",
    "peak": "max",
    "length": "sum",
    "saddle": "min",
    "anchor": "min",
    "cut": "max",
    "unconverged": "max",
    "z0": "min",
    "z1": "max",
}
"""Reduction of each column over the fragments of one object; columns that are not named here are summed."""
FLAGS = ("cut", "unconverged")
"""Columns of 0 and 1 that some methods add."""
NEVER = np.iinfo(np.int64).max
"""Minimum over no pixels."""
WALL = 255
"""Height of pixels that separate fragments: they belong to no border."""


@kernel
def _scan(labels: NDArray[np.int32], y0: int, x0: int, width: int, out: NDArray[np.int64]) -> None:
    """Add the pixels of a core at (y0, x0) of a frame to the columns of `fragment_table`, (count, 8)."""
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            fragment = labels[y, x]
            if fragment > 0:
                row = out[fragment - 1]
                frame_y, frame_x = y0 + y, x0 + x
                row[0] += 1
                row[1] += frame_y
                row[2] += frame_x
                row[3] = min(row[3], frame_y * width + frame_x)
                row[4] = min(row[4], frame_y)
                row[5] = min(row[5], frame_x)
                row[6] = max(row[6], frame_y + 1)
                row[7] = max(row[7], frame_x + 1)


def fragment_table(labels: NDArray[np.int32], count: int, *, origin: tuple[int, int], width: int) -> Table:
    """Measure the fragments 1 … `count` of a core.

    Parameters
    ----------
    labels : int32 array, (y, x)
        Fragments of the core; 0 is background.
    count : int
        Number of fragments; those without a pixel here get area 0 and neutral extremes.
    origin : tuple of int
        Frame coordinates (y, x) of the core's first pixel, px.
    width : int
        Width of the frame, px: `first` is y · width + x.

    Returns
    -------
    Table
        area (px), sum_y, sum_x (px), first (raster index), bounding box y0, x0, y1, x1 (half-open, px).
    """
    out = np.zeros((count, 8), np.int64)
    out[:, 3:6] = NEVER
    _scan(np.ascontiguousarray(labels), origin[0], origin[1], width, out)
    names = ("area", "sum_y", "sum_x", "first", "y0", "x0", "y1", "x1")
    return {name: out[:, i].copy() for i, name in enumerate(names)}


@kernel
def _number(labels: Labels, ids: NDArray[np.int64], out: NDArray[np.int32]) -> None:
    """Write the rank (y, x), from 1, of each label in the ascending ids (n,); 0 on background."""
    for y in range(labels.shape[0]):
        last, number = 0, 0
        for x in range(labels.shape[1]):
            label = labels[y, x]
            # Labels come in runs: one search for each run, none in the background.
            if label > 0 and label != last:
                last, number = label, np.searchsorted(ids, label) + 1
            out[y, x] = number if label > 0 else 0


def numbered(labels: Labels) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Renumber the labels of an image (y, x) consecutively.

    Returns
    -------
    ids : int64 array, (n,)
        Labels that occur, ascending, without background.
    fragments : int32 array, (y, x)
        1 … n instead of these labels.
    """
    ids, _ = label_areas(labels)
    fragments = np.empty(labels.shape, np.int32)
    _number(np.ascontiguousarray(labels), ids, fragments)
    return ids, fragments


@kernel
def _border_pair(
    labels: NDArray[np.int32], relief: NDArray[np.uint8], y: int, x: int, j: int, i: int, row: NDArray[np.int64]
) -> bool:
    """Write fragments a < b and saddle, (3,), of the pixels (y, x) and (j, i) if they are a border; return whether."""
    a, b = labels[y, x], labels[j, i]
    saddle = max(relief[y, x], relief[j, i])
    if not (a > 0 and b > 0 and a != b and saddle != WALL):
        return False
    row[0], row[1], row[2] = min(a, b), max(a, b), saddle
    return True


@kernel
def _border_pixels(
    labels: NDArray[np.int32], relief: NDArray[np.uint8], core: tuple[int, int, int, int], out: NDArray[np.int64]
) -> int:
    """Write the border pairs whose upper or left pixel lies in the core y0, x0, y1, x1; return their number.

    `out` (n, 3) has room for two pairs per pixel: to the right and down.
    """
    height, width = labels.shape
    found = 0
    for y in range(core[0], core[2]):
        for x in range(core[1], core[3]):
            if x + 1 < width:
                found += _border_pair(labels, relief, y, x, y, x + 1, out[found])
            if y + 1 < height:
                found += _border_pair(labels, relief, y, x, y + 1, x, out[found])
    return found


def border_table(labels: NDArray[np.int32], relief: NDArray[np.uint8], *, core: tuple[int, int, int, int]) -> Table:
    """Measure the common borders of 4-adjacent fragments.

    Each pair of adjacent pixels belongs to the tile that owns its upper or left pixel, so tables add up over tiles.

    Parameters
    ----------
    labels : int32 array, (y, x)
        Fragments of the valid box.
    relief : uint8 array, (y, x)
        Height of each pixel; pairs with a pixel of height WALL are no border.
    core : tuple of int
        y0, x0, y1, x1 of the core in the valid box, px.

    Returns
    -------
    Table
        a < b (fragments), length (pixel pairs), saddle (least over the pairs of the higher pixel's height).
    """
    rows = np.zeros((2 * labels.size, 3), np.int64)
    rows = rows[: _border_pixels(np.ascontiguousarray(labels), np.ascontiguousarray(relief), core, rows)]
    return summed_pairs(
        {"a": rows[:, 0], "b": rows[:, 1], "length": np.ones(len(rows), np.int64), "saddle": rows[:, 2]}
    )


@kernel
def _least(labels: NDArray[np.int32], values: NDArray[np.uint8], out: NDArray[np.int64]) -> None:
    """Lower `out` (count,) to the least value of each fragment."""
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            if labels[y, x] > 0:
                out[labels[y, x] - 1] = min(out[labels[y, x] - 1], values[y, x])


def tables_of(fragments: Fragments, core: Box, *, origin: tuple[int, int], width: int) -> tuple[Table, Table]:
    """Measure the fragments of a valid box in its core, and their borders.

    Parameters
    ----------
    fragments : Fragments
        Fragments of the valid box.
    core : Box
        Core in the coordinates of the valid box.
    origin : tuple of int
        Frame coordinates (y, x) of the core's first pixel, px.
    width : int
        Width of the frame, px.

    Returns
    -------
    nodes : Table
        Result of `fragment_table`; with a relief also lowest, the least height; with a probability its sum, and peak,
        its greatest value.
    edges : Table
        Result of `border_table`; without a relief it has no rows.
    """
    count = int(fragments.labels.max(initial=0))
    owned = np.ascontiguousarray(fragments.labels[core.slices])
    nodes = dict(fragment_table(owned, count, origin=origin, width=width))
    if fragments.probability is not None:
        certain = np.ascontiguousarray(fragments.probability[core.slices])
        nodes["probability"] = np.bincount(owned.ravel(), certain.ravel(), count + 1)[1:].astype(np.int64)
        doubt = np.full(count, 255)
        _least(owned, 255 - certain, doubt)
        nodes["peak"] = 255 - doubt
    if fragments.relief is None:
        none = np.zeros((0, 0), np.int32)
        return nodes, border_table(none, none.astype(np.uint8), core=(0, 0, 0, 0))
    nodes["lowest"] = np.full(count, NEVER)
    _least(owned, np.ascontiguousarray(fragments.relief[core.slices]), nodes["lowest"])
    return nodes, border_table(fragments.labels, fragments.relief, core=(core.y0, core.x0, core.y1, core.x1))


def centroids(objects: Table, axes: str = "yx") -> NDArray[np.float64]:
    """Mean place of each object along axes, px, (n, axes), from its sums of coordinates and its area."""
    sums = np.stack([objects[f"sum_{axis}"] for axis in axes], axis=1)
    places: NDArray[np.float64] = sums / objects["area"][:, None]
    return places


def concatenated(tables: Sequence[Table]) -> dict[str, NDArray[np.int64]]:
    """Concatenate the rows of tables.

    A column of sums that some table does not name is 0 in all of its rows; other columns must be in every table that
    has rows.
    """
    names = dict.fromkeys(name for table in tables for name in table)
    return {name: np.concatenate([_column(table, name) for table in tables]) for name in names}


def _column(table: Table, name: str) -> NDArray[np.int64]:
    rows = len(next(iter(table.values()), ()))
    absent = rows == 0 or REDUCTIONS.get(name, "sum") == "sum"
    return np.zeros(rows, np.int64) if absent and name not in table else table[name]


def reduced(table: Table, groups: NDArray[np.int64], count: int) -> dict[str, NDArray[np.int64]]:
    """Reduce the rows of each group 0 … `count` − 1 to one: sum, minimum or maximum of each column by REDUCTIONS.

    Each group has at least one row.
    """
    order = np.argsort(groups, kind="stable")
    starts = np.searchsorted(groups[order], np.arange(count))
    ufuncs = {"sum": np.add, "min": np.minimum, "max": np.maximum}
    return {
        name: ufuncs[REDUCTIONS.get(name, "sum")].reduceat(column[order], starts).astype(np.int64)
        if count
        else np.zeros(0, np.int64)
        for name, column in table.items()
    }


def grouped(tables: Sequence[Table], keys: tuple[str, ...]) -> Table:
    """Concatenate tables and reduce rows with equal keys to one, in ascending order of the keys.

    Each table is grouped already: its keys are ascending, each once. A single table is returned as it is.
    """
    joined = concatenated(tables)
    if len(tables) == 1 or not joined:
        return joined
    found, groups = np.unique(np.stack([joined.pop(key) for key in keys], axis=1), axis=0, return_inverse=True)
    return {**dict(zip(keys, found.T, strict=True)), **reduced(joined, groups.reshape(-1), len(found))}


def summed_pairs(table: Table) -> dict[str, NDArray[np.int64]]:
    """Order each pair a < b, drop pairs of one object with itself, and reduce equal pairs to one row."""
    a, b = np.minimum(table["a"], table["b"]), np.maximum(table["a"], table["b"])
    keep = a < b
    pairs, groups = np.unique(np.stack([a[keep], b[keep]], axis=1), axis=0, return_inverse=True)
    rest = {name: column[keep] for name, column in table.items() if name not in {"a", "b"}}
    return {"a": pairs[:, 0], "b": pairs[:, 1], **reduced(rest, groups.reshape(-1), len(pairs))}

"""Tables of the objects of a plane and of the overlaps of two planes: whole numbers that add up over tiles.

A tile's objects and overlaps are counted in its own pixels alone, so that the tables of any tiling, summed in any
order, are those of the whole plane. Nothing here knows where labels come from: planes may be frames or slices.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cellscale.errors import DamagedError
from cellscale.kernels.overlaps import common_pixels
from cellscale.kernels.tables import centroids, fragment_table, grouped, numbered
from cellscale.types import Labels, Table

COLUMNS = ("label", "area", "sum_z", "sum_y", "sum_x", "first", "y0", "x0", "y1", "x1")
"""Columns of a table of objects."""


def object_sums(labels: Labels, *, origin: tuple[int, int], z: int, shape: tuple[int, int]) -> Table:
    """Measure the objects of a tile of one slice.

    Parameters
    ----------
    labels : uint32 array, (y, x)
        The tile's labels.
    origin : tuple of int
        Frame coordinates (y, x) of the tile's first pixel, px.
    z : int
        Number of the slice.
    shape : tuple of int
        Height and width of the frame, px.

    Returns
    -------
    Table
        One row for each label, ascending: label, area (px), sum_z, sum_y, sum_x (px), first (raster index of the first
        pixel, slice by slice), bounding box y0, x0, y1, x1 (half-open, px).
    """
    ids, fragments = numbered(labels)
    table = dict(fragment_table(fragments, len(ids), origin=origin, width=shape[1]))
    table["first"] = table["first"] + z * shape[0] * shape[1]
    return {"label": ids, "sum_z": z * table["area"], **table}


def overlap_sums(before: Labels, after: Labels) -> Table:
    """Count the common pixels of the objects of two planes in one tile.

    Parameters
    ----------
    before, after : uint32 array, (y, x)
        The same box of two planes.

    Returns
    -------
    Table
        a, b (labels of `before` and `after`, ascending) and their common pixels; background is in no pair.
    """
    a, b, pixels = common_pixels(before, after)
    return {"a": a, "b": b, "pixels": pixels}


def whole_objects(parts: Sequence[Table]) -> Table:
    """Add the tables of tiles that cover a frame; objects are put in the raster order of their first pixels.

    The order, and all that follows from it, does not depend on the numbers that the labels happen to have.
    """
    table = grouped(parts, ("label",)) if parts else {}
    empty = np.zeros(0, np.int64)
    order = np.argsort(table.get("first", empty), kind="stable")
    return {name: table.get(name, empty)[order] for name in COLUMNS}


def whole_overlaps(parts: Sequence[Table], before: Table, after: Table) -> Table:
    """Add the overlaps of tiles that cover two frames: a, b (rows of the two tables of objects) and common pixels."""
    table = grouped(parts, ("a", "b")) if parts else {}
    if not table:
        return {name: np.zeros(0, np.int64) for name in ("a", "b", "pixels")}
    a, b = rows_of(before, table["a"]), rows_of(after, table["b"])
    order = np.lexsort((b, a))
    return {"a": a[order], "b": b[order], "pixels": table["pixels"][order]}


def rows_of(objects: Table, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Find the row of each label in a table of objects that has it."""
    order = np.argsort(objects["label"])
    return order[np.searchsorted(objects["label"], labels, sorter=order)]


def renumbered(labels: Labels, objects: NDArray[np.int64], numbers: NDArray[np.int64], where: str) -> NDArray[np.int64]:
    """Replace each label by the number of its object; background stays 0.

    Parameters
    ----------
    labels : uint32 array, any shape
        Labels of pixels.
    objects, numbers : int64 array, (n,)
        Label and number of each object, in any order.
    where : str
        The place of the pixels, for the message.

    Raises
    ------
    DamagedError
        If a pixel has a label that no object has.
    """
    order = np.argsort(objects)
    known = np.concatenate([np.zeros(1, np.int64), objects[order]])
    at = np.minimum(np.searchsorted(known, labels), len(known) - 1)
    wrong = labels[known[at] != labels]
    if wrong.size:
        raise DamagedError(
            f"{where} has pixels of label {wrong[0]}, which is not in the table of its objects. The layer or its table "
            "was changed; make the layer anew."
        )
    found: NDArray[np.int64] = np.concatenate([np.zeros(1, np.int64), numbers[order]])[at]
    return found


def scaled_centroids(objects: Table, scale: tuple[float, float, float]) -> NDArray[np.float64]:
    """Centroids (n, 3) in the order z, y, x, in the unit of the scale, which is the size of a voxel."""
    places: NDArray[np.float64] = centroids(objects, "zyx") * np.array(scale)
    return places

"""Rows of a layer's object table that name its tracks: one for each object."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from numpy.typing import NDArray

from cellscale.errors import DamagedError, MissingError
from cellscale.kernels.tables import concatenated
from cellscale.ngff.label_layer import LabelLayer
from cellscale.ngff.layer_tables import table_parts

Rows = dict[str, NDArray[Any]]
"""Columns of equal length."""
COLUMNS = ("frame", "track", "parent", "generation", "centroid_z_px", "centroid_y_px", "centroid_x_px")
"""Columns of the object table that describe the tracks; layers of one slice have no centroid along z."""


def track_parts(layer: LabelLayer) -> Iterator[Rows]:
    """Read the columns of tracks, frame by frame; nothing for a layer without them.

    Raises
    ------
    DamagedError
        If its files differ in columns, or have rows that no track has.
    """
    columns: list[str] = []
    for table in table_parts(layer, COLUMNS):
        if not columns and "track" not in table.column_names:
            return
        columns = columns or table.column_names
        problem = "files of different columns" if columns != table.column_names else _problem(table, layer)
        if problem:
            raise DamagedError(
                f"The object table of {layer.url} has {problem}. Make the layer anew with "
                "`cellscale track --overwrite`."
            )
        yield {column: table[column].to_numpy() for column in table.column_names}


def _problem(table: pa.Table, layer: LabelLayer) -> str:
    """The reason why a part of a table has no valid tracks; "" if it has."""
    for name in COLUMNS[:4]:
        if name not in table.column_names:
            return f"no column {name!r}"
        if table[name].null_count or not pa.types.is_integer(table[name].type):
            return f"a column {name!r} that is not whole numbers"
    frame, track = (table[name].to_numpy() for name in COLUMNS[:2])
    if (track < 1).any():
        return "rows of a track below 1"
    return f"rows outside of {layer.size('t')} frames" if ((frame < 0) | (frame >= layer.size("t"))).any() else ""


def has_tracks(layer: LabelLayer) -> bool:
    """Whether the object table of a layer names tracks."""
    return next(track_parts(layer), None) is not None


def track_rows(layer: LabelLayer) -> Rows:
    """Rows of a tracked layer: frame, track, parent, generation, centroid; one for each object.

    Raises
    ------
    MissingError
        If the layer's object table names no tracks.
    """
    parts = list(track_parts(layer))
    if not parts:
        raise MissingError(f"{layer.url} has no tracks; make a layer that has with `cellscale track`.")
    return concatenated(parts)

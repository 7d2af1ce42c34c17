"""Rows of a layer's object table that name its tracks: one for each object."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellscale.errors import MissingError
from cellscale.ngff.label_layer import LabelLayer
from cellscale.ngff.layer_tables import table_parts

Rows = dict[str, NDArray[Any]]
"""Columns of equal length."""
COLUMNS = ("frame", "track", "parent", "generation", "centroid_z_px", "centroid_y_px", "centroid_x_px")
"""Columns of the object table that describe the tracks; layers of one slice have no centroid along z."""


def track_parts(layer: LabelLayer) -> Iterator[Rows]:
    """Read the columns of tracks, frame by frame; nothing for a layer without them."""
    for table in table_parts(layer, COLUMNS):
        if "track" not in table.column_names:
            return
        yield {column: table[column].to_numpy() for column in table.column_names}


def has_tracks(layer: LabelLayer) -> bool:
    """Whether the object table of a layer names tracks."""
    return next(track_parts(layer), None) is not None


def joined(parts: list[Rows]) -> Rows:
    """Rows of all parts, of which there is at least one."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


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
    return joined(parts)

"""The tracks of a label layer as rows: one for each object, and the parents of tracks."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cellscale.errors import InputError, MissingError
from cellscale.kernels.overlaps import label_areas
from cellscale.metrics.tracking import Tracked, tracked
from cellscale.ngff.labels import LabelLayer
from cellscale.segmentation.object_table import TABLE, part_names
from cellscale.storage.folder import Folder
from cellscale.types import Table

COLUMNS = ("frame", "track", "parent", "generation", "centroid_y_px", "centroid_x_px")
"""Columns of the object table that tell the tracks."""


def read_parents(url: str, text: bytes) -> Table:
    """Read track and parent from a track table of the challenge: lines of label, begin, end, parent.

    Raises
    ------
    InputError
        For a line that is not four whole numbers.
    """
    rows = []
    for number, line in enumerate(text.decode(errors="replace").splitlines(), 1):
        words = line.split()
        if len(words) != 4 or not all(word.isdecimal() for word in words):
            if not words:
                continue
            raise InputError(
                f"Line {number} of {url} is {line[:80]!r}; expected four whole numbers: label, first frame, last frame "
                "and parent, 0 for none."
            )
        rows.append([int(word) for word in words])
    columns = np.array(rows, np.int64).reshape(-1, 4).T
    return {"track": columns[0], "parent": columns[3]}


def has_tracks(layer: LabelLayer) -> bool:
    """Whether the object table of a layer names tracks."""
    return next(_tables(layer), None) is not None


def _tables(layer: LabelLayer) -> Iterator[dict[str, NDArray[np.generic]]]:
    """The columns of tracks, frame by frame; nothing for a layer without them."""
    folder = Folder(url=layer.place(TABLE), storage_options=layer.storage_options)
    for name in part_names(folder.names()):
        part = pq.ParquetFile(io.BytesIO(folder.read(name) or b""))
        if "track" not in part.schema_arrow.names:
            return
        table = part.read(columns=list(COLUMNS))
        yield {column: table[column].to_numpy() for column in COLUMNS}


def rows_of(layer: LabelLayer) -> dict[str, NDArray[np.generic]]:
    """Rows of a tracked layer: frame, track, parent, generation, centroid; one for each object.

    Raises
    ------
    MissingError
        If the layer's object table names no tracks.
    """
    parts = list(_tables(layer))
    if not parts:
        raise MissingError(f"{layer.url} has no tracks; make a layer that has with `cellscale track`.")
    return {name: np.concatenate([part[name] for part in parts]) for name in COLUMNS}


def tracks_of(layer: LabelLayer) -> Table:
    """Tracks of a tracked layer: track, begin, end (first and last frame) and parent, one row each.

    Raises
    ------
    MissingError
        If the layer's object table names no tracks.
    """
    rows = {name: column.astype(np.int64) for name, column in rows_of(layer).items() if name in COLUMNS[:3]}
    order = np.lexsort((rows["frame"], rows["track"]))
    frame, track, parent = (rows[name][order] for name in COLUMNS[:3])
    tracks, first = np.unique(track, return_index=True)
    last = np.append(first[1:], len(track))[: len(first)] - 1
    return {"track": tracks, "begin": frame[first], "end": frame[last], "parent": parent[first]}


def lineage_of(layer: LabelLayer, frames: range, parents: Table | None = None) -> Tracked:
    """Tracks of a layer whose labels are tracks.

    Parameters
    ----------
    layer : LabelLayer
        Its object table says which parents tracks have; one without tracks is read pixel by pixel, and has none.
    frames : range
        The frames that are looked at.
    parents : Table, optional
        track and parent, instead of those of the object table; tracks without an object there are passed over.

    Raises
    ------
    InputError
        If parents do not fit.
    """
    parts = list(_tables(layer)) if parents is None else []
    if parts:
        rows = {name: np.concatenate([part[name] for part in parts]).astype(np.int64) for name in COLUMNS[:3]}
        kept = (rows["frame"] >= frames.start) & (rows["frame"] < frames.stop)
        frame, track, parent = (rows[name][kept] for name in COLUMNS[:3])
        track_ids, first = np.unique(track, return_index=True)
        parents = {"track": track_ids, "parent": parent[first]}
    else:
        frame, track = _present(layer, frames)
    parents = parents or {"track": frame[:0], "parent": frame[:0]}
    there = np.isin(parents["track"], track)
    known = np.where(np.isin(parents["parent"], track), parents["parent"], 0)
    return tracked(frame, track, {"track": parents["track"][there], "parent": known[there]})


def _present(layer: LabelLayer, frames: range) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Frame and label of each object, from the pixels."""
    found = []
    for t in frames:
        planes = [(box, z) for box in layer.shards() for z in range(layer.size("z"))]
        labels = [label_areas(layer.read(box, t=t, z=z))[0] for box, z in planes]
        found.append(np.unique(np.concatenate(labels)))
    counts = [len(labels) for labels in found]
    return np.repeat(np.arange(frames.start, frames.stop), counts), np.concatenate([*found, np.zeros(0, np.int64)])

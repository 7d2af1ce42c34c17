"""The tracks of a label layer as rows: one for each object, and the parents of tracks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cellscale.errors import InputError
from cellscale.kernels.overlaps import label_areas
from cellscale.kernels.tables import concatenated
from cellscale.metrics.tracking import Tracked, check_parents, tracked
from cellscale.ngff.labels import LabelLayer
from cellscale.ngff.track_rows import track_parts, track_rows
from cellscale.types import Table

COLUMNS = ("frame", "track", "parent")
"""Columns that say which objects are a track."""


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


def tracks_of(layer: LabelLayer) -> Table:
    """Tracks of a tracked layer: track, begin, end (first and last frame) and parent, one row each.

    Raises
    ------
    MissingError
        If the layer's object table names no tracks.
    InputError
        If a track begins before its parent has ended.
    """
    rows = track_rows(layer)
    order = np.lexsort((rows["frame"], rows["track"]))
    frame, track, parent = (rows[name][order].astype(np.int64) for name in COLUMNS)
    tracks, first = np.unique(track, return_index=True)
    last = np.append(first[1:], len(track))[: len(first)] - 1
    known = np.where(np.isin(parent[first], tracks), parent[first], 0)
    found = {"track": tracks, "begin": frame[first], "end": frame[last], "parent": known}
    check_parents(found)
    return found


def lineage_of(layer: LabelLayer, frames: range, parents: Table | None = None) -> Tracked:
    """Tracks of a layer whose labels are tracks.

    Parameters
    ----------
    layer : LabelLayer
        Its object table says which parents tracks have; a layer of another program is read pixel by pixel, and has
        none.
    frames : range
        The frames that are looked at.
    parents : Table, optional
        track and parent, instead of those of the object table; tracks without an object there are passed over.

    Raises
    ------
    InputError
        If parents do not fit, or the layer is a segmentation, whose labels number the cells of each frame.
    """
    parts = list(track_parts(layer)) if parents is None else []
    if parts:
        rows = concatenated(parts)
        kept = (rows["frame"] >= frames.start) & (rows["frame"] < frames.stop)
        frame, track, parent = (rows[name][kept].astype(np.int64) for name in COLUMNS)
        track_ids, first = np.unique(track, return_index=True)
        parents = {"track": track_ids, "parent": parent[first]}
    elif "model" in layer.metadata:
        raise InputError(
            f"{layer.url} was made by `cellscale segment`: its labels number the cells of each frame, not tracks. Make "
            "a layer of tracks with `cellscale track`."
        )
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

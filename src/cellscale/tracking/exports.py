"""Tracks for other programs: the folder of the Cell Tracking Challenge, and a GEFF graph."""

from __future__ import annotations

import io

import numpy as np
import tifffile

from cellscale.errors import ExistsError, InputError, MissingError
from cellscale.linking.tables import renumbered
from cellscale.metrics.tracking import Tracked
from cellscale.ngff.labels import LabelLayer
from cellscale.ngff.track_rows import track_rows
from cellscale.progress import Progress, silent
from cellscale.storage.folder import Folder
from cellscale.storage.outputs import new_folder
from cellscale.tracking.lineage import lineage_of
from cellscale.types import Box

TABLE_NAME = "res_track.txt"
"""Name of the challenge's table of tracks."""


def export_ctc(layer: LabelLayer, output: Folder, *, on_progress: Progress = silent) -> int:
    """Write a layer of tracks as `maskTTT.tif` and `res_track.txt`, the table last.

    A track has no gap there: after each gap it goes on as another one, whose parent it is. An export that was stopped
    continues: masks that are there already must be those of this layer, byte for byte.

    Parameters
    ----------
    layer : LabelLayer
        Its labels are tracks.
    output : Folder
        An empty folder, one that does not exist, or one with masks of a stopped export of this layer.
    on_progress : callable
        Called with step, done and total.

    Returns
    -------
    int
        Number of tracks in the table.

    Raises
    ------
    ExistsError
        If the folder has other files.
    InputError
        If there are more tracks than 65,535, the most that the masks of the challenge can hold.
    """
    frames = layer.size("t")
    digits = max(3, len(str(frames - 1)))
    names = [f"mask{t:0{digits}d}.tif" for t in range(frames)]
    there = output.names()
    if not there <= {*names}:
        raise ExistsError(f"{output.url} is not empty. Choose another folder, or delete it first.")
    lineage = lineage_of(layer, range(frames))
    tracks = lineage.tracks
    most = int(tracks["track"].max(initial=0))
    if most > np.iinfo(np.uint16).max:
        raise InputError(
            f"{layer.url} has tracks up to {most}; masks of the challenge end at 65535. Track fewer frames."
        )
    whole = Box.of(layer.plane_shape())
    for t, name in enumerate(names):
        labels = np.stack([layer.read(whole, t=t, z=z) for z in range(layer.size("z"))])
        masks = _renamed(labels, lineage, t, f"Frame {t} of {layer.url}")
        stream = io.BytesIO()
        tifffile.imwrite(stream, masks if len(masks) > 1 else masks[0], compression="zlib")
        if name not in there:
            output.write(name, stream.getvalue())
        elif output.read(name) != stream.getvalue():
            raise ExistsError(
                f"{output.url}/{name} is not a mask of {layer.url} as it is now. Choose another folder, or delete it."
            )
        on_progress("export", t + 1, frames)
    lines = zip(*(tracks[name].tolist() for name in ("track", "begin", "end", "parent")), strict=True)
    output.write(TABLE_NAME, "".join(f"{' '.join(map(str, line))}\n" for line in lines).encode())
    return len(tracks["track"])


def _renamed(
    labels: np.ndarray[tuple[int, ...], np.dtype[np.uint32]], lineage: Tracked, t: int, where: str
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint16]]:
    """Masks of a frame with the numbers of tracks without gaps."""
    here = lineage.objects["frame"] == t
    number, track = lineage.objects["number"][here], lineage.objects["track"][here]
    return renumbered(labels, number, track, where).astype(np.uint16)


def export_geff(layer: LabelLayer, output: str) -> int:
    """Write the tracks of a layer as a GEFF graph: a node for each object, an edge to what it becomes.

    Parameters
    ----------
    layer : LabelLayer
        A layer that `cellscale track` has made.
    output : str
        The folder to write, on this machine.

    Returns
    -------
    int
        Number of nodes.

    Raises
    ------
    MissingError
        If geff is not installed, or the layer's object table names no tracks.
    ExistsError
        If something is there.
    InputError
        For a folder that is not on this machine.
    """
    try:
        import geff
        from geff.core_io import write_arrays
    except ImportError as error:
        raise MissingError("GEFF needs the package geff. Install it with `pip install 'cellscale[track]'`.") from error
    rows = track_rows(layer)
    order = np.lexsort((rows["track"], rows["frame"]))
    rows = {name: column[order] for name, column in rows.items()}
    nodes = np.arange(len(order), dtype=np.uint64)
    axes = [{"name": "t", "type": "time"}, {"name": "y", "type": "space"}, {"name": "x", "type": "space"}]
    metadata = geff.GeffMetadata(
        directed=True,
        axes=axes,
        node_props_metadata={},
        edge_props_metadata={},
        track_node_props={"tracklet": "track"},
        related_objects=[{"type": "labels", "path": layer.url, "node_prop": "track"}],
        extra={},
    )
    columns = {"t": "frame", "y": "centroid_y_px", "x": "centroid_x_px", "track": "track"}
    edges = _edges(rows["frame"].astype(np.int64), rows["track"].astype(np.int64), rows["parent"].astype(np.int64))
    with new_folder(output) as folder:
        write_arrays(
            folder,
            nodes,
            {name: {"values": rows[column], "missing": None} for name, column in columns.items()},
            edges,
            {},
            metadata,
            zarr_format=3,
        )
    return len(nodes)


def _edges(
    frame: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
    track: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
    parent: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint64]]:
    """Edges (n, 2) between rows: to the next object of a track, and from the last one of a mother to her daughters."""
    order = np.lexsort((frame, track))
    inside = track[order][1:] == track[order][:-1]
    first = order[np.concatenate([np.ones(min(1, len(order)), bool), ~inside])]
    last = order[np.concatenate([~inside, np.ones(min(1, len(order)), bool)])]
    daughters = first[parent[first] > 0]
    mothers = last[np.searchsorted(track[last], parent[daughters])]
    starts, stops = np.concatenate([order[:-1][inside], mothers]), np.concatenate([order[1:][inside], daughters])
    return np.stack([starts, stops], axis=1).astype(np.uint64)

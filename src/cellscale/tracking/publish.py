"""Numbers of tracks, and the layer that has them: its pixels, its pyramid and its object table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cellscale.kernels.tables import centroids
from cellscale.linking.numbering import Spans, number_tracks
from cellscale.linking.tables import renumbered
from cellscale.ngff.attempts import OBJECTS
from cellscale.ngff.labels import LabelLayer
from cellscale.ngff.layer_tables import part_name
from cellscale.ngff.pyramids import Part, downsample, parts_of, write_levels
from cellscale.segmentation.object_table import object_table, parquet
from cellscale.segmentation.records import Arrays, get, put
from cellscale.segmentation.verification import counts
from cellscale.segmentation.work_items import WorkItem
from cellscale.storage.folder import Folder
from cellscale.tracking.plan import TrackRun
from cellscale.tracking.tables import Frames
from cellscale.types import Labels


@dataclass(frozen=True, kw_only=True)
class Publication:
    """Arguments shared by the publishing tasks."""

    run: TrackRun
    layer: LabelLayer
    level: int = 0


def numbers_name(window: int) -> str:
    """Name of the scratch object with the numbers of a window of frames."""
    return f"numbered/{window:07d}"


TRACKS = "tracks"
"""Name of the scratch object with the first and last frame and the parent of each track."""


def number(run: TrackRun, items: Sequence[WorkItem]) -> Arrays:
    """Number the tracks of all frames; the record counts objects, tracks, links over gaps, and divisions."""
    frames, arrays, spans = Frames(run), dict[str, NDArray[np.generic]](), Spans()
    divisions = objects = gaps = 0
    for t, (before, made) in enumerate(number_tracks(map(frames.earlier, range(run.frames)), run.max_gap)):
        arrays |= {f"{t}/track": made.track, f"{t}/parent": made.parent, f"{t}/generation": made.generation}
        arrays |= {f"{t}/back": before.back, f"{t}/row": before.row, f"{t}/mother": before.mother}
        spans.add(t, made)
        divisions += len(np.unique(before.mother[before.mother >= 0]))
        objects, gaps = objects + len(made.track), gaps + int((before.back > 1).sum())
        if (t + 1) % run.window == 0 or t + 1 == run.frames:
            put(run.scratch, numbers_name(t // run.window), arrays)
            arrays = {}
    tracks = spans.table()
    put(run.scratch, TRACKS, tracks)
    summed = {"objects": objects, "tracks": len(tracks["track"]), "divisions": divisions, "gaps": gaps}
    return {name: np.array([count]) for name, count in summed.items()}


class Tracks:
    """Numbers of the objects of a run's frames, read on demand."""

    def __init__(self, run: TrackRun) -> None:
        """Read nothing yet."""
        self.run, self.frames = run, Frames(run)
        self._window = lru_cache(maxsize=2)(lambda window: get(run.scratch, numbers_name(window)))

    def of(self, t: int, name: str) -> NDArray[np.int64]:
        """A column of a frame's objects: track, parent, generation, back, row or mother."""
        column: NDArray[np.int64] = self._window(t // self.run.window)[f"{t}/{name}"]
        return column

    def numbered(self, labels: Labels, t: int) -> Labels:
        """Labels of a tile of a frame, (y, x), as numbers of tracks."""
        where = f"Frame {t} of {self.run.source.url}"
        return renumbered(labels, self.frames.objects(t)["label"], self.of(t, "track"), where).astype(np.uint32)


def publish(publication: Publication, items: Sequence[WorkItem]) -> Arrays:
    """Write shards (frame, shard) of a level; return the counts of objects and pixels.

    Those of the finest level write the parts of the next levels that they determine.
    """
    run, layer, level = publication.run, publication.layer, publication.level
    shards, tracks, count = layer.shards(level), Tracks(run), 1 if level else layer.levels_together
    written, parts = [], list[Part]()
    for t, shard in items:
        box, objects, pixels, last = shards[shard], np.zeros(count, np.int64), 0, 0
        planes = [] if level else tracks.frames.source_labels(shard, t)
        for z in range(layer.size("z")):
            parts += parts_of(layer, box, t=t, z=z, level=level, count=count)
            if level:
                objects += downsample(layer, level, box, t=t, z=z)
                continue
            labels = tracks.numbered(planes[z], t)
            objects += write_levels(layer, labels, box, t=t, z=z, count=count)
            pixels, last = pixels + int(np.count_nonzero(labels)), max(last, int(labels.max()))
        written.append((*objects.tolist(), pixels, last))
    layer.flush(parts)
    return counts(written)


def tables(publication: Publication, items: Sequence[WorkItem]) -> Arrays:
    """Write the object table of frames (frame,), one Parquet file each, in the layer's folder."""
    run, layer = publication.run, publication.layer
    folder = Folder(url=layer.place(OBJECTS), storage_options=layer.storage_options)
    tracks, written = Tracks(run), []
    for (t,) in items:
        rows = track_rows(tracks, t)
        folder.write(part_name(t, 0), parquet(rows), flush=False)
        area, labels = tracks.frames.objects(t)["area"], tracks.of(t, "track")
        written.append((1, int(area.sum()), int(labels.max(initial=0))))
    folder.flush(part_name(t, 0) for (t,) in items)
    return counts(written)


def track_rows(tracks: Tracks, t: int) -> pa.Table:
    """Rows of a frame's objects in the order of their tracks: the columns of every object table, and those of tracks.

    Of a track's object, velocity is the way from where it, or for a daughter its mother, was seen before, divided by
    the frames between: px and µm per frame; nan for the first object of a track without parent.
    """
    run, objects = tracks.run, tracks.frames.objects(t)
    order = np.argsort(tracks.of(t, "track"))
    labels = tracks.of(t, "track")[order]
    sorted_objects = {name: column[order] for name, column in objects.items()}
    table = object_table(sorted_objects, run.measured, frame=t, z=0, labels=labels.astype(np.uint32))
    columns: dict[str, NDArray[Any]] = {name: tracks.of(t, name)[order] for name in ("track", "parent")}
    columns = {name: column.astype(np.uint32) for name, column in columns.items()}
    columns["generation"] = tracks.of(t, "generation")[order].astype(np.int32)
    if run.source.size("z") > 1:
        columns["centroid_z_px"] = sorted_objects["sum_z"] / sorted_objects["area"]
    velocity = _velocities(tracks, t)[order]
    size = run.measured.pixel_size_um or (np.nan, np.nan)
    columns |= {f"velocity_{axis}_px": velocity[:, i] for i, axis in enumerate("yx")}
    columns["speed_um"] = np.hypot(velocity[:, 0] * size[0], velocity[:, 1] * size[1])
    columns["direction_rad"] = np.arctan2(velocity[:, 0], velocity[:, 1])
    for name, column in columns.items():
        table = table.append_column(name, pa.array(column))
    return table


def _velocities(tracks: Tracks, t: int) -> NDArray[np.float64]:
    """Way of each object of a frame since it was seen before, (n, 2), px per frame; nan where it was not."""
    back, row, mother = (tracks.of(t, name) for name in ("back", "row", "mother"))
    back, row = np.where(mother >= 0, 1, back), np.where(mother >= 0, mother, row)
    velocity = np.full((len(back), 2), np.nan)
    here = centroids(tracks.frames.objects(t))
    for frames in np.unique(back[back > 0]).tolist():
        same = back == frames
        velocity[same] = (here[same] - centroids(tracks.frames.objects(t - frames))[row[same]]) / frames
    return velocity

"""Publish: write the label layer, its pyramid and its object table, and last the layer's name.

The grid of the shards depends only on the image's shape, not on tiles. One task writes whole shards of one level;
level l starts when level l − 1 is complete.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cellscale.ngff import array_io
from cellscale.ngff.labels import LabelLayer
from cellscale.ngff.pyramids import downsample
from cellscale.segmentation.failures import FailedTile
from cellscale.segmentation.join import Numbering
from cellscale.segmentation.object_table import TABLE, Measured, object_table, parquet, part_name
from cellscale.segmentation.plan import Run
from cellscale.segmentation.records import Arrays
from cellscale.segmentation.verification import counts
from cellscale.segmentation.volumes import VolumeNumbers, Volumes, volume_rows
from cellscale.segmentation.work_items import WorkItem
from cellscale.storage.folder import Folder
from cellscale.tiling.row_groups import Rows
from cellscale.types import Box


@dataclass(frozen=True, kw_only=True)
class Publication:
    """Arguments shared by the publishing tasks."""

    run: Run
    layer: LabelLayer
    level: int
    earlier: Rows
    """Cells that are numbered before those of a plane, (planes,)."""
    volumes: Volumes | None = None
    """Numbers of 3-D objects, if slices are joined."""


def label_slice(run: Run, plane: int) -> tuple[int, int]:
    """Frame and slice of the layer that a plane is written to."""
    t, z = run.planes[plane]
    return t, 0 if z == "max" else z


def publish(publication: Publication, items: Sequence[WorkItem]) -> Arrays:
    """Write shards (plane, shard) of a level; return the counts of the written objects and pixels."""
    run, layer, level = publication.run, publication.layer, publication.level
    shards = layer.shards(level)
    numbering, written = Numbering(run, publication.earlier), []
    volumes = None if publication.volumes is None else VolumeNumbers(run, publication.volumes)
    for plane, shard in items:
        box = shards[shard]
        t, z = label_slice(run, plane)
        if level:
            written.append((downsample(layer, level, box, t=t, z=z), 0, 0))
            continue
        labels = numbering.labels(plane, box)
        if volumes is not None:
            labels = volumes.numbered(plane, labels)
        objects = layer.write(labels, box, t=t, z=z)
        written.append((objects, int(np.count_nonzero(labels)), int(labels.max())))
    _flush(publication, [(plane, shards[shard]) for plane, shard in items])
    return counts(written)


def _flush(publication: Publication, boxes: Sequence[tuple[int, Box]]) -> None:
    """Flush the boxes of planes that were written to the level, so that they survive a loss of power."""
    run, layer = publication.run, publication.layer
    places = [(*label_slice(run, plane), box) for plane, box in boxes]
    indices = [array_io.index_of(layer.axes, box, t=t, z=slice(z, z + 1), c=slice(0, 1)) for t, z, box in places]
    array_io.flush(layer.store, layer.levels[publication.level], indices)


def tables(publication: Publication, items: Sequence[WorkItem]) -> Arrays:
    """Write the object table of row groups (plane, group), one Parquet file each, next to the layer's arrays."""
    run, layer = publication.run, publication.layer
    folder = Folder(url=layer.place(TABLE), storage_options=layer.storage_options)
    image = Measured(shape=run.grid.shape, pixel_size_um=run.image.pixel_size_um(), channels=run.image.channels)
    numbering, written = Numbering(run, publication.earlier), []
    for plane, group in items:
        t, z = label_slice(run, plane)
        cells, before = numbering.cells(plane, group), numbering.before(plane, group)
        area = cells.get("area", np.zeros(0, np.int64))
        rows = object_table(cells, image, frame=t, z=z, labels=np.arange(before + 1, before + 1 + len(area)))
        folder.write(part_name(plane, group), parquet(rows), flush=False)
        written.append((1, int(area.sum()), before + len(area) if len(area) else 0))
    folder.flush(part_name(plane, group) for plane, group in items)
    return counts(written)


def volume_tables(publication: Publication, items: Sequence[WorkItem]) -> Arrays:
    """Write the object table of 3-D objects of frames (frame,), one Parquet file each."""
    run, layer, written = publication.run, publication.layer, []
    folder = Folder(url=layer.place(TABLE), storage_options=layer.storage_options)
    numbering = Numbering(run, publication.earlier)
    numbers = VolumeNumbers(run, publication.volumes or Volumes(before=np.zeros(len(run.frames), np.int64)))
    for (frame,) in items:
        rows = volume_rows(numbering, numbers, frame)
        folder.write(part_name(run.frames[frame], 0), parquet(rows), flush=False)
        volume, labels = (rows[name].to_numpy() for name in ("volume_px", "label"))
        written.append((1, int(volume.sum()), int(labels.max(initial=0))))
    folder.flush(part_name(run.frames[frame], 0) for (frame,) in items)
    return counts(written)


def layer_metadata(run: Run, model: Mapping[str, Any], failed_regions: Sequence[FailedTile] = ()) -> dict[str, Any]:
    """Provenance metadata of the layer, for `cellscale` in its attributes, with its failed regions."""
    made = {"digest": run.digest, "frames": sorted({t for t, _ in run.planes}), "model": dict(model)}
    return made | ({"failed_regions": [one.region.to_dict() for one in failed_regions]} if failed_regions else {})

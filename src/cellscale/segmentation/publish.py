"""Publish: write the label layer, its pyramid and its object table, and last the layer's name.

The grid of the shards depends only on the image's shape, not on tiles. One task writes whole shards of one level;
level l starts when level l − 1 is complete.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from cellscale.ngff.attempts import OBJECTS
from cellscale.ngff.labels import LabelLayer
from cellscale.ngff.layer_tables import part_name
from cellscale.ngff.pyramids import Part, downsample, parts_of, write_levels
from cellscale.segmentation.failures import FailedTile
from cellscale.segmentation.join import Numbering
from cellscale.segmentation.object_table import Measured, object_table, parquet
from cellscale.segmentation.plan import Run
from cellscale.segmentation.prefetch import prefetch
from cellscale.segmentation.records import Arrays
from cellscale.segmentation.seam_quality import SeamCounts
from cellscale.segmentation.verification import counts
from cellscale.segmentation.volumes import VolumeNumbers, Volumes, volume_rows
from cellscale.segmentation.work_items import WorkItem
from cellscale.storage.folder import Folder
from cellscale.storage.together import behind
from cellscale.tiling.row_groups import Rows
from cellscale.types import Box, Labels

SHARDS = 4
"""Shards of labels that are written at once."""


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
    """Write shards (plane, shard) of a level; return the counts of the written objects and pixels, and of seams."""
    return _coarser(publication, items) if publication.level else _finest(publication, items)


def _finest(publication: Publication, items: Sequence[WorkItem]) -> Arrays:
    """Write shards of the finest level, and from the same pixels the parts of the next levels that they determine."""
    run, layer = publication.run, publication.layer
    shards, count = layer.shards(), layer.levels_together
    seams, written, parts = SeamCounts(run), [], list[Part]()
    # The labels of the next shards are computed while some are written.
    with behind(SHARDS) as later:
        for (plane, shard), near in zip(items, prefetch(_labels(publication, seams, items)), strict=True):
            box, (t, z) = shards[shard], label_slice(run, plane)
            seams.add(plane, near, box)
            labels = near[box.within(seams.seen(box)).slices]
            written.append(later(partial(_write, layer, labels, box, t, z)))
            parts += parts_of(layer, box, t=t, z=z, count=count)
    layer.flush(parts)
    return counts(done.result() for done in written) | seams.columns()


def _write(layer: LabelLayer, labels: Labels, box: Box, t: int, z: int) -> tuple[int, ...]:
    """Write a shard and count: the stored objects of each level, then the pixels with a label and the last label."""
    stored = write_levels(layer, labels, box, t=t, z=z, count=layer.levels_together)
    return (*stored, int(np.count_nonzero(labels)), int(labels.max()))


def _labels(publication: Publication, seams: SeamCounts, items: Sequence[WorkItem]) -> Iterator[Labels]:
    """Labels of the pixels of shards, and of those around them in which seams are counted."""
    run, shards = publication.run, publication.layer.shards()
    numbering = Numbering(run, publication.earlier)
    volumes = None if publication.volumes is None else VolumeNumbers(run, publication.volumes)
    numbering.load(items[0][0], seams.seen(shards[items[0][1]]))
    for plane, shard in items:
        labels = numbering.labels(plane, seams.seen(shards[shard]))
        yield labels if volumes is None else volumes.numbered(plane, labels)


def _coarser(publication: Publication, items: Sequence[WorkItem]) -> Arrays:
    """Write shards of a level from the level before."""
    run, layer, level = publication.run, publication.layer, publication.level
    shards, written, parts = layer.shards(level), [], list[Part]()
    for plane, shard in items:
        t, z = label_slice(run, plane)
        written.append((downsample(layer, level, shards[shard], t=t, z=z), 0, 0))
        parts += parts_of(layer, shards[shard], t=t, z=z, level=level)
    layer.flush(parts)
    return counts(written)


def tables(publication: Publication, items: Sequence[WorkItem]) -> Arrays:
    """Write the object table of row groups (plane, group), one Parquet file each, next to the layer's arrays."""
    run, layer = publication.run, publication.layer
    folder = Folder(url=layer.place(OBJECTS), storage_options=layer.storage_options)
    image = Measured(shape=run.grid.shape, pixel_size_um=run.image.pixel_size_um(), channels=run.image.channels)
    numbering, written = Numbering(run, publication.earlier), []
    with behind() as later:
        for plane, group in items:
            t, z = label_slice(run, plane)
            cells, before = numbering.cells(plane, group), numbering.before(plane, group)
            area = cells.get("area", np.zeros(0, np.int64))
            rows = object_table(cells, image, frame=t, z=z, labels=np.arange(before + 1, before + 1 + len(area)))
            later(partial(folder.write, part_name(plane, group), parquet(rows), flush=False))
            written.append((1, int(area.sum()), before + len(area) if len(area) else 0))
    folder.flush(part_name(plane, group) for plane, group in items)
    return counts(written)


def volume_tables(publication: Publication, items: Sequence[WorkItem]) -> Arrays:
    """Write the object table of 3-D objects of frames (frame,), one Parquet file each."""
    run, layer, written = publication.run, publication.layer, []
    folder = Folder(url=layer.place(OBJECTS), storage_options=layer.storage_options)
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
    """Provenance metadata of the layer, for `cellscale` in its attributes: with its failed regions, and a limit of the
    promise that labels depend on nothing but the whole frame.
    """
    made = {"digest": run.digest, "frames": sorted({t for t, _ in run.planes}), "model": dict(model)}
    made |= {} if run.method.whole == "exact" else {"whole": run.method.whole}
    return made | ({"failed_regions": [one.region.to_dict() for one in failed_regions]} if failed_regions else {})

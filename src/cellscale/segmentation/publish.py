"""Publish: the label layer, its pyramid and its object table; the layer's name last of all.

The shards have a grid of their own, fixed by the image's shape alone. One task writes whole shards of one level;
level l starts when level l − 1 is complete.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cellscale.kernels.tables import FLAGS
from cellscale.ngff.labels import LabelLayer
from cellscale.ngff.pyramids import downsample
from cellscale.segmentation.decode import FIXED_POINT, pieces_name
from cellscale.segmentation.join import Numbering
from cellscale.segmentation.plan import Run, Unit
from cellscale.segmentation.records import Arrays, get
from cellscale.segmentation.verification import counts
from cellscale.storage.folder import Folder
from cellscale.types import Table


@dataclass(frozen=True, kw_only=True)
class Publication:
    """What the publishing tasks share."""

    run: Run
    layer: LabelLayer
    level: int


def label_slice(run: Run, plane: int) -> tuple[int, int]:
    """Frame and slice of the layer that a plane is written to."""
    t, z = run.planes[plane]
    return t, 0 if z == "max" else z


def publish(publication: Publication, units: Sequence[Unit]) -> Arrays:
    """Write shards (plane, shard) of a level; return the counts of what was written."""
    run, layer, level = publication.run, publication.layer, publication.level
    shards = layer.shards(level)
    numbering, written = Numbering(run), []
    for plane, shard in units:
        box = shards[shard]
        t, z = label_slice(run, plane)
        if level:
            written.append((downsample(layer, level, box, t=t, z=z), 0, 0))
            continue
        labels = np.zeros(box.shape, np.uint32)
        for tile in run.grid.touching(box):
            core = run.grid.core(tile)
            part = core.clip(box)
            pieces = get(run.scratch, pieces_name(plane, tile))["pieces"]
            labels[part.within(box).slices] = numbering.table(plane, tile)[pieces[part.within(core).slices]]
        objects = layer.write(labels, box, t=t, z=z)
        written.append((objects, int(np.count_nonzero(labels)), int(labels.max())))
    return counts(written)


def _columns(run: Run, plane: int, objects: Table, before: int) -> dict[str, NDArray[Any]]:
    t, z = label_slice(run, plane)
    count, area = len(objects["area"]), objects["area"]
    height_um, width_um = run.image.pixel_size_um() or (np.nan, np.nan)
    columns: dict[str, NDArray[Any]] = {
        "frame": np.full(count, t, np.int32),
        "slice": np.full(count, z, np.int32),
        "label": np.arange(before + 1, before + count + 1).astype(np.uint32),
        "area_px": area,
        "area_um2": area * height_um * width_um,
        "centroid_y_px": objects["sum_y"] / area,
        "centroid_x_px": objects["sum_x"] / area,
        "centroid_y_um": objects["sum_y"] / area * height_um,
        "centroid_x_um": objects["sum_x"] / area * width_um,
    }
    columns |= {f"bbox_{side}_px": objects[side] for side in ("y0", "x0", "y1", "x1")}
    height, width = run.grid.shape
    columns["touches_edge"] = (
        (objects["y0"] == 0) | (objects["x0"] == 0) | (objects["y1"] == height) | (objects["x1"] == width)
    )
    columns |= {flag: objects[flag] > 0 for flag in FLAGS if flag in objects}
    unit = FIXED_POINT if np.issubdtype(run.image.dtype, np.floating) else 1
    for c, name in enumerate(run.image.channels):
        columns[f"mean_intensity_{name}"] = objects[f"intensity_{c}"] / (area * unit)
    return columns


def tables(publication: Publication, units: Sequence[Unit]) -> Arrays:
    """Write the object table of strips (plane, strip), one Parquet file each, beside the layer's arrays."""
    run, layer = publication.run, publication.layer
    folder = Folder(url=f"{layer.url}/objects.parquet", storage_options=layer.storage_options)
    numbering, written = Numbering(run), []
    for plane, strip in units:
        buffer, cells = io.BytesIO(), numbering.cells(plane, strip)
        pq.write_table(pa.table(_columns(run, plane, cells, numbering.before(plane, strip))), buffer)
        folder.write(f"part-{plane:06d}-{strip:06d}.parquet", buffer.getvalue())
        area = cells["area"]
        written.append((1, int(area.sum()), numbering.before(plane, strip) + len(area) if len(area) else 0))
    return counts(written)


def layer_metadata(run: Run, model: Mapping[str, Any], holes: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """What the layer says of its making, under `cellscale` in its attributes; its holes, if it has any."""
    made = {"digest": run.digest, "frames": sorted({t for t, _ in run.planes}), "model": dict(model)}
    names = ("frame", "slice", "box_px", "box_um")
    return made | ({"failed_regions": [{name: hole[name] for name in names} for hole in holes]} if holes else {})

"""3-D objects of a run whose slices are joined: overlaps of neighbouring slices, their links, numbers and rows.

Slices are segmented and joined like those of any other run. Objects of neighbouring slices are then counted shard by
shard and linked on tables, before a pixel is published; the shards are written with the numbers of 3-D objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cellscale.errors import RunError
from cellscale.kernels.tables import concatenated, grouped, reduced
from cellscale.linking.slices import join_slices
from cellscale.linking.tables import overlap_sums
from cellscale.ngff.array_io import grid_boxes
from cellscale.segmentation.join import MOST_CELLS, Numbering
from cellscale.segmentation.object_table import Measured, object_table
from cellscale.segmentation.plan import Run
from cellscale.segmentation.records import WORK_ITEMS, Arrays, Made, Records, get, table_columns, table_in
from cellscale.segmentation.work_items import WorkItem
from cellscale.tiling.row_groups import Rows
from cellscale.types import Box, Labels, Table


@dataclass(frozen=True, kw_only=True)
class Slices:
    """Arguments shared by the tasks that join slices."""

    run: Run
    earlier: Rows
    """Cells in earlier slices of a plane's frame, (planes,)."""


def shards_of(run: Run) -> list[Box]:
    """The publication grid of the finest level."""
    return grid_boxes(run.grid.shape)


def planes_of(run: Run, frame: int) -> range:
    """Numbers of the planes of a frame, by its place in the run."""
    return range(frame * run.slices, (frame + 1) * run.slices)


def planes_compared(run: Run, plane: int) -> range:
    """A plane and the next ones of its frame to which its objects may go on."""
    return range(plane, min(plane + run.slice_rules.max_gap + 2, planes_of(run, plane // run.slices).stop))


def seen_from(run: Run, box: Box) -> Box:
    """The pixels of a shard, and those below and to the right of it."""
    return Box(box.y0, box.x0, box.y1 + 1, box.x1 + 1).clip(Box.of(run.grid.shape))


def _sizes(labels: Labels, seen: Box, core: Box) -> Table:
    """Area of each object in a core, and how many of its pixels have a neighbour of its own below and to the right."""
    inner = core.within(seen)
    mine = labels[inner.slices]
    columns = {"area": mine}
    for name, (down, right) in (("below", (1, 0)), ("beside", (0, 1))):
        shifted = np.zeros_like(mine)
        part = labels[inner.y0 + down : inner.y1 + down, inner.x0 + right : inner.x1 + right]
        shifted[: part.shape[0], : part.shape[1]] = part
        columns[name] = np.where(mine == shifted, mine, 0)
    ids, numbers = np.unique(mine, return_inverse=True)
    counts = {
        name: np.bincount(numbers.reshape(-1)[values.reshape(-1) > 0], minlength=len(ids)).astype(np.int64)
        for name, values in columns.items()
    }
    kept = ids > 0
    return {"label": ids[kept].astype(np.int64), **{name: column[kept] for name, column in counts.items()}}


def count_slices(shared: Slices, items: Sequence[WorkItem]) -> Arrays:
    """Count the objects of planes in shards, and their overlaps with the next slices: work items (shard, plane)."""
    run, shards, arrays = shared.run, shards_of(shared.run), dict[str, NDArray[np.generic]]()
    numbering = Numbering(run, shared.earlier)
    kept: dict[WorkItem, Labels] = {}
    for shard, plane in items:
        box = shards[shard]
        seen, near = seen_from(run, box), planes_compared(run, plane)
        kept = {(shard, p): kept[shard, p] if (shard, p) in kept else numbering.labels(p, seen) for p in near}
        mine = kept[shard, plane]
        inner = box.within(seen).slices
        overlaps = [overlap_sums(mine[inner], kept[shard, p][inner]) for p in near[1:]]
        arrays |= table_columns(f"{shard}/{plane}/objects", _sizes(mine, seen, box))
        arrays |= table_columns(f"{shard}/{plane}/overlaps", grouped(overlaps, ("a", "b")) if overlaps else {})
    return arrays


def link_slices(run: Run, items: Sequence[WorkItem]) -> Made:
    """Join the objects of the slices of frames: work items (frame,); the record counts the 3-D objects of each.

    A scratch object keeps, for each frame, the number of each object of a slice, and the faces of each 3-D object.
    """
    shards, counts = len(shards_of(run)), []
    records, joined = Records(run.scratch, kept=2 * shards), dict[str, Arrays]()
    for (frame,) in items:
        objects, overlaps = [], []
        for z, plane in enumerate(planes_of(run, frame)):
            for shard in range(shards):
                found = records.of(run.slice_tables(shards), (shard, plane))
                part = table_in(found, f"{shard}/{plane}/objects")
                objects.append({**part, "z0": np.full(len(part["label"]), z)})
                overlaps.append(table_in(found, f"{shard}/{plane}/overlaps"))
        table, pairs = grouped(objects, ("label",)), grouped([part for part in overlaps if part], ("a", "b"))
        made = _joined(run, table, pairs)
        joined[volumes_name(frame)] = made
        counts.append(len(made["faces_z"]))
    return Made(columns={"count": np.array(counts)}, objects=joined)


def _joined(run: Run, table: Table, pairs: Table) -> Arrays:
    """Number the 3-D objects of a frame and count the faces of their voxels, by the axis that a face is normal to."""
    if not len(table["label"]):
        nothing = np.zeros(0, np.int64)
        return {"numbers": nothing, **{f"faces_{axis}": nothing for axis in "zyx"}}
    rows = {"a": pairs["a"] - 1, "b": pairs["b"] - 1, "pixels": pairs["pixels"]} if pairs else _no_pairs()
    numbers = join_slices(table["area"], table["z0"], rows, run.slice_rules)
    count = int(numbers.max())
    inside = (numbers[rows["a"]] == numbers[rows["b"]]) & (table["z0"][rows["b"]] - table["z0"][rows["a"]] == 1)
    hidden_z = np.bincount(numbers[rows["a"]][inside], rows["pixels"][inside], count + 1)[1:].astype(np.int64)
    sums = reduced({name: table[name] for name in ("area", "below", "beside")}, numbers - 1, count)
    faces = {"z": hidden_z, "y": sums["below"], "x": sums["beside"]}
    return {"numbers": numbers, **{f"faces_{axis}": 2 * (sums["area"] - hidden) for axis, hidden in faces.items()}}


def _no_pairs() -> dict[str, NDArray[np.int64]]:
    return {name: np.zeros(0, np.int64) for name in ("a", "b", "pixels")}


def volumes_name(frame: int) -> str:
    """Name of the scratch object with the 3-D objects of a frame."""
    return f"volumes/{frame:06d}"


@dataclass(frozen=True, kw_only=True)
class Volumes:
    """Numbers of the 3-D objects of a run."""

    before: Rows
    """3-D objects that are numbered before those of a frame, (frames,)."""
    count: int = 0
    """3-D objects of all frames."""

    @classmethod
    def of(cls, run: Run, records: Iterable[Arrays]) -> Volumes:
        """Count the objects of each frame from the records of `link_slices`.

        Raises
        ------
        RunError
            If there are more objects than uint32 has labels.
        """
        counts = np.zeros(len(run.frames), np.int64)
        for record in records:
            counts[record[WORK_ITEMS][:, 0]] = record["count"]
        before = np.cumsum(counts) - counts if run.settings.unique_ids else np.zeros(len(counts), np.int64)
        if int((before + counts).max(initial=0)) > MOST_CELLS:
            raise RunError(f"There are {(before + counts).max()} objects; uint32 labels end at {MOST_CELLS}.")
        return cls(before=before, count=int(counts.sum()))


class VolumeNumbers:
    """Numbers of the 3-D objects of a run's frames, read as they are asked for."""

    def __init__(self, run: Run, volumes: Volumes) -> None:
        """Read nothing yet."""
        self.run, self.before = run, volumes.before
        self.of = lru_cache(maxsize=2)(lambda frame: get(run.scratch, volumes_name(frame)))

    def numbered(self, plane: int, labels: Labels) -> Labels:
        """Replace the labels of a box of a plane, numbered through its frame's slices, by those of 3-D objects."""
        frame = plane // self.run.slices
        numbers = self.of(frame)["numbers"] + self.before[frame]
        table = np.concatenate([np.zeros(1, np.int64), numbers]).astype(np.uint32)
        found: Labels = table[labels]
        return found


def volume_rows(numbering: Numbering, numbers: VolumeNumbers, frame: int) -> pa.Table:
    """Rows of the 3-D objects of a frame, by its place in the run.

    The columns are those of every object table, with volume instead of area, and the centroid's slice, the first
    slice and the one after the last, and the surface: the faces of voxels behind which the object does not go on.
    """
    run = numbering.run
    image = Measured(shape=run.grid.shape, pixel_size_um=run.image.pixel_size_um(), channels=run.image.channels)
    parts = []
    for z, plane in enumerate(planes_of(run, frame)):
        for group in range(len(run.row_groups)):
            cells = numbering.cells(plane, group)
            if len(cells.get("area", ())):
                same = np.full(len(cells["area"]), z)
                parts.append({**cells, "sum_z": z * cells["area"], "z0": same, "z1": same + 1})
    found = numbers.of(frame)
    count = len(found["faces_z"])
    objects = reduced(concatenated(parts), found["numbers"] - 1, count) if count else {}
    labels = numbers.before[frame] + 1 + np.arange(count)
    rows = object_table(objects, image, frame=run.frames[frame], z=0, labels=labels)
    rows = rows.drop_columns(["area_px", "area_um2"])
    first = pa.array(objects.get("z0", np.zeros(0)).astype(np.int32))
    rows = rows.set_column(rows.schema.get_field_index("slice"), "slice", first)
    for name, column in _volume_columns(run, objects, found, count).items():
        rows = rows.append_column(name, pa.array(column))
    return rows


def _volume_columns(run: Run, objects: Table, found: Arrays, count: int) -> dict[str, NDArray[np.generic]]:
    """Columns of 3-D objects alone."""
    none = np.zeros(0, np.int64)
    volume, sum_z, last = (objects.get(name, none) for name in ("area", "sum_z", "z1"))
    (height, width), depth = run.image.pixel_size_um() or (np.nan, np.nan), run.image.z_step_um() or np.nan
    areas = {"z": height * width, "y": depth * width, "x": depth * height}
    surface = sum((found[f"faces_{axis}"] * area for axis, area in areas.items()), np.zeros(count))
    return {
        "slice_end": last.astype(np.int32),
        "volume_px": volume,
        "volume_um3": volume * height * width * depth,
        "centroid_z_px": sum_z / volume,
        "centroid_z_um": sum_z / volume * depth,
        "surface_faces": sum((found[f"faces_{axis}"] for axis in "zyx"), np.zeros(count, np.int64)),
        "surface_um2": surface,
    }

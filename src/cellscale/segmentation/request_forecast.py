"""Forecast of a run's requests: those of a sample of the tasks of each step, counted from the plan.

Nothing fails in a forecast, every object is stored, and the run is a new one in the image's own store. Requests that
depend on time are missing: the checks of a run's owner, one every few seconds for each process.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import reduce

import numpy as np

from cellscale.methods.intensity import scale_of_type
from cellscale.ngff.array_io import stored_sides
from cellscale.ngff.source_identity import ChunkGrid
from cellscale.segmentation.intensity_statistics import ROWS_PX, row_boxes
from cellscale.segmentation.join import BUNDLE_BYTES
from cellscale.segmentation.plan import Run
from cellscale.segmentation.predict import source_box
from cellscale.segmentation.report import DRIVER, TOTAL
from cellscale.segmentation.seam_quality import SeamCounts
from cellscale.segmentation.source import chunk_grid, read_together
from cellscale.segmentation.volumes import shards_of
from cellscale.segmentation.work_items import Step, StepName, WorkItem
from cellscale.storage.traffic import PAGE, Traffic
from cellscale.types import Box

SAMPLE = 16
"""Tasks of a step that are counted; the others are like these."""
DRIVER_READS = {
    "earlier run, layer and its place": 3,
    "place of the layer": 3,
    "owner": 4,
    "publication": 3,
    "consolidated metadata": 3,
}
"""Objects that the driver reads in a run."""
DRIVER_WRITES = {"plan, layer and its list": 4, "report": 3, "staged arrays": 1}
"""Objects that the driver writes in a run, in addition to one for the array of each level."""
DRIVER_LISTINGS = 4
"""Listings of the driver that are short; those of labels and scratch objects grow with the run."""


class RequestForecast:
    """Requests of a run's tasks, counted from its plan."""

    def __init__(self, run: Run, stored_bytes: Mapping[str, float]) -> None:
        """Count nothing yet.

        Parameters
        ----------
        run : Run
            The run.
        stored_bytes : mapping
            Bytes for each pixel of a plane, as they are stored: source (for each channel), maps, fragments, record,
            labels.
        """
        self.run, self._bytes = run, stored_bytes
        self._grid, self._sides = chunk_grid(run), run.image.object_shape()
        self._seams = SeamCounts(run)

    def of(self, step: Step) -> Traffic:
        """Requests of all tasks of a step."""
        count = {
            StepName.INTENSITY: self._intensity,
            StepName.PREDICT: self._predict,
            StepName.DECODE: self._decode,
            StepName.ROW_GROUPS: self._row_groups,
            StepName.JOIN: self._join,
            StepName.SLICE_TABLES: self._slice_tables,
            StepName.SLICE_LINKS: self._slice_links,
            StepName.PUBLISH: self._coarser if step.index else self._publish,
            StepName.TABLES: self._tables,
        }[step.kind]
        return _sampled(step, lambda items: count(items, step))

    def driver(self, steps: Sequence[Step]) -> Traffic:
        """Requests of the driver, from the first look at the target to the end."""
        levels, records = len(self.run.image.levels), sum(map(len, steps))
        scratch = records + sum(len(step) for step in steps if step.kind in (StepName.PREDICT, StepName.DECODE))
        scratch += self._bundles({(plane,) for plane in range(len(self.run.planes))})
        stored = len(self.run.planes) * sum(math.prod(self._label_objects(level)) for level in range(levels))
        lists = DRIVER_LISTINGS + _pages(stored) + _pages(scratch)
        writes = sum(DRIVER_WRITES.values()) + levels
        counts = {"GET": sum(DRIVER_READS.values()), "PUT": writes, "LIST": lists}
        return Traffic(requests=Counter({**counts, "DELETE": 1 + _pages(scratch)}))

    def _source(self, boxes: Iterable[Box], channels: Sequence[int]) -> Traffic:
        """Requests for boxes of whole chunks of a plane; parts of a shard take one for its index and one a chunk."""
        (t, z), count, area = self.run.planes[0], 0, 0
        first = Box(0, 0, 1, 1)
        layers = {key for c in channels for key in self.run.image.chunk_keys(first, t=t, z=z, channel=c)}
        (height, width), (rows, columns) = self._sides, self._grid.chunk
        whole = (height // rows) * (width // columns)
        for box in boxes:
            area += box.area
            if whole == 1:
                parts = self._grid.part(box)
                count += math.prod(part.stop - part.start for part in parts)
                continue
            shards = ChunkGrid(shape=self._grid.shape, chunk=self._sides)
            parts = shards.part(box)
            for y in range(parts[0].start, parts[0].stop):
                for x in range(parts[1].start, parts[1].stop):
                    inside = self._grid.part(shards.chunk_box(y, x).clip(box))
                    chunks = math.prod(part.stop - part.start for part in inside)
                    count += 1 if chunks == whole else 1 + chunks
        depth = self.run.image.size("z") if z == "max" else 1
        read = round(area * len(channels) * depth * self._bytes["source"])
        return Traffic(requests=Counter({"GET": count * len(layers)}), read_bytes=read)

    def _intensity(self, items: Sequence[WorkItem], step: Step) -> Traffic:
        run, boxes = self.run, list(row_boxes(self.run, self._grid)) * len(items)
        read = self._source(boxes, range(run.image.size("c")))
        if scale_of_type(run.image.dtype) is None and step.item_px * len(run.channels) > ROWS_PX:
            # The range of the pixels is not known before they are read.
            read += self._source(boxes, run.channels)
        return read + _made(puts=1)

    def _windows(self, boxes: Sequence[tuple[int, Box]], channels: Sequence[int]) -> Traffic:
        groups = read_together(self.run, boxes, self._grid, len(channels))
        unions = [self._grid.whole(reduce(Box.hull, group)) for _, group in groups]
        statistics = _tasks(self.run.intensity_statistics, {(plane,) for plane, _ in boxes})
        return self._source(unions, channels) + _made(gets=statistics)

    def _predict(self, items: Sequence[WorkItem], step: Step) -> Traffic:
        read = self._windows([(plane, source_box(self.run, window)) for plane, window in items], self.run.channels)
        return read + _made(puts=2, written=self._bytes["maps"] * len(items) * step.item_px)

    def _decode(self, items: Sequence[WorkItem], step: Step) -> Traffic:
        run, channels = self.run, range(self.run.image.size("c"))
        area = sum(run.grid.core(item[1]).area if len(item) > 1 else step.item_px for item in items)
        made = _made(puts=2, written=area * (self._bytes["fragments"] + self._bytes["record"]))
        if run.fused:
            return self._windows([(plane, source_box(run, 0)) for (plane,) in items], channels) + made
        read = self._windows([(plane, run.grid.core(tile)) for plane, tile in items], channels)
        grown = 0 if run.method.maps else run.windows.halo
        reaches = run.method.reaches
        boxes = [(plane, run.grid.read(tile, reaches.link, reaches.decode_reach)) for plane, tile in items]
        needed = {(plane, window) for plane, box in boxes for window in run.windows.touching(box.grow(grown))}
        maps = _tasks(run.predict, needed)
        size = len(run.predict.task(0).items) * run.predict.item_px * self._bytes["maps"]
        return read + made + _made(gets=maps, read=maps * size)

    def _row_groups(self, items: Sequence[WorkItem], step: Step) -> Traffic:
        groups = self.run.row_groups
        tiles = {(plane, tile) for plane, group in items for tile in (*groups.tiles(group), *groups.at_top(group + 1))}
        needed = {(plane,) for plane, _ in tiles} if self.run.fused else tiles
        size = self._bytes["record"] * len(items) * step.item_px
        return _made(gets=_tasks(self.run.decode, needed), puts=1, read=size, written=size)

    def _join(self, items: Sequence[WorkItem], step: Step) -> Traffic:
        groups = range(len(self.run.row_groups))
        needed = _tasks(self.run.join_row_groups, {(plane, group) for (plane,) in items for group in groups})
        size = self._bytes["record"] * len(items) * step.item_px
        return _made(gets=needed, puts=1 + self._bundles({*items}), read=size, written=size / 2)

    def _bundles(self, items: Collection[WorkItem]) -> int:
        """Number of the objects that hold the decisions about planes (plane,) or row groups (plane, group)."""
        run, of_planes = self.run, all(len(item) == 1 for item in items)
        groups = len(items) * (len(run.row_groups) if of_planes else 1)
        size = self._bytes["record"] / 2 * groups * Box.of(run.grid.shape).area / len(run.row_groups)
        return min(groups, max(_tasks(run.join, {item[:1] for item in items}), round(size / BUNDLE_BYTES)))

    def _labels(self, boxes: Sequence[tuple[int, Box]]) -> Traffic:
        """Requests for the labels of boxes of planes: fragments, and the tables with which they get their labels."""
        run = self.run
        tiles = {(plane, tile) for plane, box in boxes for tile in run.grid.touching(box)}
        groups = {(plane, run.row_groups.of_tile(tile)) for plane, tile in tiles}
        fragments = _tasks(run.decode, {(plane,) for plane, _ in tiles} if run.fused else tiles)
        gets = fragments + _tasks(run.join_row_groups, groups) + _tasks(run.join, {(plane,) for plane, _ in tiles})
        area = sum(run.grid.core(tile).area for _, tile in tiles)
        return _made(gets=gets + self._bundles(groups), read=area * (self._bytes["fragments"] + self._bytes["record"]))

    def _slice_tables(self, items: Sequence[WorkItem], step: Step) -> Traffic:
        shards, whole = shards_of(self.run), Box.of(self.run.grid.shape)
        return self._labels([(plane, shards[shard].grow(1).clip(whole)) for shard, plane in items]) + _made(puts=1)

    def _slice_links(self, items: Sequence[WorkItem], step: Step) -> Traffic:
        shards, depth = len(shards_of(self.run)), self.run.slices
        planes = [frame * depth + z for (frame,) in items for z in range(depth)]
        needed = _tasks(self.run.slice_tables(shards), {(shard, p) for shard in range(shards) for p in planes})
        return _made(gets=needed, puts=1 + len(items))

    def _label_objects(self, level: int) -> tuple[int, int]:
        """Rows and columns of the stored objects of a level of labels."""
        image = self.run.image
        sides = stored_sides(image.axes, image.levels[level].shape, np.dtype(np.uint32), image.version)
        height, width = (-(-image.size(axis, level) // sides[axis]) for axis in "yx")
        return height, width

    def _written(self, items: Sequence[WorkItem], step: Step, levels: Collection[int]) -> Traffic:
        """Requests that write the parts of levels in shards."""
        share = len(items) / math.prod(step.items_yx or (1, 1))
        sizes = [math.prod(self.run.image.size(axis, level) for axis in "yx") for level in levels]
        objects = round(share * sum(math.prod(self._label_objects(level)) for level in levels))
        return _made(puts=1 + objects, written=share * sum(sizes) * self._bytes["labels"])

    def _publish(self, items: Sequence[WorkItem], step: Step) -> Traffic:
        shards = shards_of(self.run)
        read = self._labels([(plane, self._seams.seen(shards[shard])) for plane, shard in items])
        volumes = {plane // self.run.slices for plane, _ in items} if self.run.settings.z_mode == "linked" else ()
        return read + self._written(items, step, range(self.run.image.levels_together)) + _made(gets=len(volumes))

    def _coarser(self, items: Sequence[WorkItem], step: Step) -> Traffic:
        level = step.index or 0
        finer = self._written(items, step, [level - 1])
        read = _made(gets=finer.requests["PUT"] - 1, read=finer.written_bytes)
        return read + self._written(items, step, [level])

    def _tables(self, items: Sequence[WorkItem], step: Step) -> Traffic:
        run, groups, numbers = self.run, range(len(self.run.row_groups)), 0
        needed = set(items)
        if run.settings.z_mode == "linked":
            planes = [frame * run.slices + z for (frame,) in items for z in range(run.slices)]
            needed, numbers = {(plane, group) for plane in planes for group in groups}, len(items)
        joined = _tasks(run.join, {item[:1] for item in needed})
        size = self._bytes["record"] * len(items) * step.item_px
        return _made(gets=joined + self._bundles(needed) + numbers, puts=1 + len(items), read=size / 2, written=size)


def requests_of(run: Run, steps: Sequence[Step], stored_bytes: Mapping[str, float]) -> dict[str, Traffic]:
    """Requests of each step of a run, of the driver and in total, see `RequestForecast`."""
    counted = RequestForecast(run, stored_bytes)
    found = {DRIVER: counted.driver(steps), **{step.name: counted.of(step) for step in steps}}
    return found | {TOTAL: sum(found.values(), Traffic())}


def _pages(count: int) -> int:
    return max(1, -(-count // PAGE))


def _made(*, gets: int = 0, puts: int = 0, read: float = 0, written: float = 0) -> Traffic:
    return Traffic(requests=Counter(GET=gets, PUT=puts), read_bytes=round(read), written_bytes=round(written))


def _tasks(step: Step, items: Iterable[WorkItem]) -> int:
    """Number of the tasks of a step that these work items belong to."""
    return len({step.task_of(item)[0] for item in items})


def _sampled(step: Step, count: Callable[[Sequence[WorkItem]], Traffic]) -> Traffic:
    """Requests of all tasks of a step from those of an evenly spaced sample."""
    chosen = np.unique(np.linspace(0, len(step) - 1, min(len(step), SAMPLE)).astype(np.int64)).tolist()
    total = sum((count(step.task(number).items) for number in chosen), Traffic())
    scale = len(step) / len(chosen)
    return Traffic(
        requests=Counter({kind: round(n * scale) for kind, n in total.requests.items() if n}),
        read_bytes=round(total.read_bytes * scale),
        written_bytes=round(total.written_bytes * scale),
    )

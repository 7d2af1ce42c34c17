"""Forecast of a run's requests: those of a sample of the tasks of each step, counted from the plan.

Nothing fails in a forecast, every object is stored, and the run is a new one in the image's own store. Requests that
depend on time are missing: the checks of a run's owner, one every few seconds for each process.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import reduce

import numpy as np

from cellscale.ngff.array_io import array_settings, grid_boxes, index_of, read_size, stored_sides
from cellscale.ngff.pyramids import Part, finer_box, parts_of
from cellscale.segmentation.intensity_statistics import is_read_twice, row_boxes
from cellscale.segmentation.join import BUNDLE_BYTES
from cellscale.segmentation.plan import Run
from cellscale.segmentation.predict import source_box
from cellscale.segmentation.publish import label_slice
from cellscale.segmentation.report import DRIVER, TOTAL
from cellscale.segmentation.seam_quality import SeamCounts
from cellscale.segmentation.source import chunk_grid, read_together
from cellscale.segmentation.volumes import planes_compared, seen_from, shards_of
from cellscale.segmentation.work_items import Step, StepName, WorkItem
from cellscale.storage.traffic import PAGE, Traffic
from cellscale.types import Box

SAMPLE = 16
"""Tasks of a step that are counted; the others are like these."""
DRIVER_READS = {
    "earlier run, layer and its place": 3,
    "place of the layer": 3,
    "owner": 4,
    "image, before publication": 1,
    "publication": 3,
    "consolidated metadata": 3,
}
"""Objects that the driver reads in a run."""
DRIVER_WRITES = {"plan, layer and its list": 4, "report": 3, "staged arrays": 1}
"""Objects that the driver writes in a run, in addition to one for the array of each level."""
DRIVER_LISTINGS = 4
"""Listings of the driver that are short; those of labels and scratch objects grow with the run."""


STORED = ("source", "maps", "fragments", "record", "objects", "table", "file", "labels")
"""Kinds of stored data: pixels of a channel and slice of the image, predictions, fragment numbers, records of decoding,
rows of objects in the records of joining, rows of object tables and the rest of each of their files, labels."""


class RequestForecast:
    """Requests of a run's tasks, counted from its plan."""

    def __init__(self, run: Run, stored_bytes: Mapping[str, float]) -> None:
        """Count nothing yet.

        Parameters
        ----------
        run : Run
            The run.
        stored_bytes : mapping
            Bytes of each of `STORED`, as they are stored, for a pixel; for `file`, of one file.
        """
        self.run, self._bytes = run, stored_bytes
        self._grid = chunk_grid(run)
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
        image, records = self.run.image, sum(map(len, steps))
        scratch = records + sum(len(step) for step in steps if step.kind in (StepName.PREDICT, StepName.DECODE))
        scratch += self._bundles({(plane,) for plane in range(len(self.run.planes))})
        whole = [Part(level, Box.of(image.plane_shape(level)), 0, 0, None) for level in range(len(image.levels))]
        stored = len(self.run.planes) * sum(map(self._objects_in, whole))
        lists = DRIVER_LISTINGS + _pages(stored) + _pages(scratch)
        writes = sum(DRIVER_WRITES.values()) + len(image.levels)
        counts = {"GET": sum(DRIVER_READS.values()), "PUT": writes, "LIST": lists}
        return Traffic(requests=Counter({**counts, "DELETE": 1 + _pages(scratch)}))

    def _source(self, boxes: Iterable[Box], channels: Sequence[int]) -> Traffic:
        """Requests for boxes of whole chunks of a plane."""
        t, z = self.run.planes[0]
        sizes = [self.run.image.read_size(box, t=t, z=z, channels=channels) for box in boxes]
        return _made(
            gets=sum(size.requests for size in sizes), read=sum(size.pixels for size in sizes) * self._bytes["source"]
        )

    def _px(self, step: Step, item: WorkItem) -> int:
        """Pixels of a plane for which a work item of a step stands."""
        run, plane = self.run, Box.of(self.run.grid.shape)
        if len(item) == 1:
            return plane.area
        if step.kind == StepName.PREDICT:
            return run.windows.core_box(item[1]).area
        if step.kind == StepName.DECODE:
            return run.grid.core(item[1]).area
        tiles = run.row_groups.tiles(item[1])
        return run.grid.core(tiles.start).hull(run.grid.core(tiles.stop - 1)).area

    def _all_px(self, step: Step, items: Iterable[WorkItem]) -> int:
        return sum(self._px(step, item) for item in items)

    def _fetched(self, step: Step, items: Iterable[WorkItem], *kinds: str) -> Traffic:
        """Requests for the objects that the tasks of work items have stored, one each, with bytes of some kinds."""
        numbers = {step.task_of(item)[0] for item in items}
        size = sum(self._bytes[kind] for kind in kinds)
        px = sum(self._all_px(step, step.task(number).items) for number in numbers) if size else 0
        return _made(gets=len(numbers), read=px * size)

    def _intensity(self, items: Sequence[WorkItem], step: Step) -> Traffic:
        run, boxes = self.run, list(row_boxes(self.run, self._grid))
        read = self._source(boxes, range(run.image.size("c")))
        if is_read_twice(run, Box.of(run.grid.shape).area):
            # The range of the pixels is not known before they are read.
            read += self._source(boxes, run.channels)
        # Its planes are alike.
        return sum([read] * len(items), _made(puts=1))

    def _windows(self, boxes: Sequence[tuple[int, Box]], channels: Sequence[int]) -> Traffic:
        groups = read_together(self.run, boxes, self._grid, len(channels))
        unions = [self._grid.whole(reduce(Box.hull, group)) for _, group in groups]
        statistics = _tasks(self.run.intensity_statistics, {(plane,) for plane, _ in boxes})
        return self._source(unions, channels) + _made(gets=statistics)

    def _predict(self, items: Sequence[WorkItem], step: Step) -> Traffic:
        read = self._windows([(plane, source_box(self.run, window)) for plane, window in items], self.run.channels)
        return read + _made(puts=2, written=self._bytes["maps"] * self._all_px(step, items))

    def _decode(self, items: Sequence[WorkItem], step: Step) -> Traffic:
        run, channels = self.run, range(self.run.image.size("c"))
        size = self._all_px(step, items) * (self._bytes["fragments"] + self._bytes["record"])
        made = _made(puts=2, written=size)
        if run.fused:
            return self._windows([(plane, source_box(run, 0)) for (plane,) in items], channels) + made
        read = self._windows([(plane, run.grid.core(tile)) for plane, tile in items], channels)
        grown = 0 if run.method.maps else run.windows.halo
        reaches = run.method.reaches
        boxes = [(plane, run.grid.read(tile, reaches.link, reaches.decode_reach)) for plane, tile in items]
        needed = {(plane, window) for plane, box in boxes for window in run.windows.touching(box.grow(grown))}
        return read + made + self._fetched(run.predict, needed, "maps")

    def _row_groups(self, items: Sequence[WorkItem], step: Step) -> Traffic:
        groups = self.run.row_groups
        tiles = {(plane, tile) for plane, group in items for tile in (*groups.tiles(group), *groups.at_top(group + 1))}
        needed = {(plane,) for plane, _ in tiles} if self.run.fused else tiles
        written = self._bytes["objects"] * self._all_px(step, items)
        return self._fetched(self.run.decode, needed, "record") + _made(puts=1, written=written)

    def _join(self, items: Sequence[WorkItem], step: Step) -> Traffic:
        groups = range(len(self.run.row_groups))
        needed = {(plane, group) for (plane,) in items for group in groups}
        written = self._bytes["objects"] * self._all_px(step, items)
        read = self._fetched(self.run.join_row_groups, needed, "objects")
        return read + _made(puts=1 + self._bundles({*items}), written=written)

    def _bundles(self, items: Collection[WorkItem]) -> int:
        """Number of the objects that hold the decisions about planes (plane,) or row groups (plane, group)."""
        run, of_planes = self.run, all(len(item) == 1 for item in items)
        groups = len(items) * (len(run.row_groups) if of_planes else 1)
        size = self._bytes["objects"] * groups * Box.of(run.grid.shape).area / len(run.row_groups)
        return min(groups, max(_tasks(run.join, {item[:1] for item in items}), round(size / BUNDLE_BYTES)))

    def _labels(self, boxes: Sequence[tuple[int, Box]]) -> Traffic:
        """Requests for the labels of boxes of planes: fragments, and the tables with which they get their labels."""
        run = self.run
        tiles = {(plane, tile) for plane, box in boxes for tile in run.grid.touching(box)}
        groups = {(plane, run.row_groups.of_tile(tile)) for plane, tile in tiles}
        planes = {(plane,) for plane, _ in tiles}
        read = self._fetched(run.decode, planes if run.fused else tiles, "fragments")
        read += self._fetched(run.join_row_groups, groups, "objects") + self._fetched(run.join, planes)
        decisions = self._bytes["objects"] * self._all_px(run.join_row_groups, groups)
        return read + _made(gets=self._bundles(groups), read=decisions)

    def _slice_tables(self, items: Sequence[WorkItem], step: Step) -> Traffic:
        run, shards = self.run, shards_of(self.run)
        seen = {(shard, near) for shard, plane in items for near in planes_compared(run, plane)}
        return self._labels([(plane, seen_from(run, shards[shard])) for shard, plane in seen]) + _made(puts=1)

    def _slice_links(self, items: Sequence[WorkItem], step: Step) -> Traffic:
        shards, depth = len(shards_of(self.run)), self.run.slices
        planes = [frame * depth + z for (frame,) in items for z in range(depth)]
        needed = _tasks(self.run.slice_tables(shards), {(shard, p) for shard in range(shards) for p in planes})
        return _made(gets=needed, puts=1 + len(items))

    def _objects_in(self, part: Part) -> int:
        """Number of the stored objects of labels that a part of a level fills."""
        image = self.run.image
        sides = stored_sides(image.axes, image.levels[part.level].shape, np.dtype(np.uint32), image.version)
        box, (height, width) = part.box, (sides["y"], sides["x"])
        return (-(-box.y1 // height) - box.y0 // height) * (-(-box.x1 // width) - box.x0 // width)

    def _parts(self, items: Sequence[WorkItem], boxes: Sequence[Box], level: int = 0, count: int = 1) -> list[Part]:
        """Parts of levels of labels that follow from shards (plane, shard) of one of them."""
        image, places = self.run.image, [(*label_slice(self.run, plane), boxes[shard]) for plane, shard in items]
        return [part for t, z, box in places for part in parts_of(image, box, t=t, z=z, level=level, count=count)]

    def _written(self, parts: Iterable[Part]) -> Traffic:
        """Requests that write parts of levels, and a record."""
        made = [(self._objects_in(part), part.box.area) for part in parts]
        area = sum(area for _, area in made)
        return _made(puts=1 + sum(count for count, _ in made), written=area * self._bytes["labels"])

    def _publish(self, items: Sequence[WorkItem], step: Step) -> Traffic:
        shards = shards_of(self.run)
        read = self._labels([(plane, self._seams.seen(shards[shard])) for plane, shard in items])
        volumes = {plane // self.run.slices for plane, _ in items} if self.run.settings.z_mode == "linked" else ()
        parts = self._parts(items, shards, count=self.run.image.levels_together)
        return read + self._written(parts) + _made(gets=len(volumes))

    def _coarser(self, items: Sequence[WorkItem], step: Step) -> Traffic:
        level, image, read = step.index or 0, self.run.image, Traffic()
        parts = self._parts(items, grid_boxes(image.plane_shape(level)), level)
        shape = image.levels[level - 1].shape
        made = array_settings(image.axes, shape, np.dtype(np.uint32), image.version)
        for part in parts:
            box = finer_box(image, level, part.box)
            index = index_of(image.axes, box, t=0, z=slice(0, 1), c=slice(0, 1))
            found = read_size(image.axes, index, shape=shape, chunks=made["chunks"], shards=made.get("shards"))
            read += _made(gets=found.requests, read=found.pixels * self._bytes["labels"])
        return read + self._written(parts)

    def _tables(self, items: Sequence[WorkItem], step: Step) -> Traffic:
        run, groups, numbers = self.run, range(len(self.run.row_groups)), 0
        needed = set(items)
        if run.settings.z_mode == "linked":
            planes = [frame * run.slices + z for (frame,) in items for z in range(run.slices)]
            needed, numbers = {(plane, group) for plane in planes for group in groups}, len(items)
        joined = self._fetched(run.join, {item[:1] for item in needed})
        area = self._all_px(run.join_row_groups, needed)
        written = self._bytes["table"] * area + self._bytes["file"] * len(items)
        made = _made(gets=self._bundles(needed) + numbers, puts=1 + len(items), written=written)
        return joined + made + _made(read=self._bytes["objects"] * area)


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

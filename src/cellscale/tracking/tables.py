"""Tables of frames in a tracking run: counted shard by shard, linked frame by frame, read back when asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cellscale.errors import ChangedError
from cellscale.kernels.tables import grouped
from cellscale.linking.links import daughters, link_frames, link_gap
from cellscale.linking.numbering import Earlier, earlier_of
from cellscale.linking.tables import object_sums, overlap_sums, whole_objects, whole_overlaps
from cellscale.ngff.source_identity import UNKNOWN, checksum
from cellscale.segmentation.memory import kept
from cellscale.segmentation.records import Arrays, Records, table_columns, table_in
from cellscale.segmentation.work_items import Step, WorkItem
from cellscale.tracking.plan import TrackRun
from cellscale.types import Box, Labels, Table

Links = NDArray[np.int64]
"""(n, 2), rows of the objects of two frames."""
_NONE = np.zeros((0, 2), np.int64)


def count_objects(run: TrackRun, items: Sequence[WorkItem]) -> Arrays:
    """Count the objects of frames in shards, and their overlaps with the next frame: work items (shard, frame)."""
    shards, arrays = run.source.shards(), dict[str, NDArray[np.generic]]()
    kept: dict[WorkItem, list[Labels]] = {}
    for shard, t in items:
        # The next frame of a shard is mostly that of the next work item: it is read once.
        kept = {
            (shard, at): kept[shard, at] if (shard, at) in kept else _slices(run, shards[shard], at)
            for at in range(t, min(t + 2, run.frames))
        }
        origin = shards[shard].y0, shards[shard].x0
        objects = [
            object_sums(labels, origin=origin, z=z, shape=run.measured.shape) for z, labels in enumerate(kept[shard, t])
        ]
        overlaps = [overlap_sums(*planes) for planes in zip(kept[shard, t], kept.get((shard, t + 1), []), strict=False)]
        arrays |= table_columns(f"{shard}/{t}/objects", grouped(objects, ("label",)))
        arrays |= table_columns(f"{shard}/{t}/overlaps", grouped(overlaps, ("a", "b")) if overlaps else {})
        seen = [checksum(np.stack(kept[shard, at])) if (shard, at) in kept else UNKNOWN for at in (t, t + 1)]
        arrays[f"{shard}/{t}/checksums"] = np.array(seen, np.int64)
    return arrays


def _slices(run: TrackRun, box: Box, t: int) -> list[Labels]:
    return [run.source.read(box, t=t, z=z) for z in range(run.source.size("z"))]


class Frames:
    """Tables and links of a run's frames, the latest ones kept."""

    def __init__(self, run: TrackRun) -> None:
        """Read nothing yet."""
        # A frame's past lies in one record of each step, and two where it is the first of its window.
        steps = 2 * (run.max_gap + 2 + run.objects.planes)
        self.run, self._records = run, Records(run.scratch, kept=steps)
        self._objects = kept(self._objects_of, run.max_gap + 3)

    def objects(self, t: int) -> Table:
        """Objects of a frame in the order of their first pixels, see `whole_objects`."""
        return self._objects(t)

    def _parts(self, t: int, name: str) -> list[Table]:
        step = self.run.objects
        return [table_in(self._records.of(step, (shard, t)), f"{shard}/{t}/{name}") for shard in range(step.planes)]

    def _objects_of(self, t: int) -> Table:
        return whole_objects(self._parts(t, "objects"))

    def source_labels(self, shard: int, t: int) -> list[Labels]:
        """Read the labels (y, x) of each slice of a frame in a shard again.

        Raises
        ------
        ChangedError
            If they are not those that were counted, with this frame and with the frame before.
        """
        run, url = self.run, self.run.source.url
        labels = _slices(run, run.source.shards()[shard], t)
        counted = [(t, 0)] + ([(t - 1, 1)] if t else [])
        known = {
            int(self._records.of(run.objects, (shard, at))[f"{shard}/{at}/checksums"][place]) for at, place in counted
        }
        if known != {checksum(np.stack(labels))}:
            raise ChangedError(
                f"Frame {t} of {url} has other labels now than when its objects were counted: another program has "
                "written into the layer. Nothing was published. Start over with --overwrite when it has finished."
            )
        return labels

    def overlaps(self, t: int) -> Table:
        """Overlaps of a frame with the next one, see `whole_overlaps`."""
        return whole_overlaps(self._parts(t, "overlaps"), self.objects(t), self.objects(t + 1))

    def _pairs(self, step: Step, t: int) -> Links:
        """Rows of a step's record; none where there are no such frames."""
        if not 0 <= t < self.run.frames:
            return _NONE
        pairs: Links = self._records.of(step, (t,))[str(t)]
        return pairs

    def links(self, t: int) -> Links:
        """Links from a frame to the next."""
        return self._pairs(self.run.links, t)

    def gaps(self, gap: int, t: int) -> Links:
        """Links from a frame over a gap of frames."""
        return self._pairs(self.run.gaps(gap), t)

    def divisions(self, t: int) -> Links:
        """Mothers of a frame and their second daughters in the next."""
        return self._pairs(self.run.divisions, t)

    def ended(self, t: int, gap: int) -> NDArray[np.int64]:
        """Rows of a frame that neither a link nor a gap shorter than this leads on from."""
        taken = [self.links(t), *(self.gaps(shorter, t) for shorter in range(1, gap))]
        return np.setdiff1d(np.arange(len(self.objects(t)["area"])), np.concatenate(taken)[:, 0])

    def begun(self, t: int, gap: int) -> NDArray[np.int64]:
        """Rows of a frame that neither a link nor a gap shorter than this leads to."""
        taken = [self.links(t - 1), *(self.gaps(shorter, t - 1 - shorter) for shorter in range(1, gap))]
        return np.setdiff1d(np.arange(len(self.objects(t)["area"])), np.concatenate(taken)[:, 1])

    def earlier(self, t: int) -> Earlier:
        """Return the earlier objects of the cells of a frame."""
        gaps = [(gap, self.gaps(gap, t - 1 - gap)) for gap in range(1, self.run.max_gap + 1)]
        return earlier_of(len(self.objects(t)["area"]), self.links(t - 1), gaps, self.divisions(t - 1))


def link(run: TrackRun, items: Sequence[WorkItem]) -> Arrays:
    """Link frames to the next: work items (frame,)."""
    frames = Frames(run)
    return {
        str(t): link_frames(frames.objects(t), frames.objects(t + 1), frames.overlaps(t), run.rules)
        if t + 1 < run.frames
        else _NONE
        for (t,) in items
    }


def close_gaps(shared: tuple[TrackRun, int], items: Sequence[WorkItem]) -> Arrays:
    """Link frames over a gap: work items (frame,)."""
    (run, gap), arrays = shared, dict[str, NDArray[np.generic]]()
    frames = Frames(run)
    for (t,) in items:
        later = t + 1 + gap
        arrays[str(t)] = _NONE
        if later < run.frames:
            free = frames.ended(t, gap), frames.begun(later, gap)
            arrays[str(t)] = link_gap(frames.objects(t), frames.objects(later), free, gap, run.rules)
    return arrays


def find_divisions(run: TrackRun, items: Sequence[WorkItem]) -> Arrays:
    """Find mothers and their second daughters in the next frame: work items (frame,)."""
    frames, arrays = Frames(run), dict[str, NDArray[np.generic]]()
    for (t,) in items:
        arrays[str(t)] = _NONE
        if t + 1 < run.frames:
            new = frames.begun(t + 1, run.max_gap + 1)
            tables = frames.objects(t), frames.objects(t + 1), frames.overlaps(t)
            arrays[str(t)] = daughters(*tables, frames.links(t), new, run.rules)
    return arrays

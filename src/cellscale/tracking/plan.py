"""Plan of a tracking run: all parameters, fixed before the first pixel is read."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from cellscale.errors import DamagedError, InputError
from cellscale.linking.links import LinkRules
from cellscale.ngff.image import NgffImage
from cellscale.ngff.labels import LabelLayer
from cellscale.redaction import redacted
from cellscale.segmentation import failures
from cellscale.segmentation.failures import Region
from cellscale.segmentation.measurement import level_of, measured_on
from cellscale.segmentation.object_table import Measured
from cellscale.segmentation.plan import BUNDLE
from cellscale.segmentation.work_items import Step, StepName, WorkItem, block_of
from cellscale.storage.folder import Folder

MOST_FRAMES = 100_000
"""Most frames in one task: a record is read whole for each of them."""


@dataclass(frozen=True, kw_only=True)
class TrackRun:
    """All that the tasks of a tracking run share; it holds no pixels and no rows."""

    image: NgffImage
    """The image, from the level on which the layer lies."""
    source: LabelLayer
    """The layer whose objects are tracked."""
    rules: LinkRules
    window: int
    """Frames in one task; no track depends on it."""
    scratch: Folder
    digest: str
    description: Mapping[str, Any]

    @property
    def frames(self) -> int:
        """Number of frames."""
        return self.source.size("t")

    @property
    def planes(self) -> tuple[tuple[int, int], ...]:
        """Each frame with its first slice, under which its objects are counted."""
        return tuple((t, 0) for t in range(self.frames))

    @property
    def measured(self) -> Measured:
        """Size and pixel size of the frames; no channel is measured."""
        return dataclasses.replace(measured_on(self.image, 0), channels=())

    def _step(self, kind: StepName, planes: int, items: int | None = None, *, index: int | None = None) -> Step:
        """Make a step of work items that lie in a row; `window` consecutive ones are a task."""
        height, width = self.measured.shape
        items_yx = None if items is None else (1, items)
        block = (self.window, 1, 1) if items is None else (1, 1, self.window)
        return Step(kind=kind, index=index, planes=planes, items_yx=items_yx, block=block, item_px=height * width)

    @property
    def max_gap(self) -> int:
        """Frames of the longest gap that is closed: a gap has a frame before it and one after it."""
        return max(0, min(self.rules.max_gap, self.frames - 2))

    @property
    def objects(self) -> Step:
        """One work item for each frame of each shard; consecutive frames of a shard lie in one task."""
        return self._step(StepName.OBJECTS, len(self.source.shards()), self.frames)

    @property
    def links(self) -> Step:
        """One work item for each frame: its links to the next one."""
        return self._step(StepName.LINKS, self.frames)

    def gaps(self, gap: int) -> Step:
        """One work item for each frame: its links over a gap of this number of frames."""
        return self._step(StepName.GAPS, self.frames, index=gap)

    @property
    def divisions(self) -> Step:
        """One work item for each frame: its mothers, and their second daughters in the next one."""
        return self._step(StepName.DIVISIONS, self.frames)

    @property
    def numbers(self) -> Step:
        """One work item: all frames are swept once."""
        return self._step(StepName.NUMBERS, 1)

    @property
    def tables(self) -> Step:
        """One work item for each frame."""
        return self._step(StepName.TABLES, self.frames)

    def publish(self, level: int, shards: int) -> Step:
        """One work item for each shard of each frame."""
        block = block_of(BUNDLE, (1, shards), self.frames)
        return dataclasses.replace(self._step(StepName.PUBLISH, self.frames, shards, index=level), block=block)


def failed_regions(source: LabelLayer) -> list[Region]:
    """Regions of a layer that were not segmented.

    Raises
    ------
    DamagedError
        For metadata that are not regions.
    """
    try:
        return [Region.from_dict(entry) for entry in source.metadata.get("failed_regions", [])]
    except (TypeError, AttributeError) as error:
        raise DamagedError(f"The attributes of {source.url} have no valid list of failed regions: {error}.") from None


def check_whole(source: LabelLayer) -> None:
    """Refuse a layer that has failed regions: cells would end there as if they had died.

    Raises
    ------
    InputError
        Naming the first regions.
    """
    failed = failed_regions(source)
    if failed:
        where = failures.first_of([str(region) for region in failed], "; ", "The layer's metadata list all of them.")
        raise InputError(
            f"{source.url} has {len(failed)} region(s) that were not segmented: {where}. Segment them with "
            "--overwrite, or track the rest with --allow-failed-tiles: cells that touch them end or begin there."
        )


def place_of(run: TrackRun, step: Step, item: WorkItem) -> tuple[int | None, Region]:
    """Number of the shard of a work item, None for the whole frame, and its place."""
    by_shard = step.kind == StepName.OBJECTS
    shard, frame = item if by_shard else (item[1] if len(item) > 1 else None, item[0])
    sides = None
    if shard is not None:
        box = run.source.shards(0 if by_shard else step.index or 0)[shard]
        sides = (box.y0, box.x0, box.y1, box.x1)
    return shard, Region(frame=frame, slice=0, box_px=sides, box_um=None)


def plan_tracks(image: NgffImage, source: LabelLayer, rules: LinkRules, scratch: Folder, window: int = 64) -> TrackRun:
    """Fix all parameters of a tracking run.

    Parameters
    ----------
    image : NgffImage
        The image that the layer is of, with all levels.
    source : LabelLayer
        The layer whose objects are tracked.
    rules : LinkRules
        Parameters of the linking; lengths in px of the layer. Their scale is replaced by the image's.
    scratch : Folder
        Folder of the run.
    window : int
        Frames in one task; no track depends on it.

    Raises
    ------
    InputError
        If layer and image differ in size, or the layer has one frame.
    """
    if not 1 <= window <= MOST_FRAMES:
        raise InputError(f"A window of {window} frames is not valid; expected 1 to {MOST_FRAMES}.")
    level = level_of(source, image)
    if source.size("t") < 2:
        raise InputError(f"{source.url} has one frame; tracks need at least two.")
    image = dataclasses.replace(image, levels=image.levels[level:])
    rules = dataclasses.replace(rules, scale=_scale(image))
    described = {
        "source": {
            "url": redacted(source.url),
            "attempt": source.attempt,
            "levels": [dataclasses.asdict(dataclasses.replace(found, document=None)) for found in source.levels],
            "dtype": str(source.dtype),
        },
        "rules": dataclasses.asdict(rules),
        "window": window,
        "versions": {name: version(name) for name in ("cellscale", "numpy", "scipy")},
    }
    description = json.loads(json.dumps(described))
    return TrackRun(
        image=image,
        source=source,
        rules=rules,
        window=window,
        scratch=scratch,
        digest=hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest(),
        description=description,
    )


def _scale(image: NgffImage) -> tuple[float, float, float]:
    """Size of a voxel (z, y, x) in px of y; cubes where sizes are not known."""
    size, step = image.pixel_size_um(), image.z_step_um()
    if size is None:
        return 1.0, 1.0, 1.0
    depth = step / size[0] if step and math.isfinite(step) else 1.0
    return depth, 1.0, size[1] / size[0]

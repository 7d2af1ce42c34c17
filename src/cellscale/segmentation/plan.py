"""Plan: all parameters of a segmentation, fixed before the first pixel is read.

The plan and its digest contain everything that the labels depend on. The tile size is included so that a run's records
match its plan, but the labels do not depend on it. The size of tasks is in the plan alone: a resumed run takes it from
there.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import torch

from cellscale.errors import InputError, unknown
from cellscale.linking.slices import SliceRules
from cellscale.methods.inference import check_device, device_here, resolved
from cellscale.methods.protocol import Method
from cellscale.methods.source_code import source_digest
from cellscale.models.model import Model, digest
from cellscale.ngff.array_io import SHARD_PX
from cellscale.ngff.image import NgffImage
from cellscale.redaction import redacted
from cellscale.segmentation.work_items import Step, StepName, block_of
from cellscale.settings.frame_range import chosen_frames
from cellscale.storage.folder import Folder
from cellscale.tiling.row_groups import RowGroups
from cellscale.tiling.tiles import Grid
from cellscale.tiling.windows import Windows, windows_of
from cellscale.types import Box

Plane: TypeAlias = tuple[int, int | Literal["max"]]
"""A frame's number and its slice, or "max" for the maximum over all slices."""
ZMode: TypeAlias = Literal["slices", "max_projection", "linked"]
"""Treatment of the slices of an image."""


MAX_SETTING = 2**20
"""Largest size, batch and number of threads: larger ones overflow torch's integers."""
MAX_TASK_PX = 2**24
"""Most pixels predicted in one task."""
BUNDLE = 64
"""Most work items in one task: a record is read whole for each of them."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of a segmentation: first those that may change the labels, then those that never do."""

    window_size: int = 2048
    """Side of a window's core, px; rounded up to the method's multiple."""
    batch: int = 1
    """Windows predicted at once."""
    threads: int = 1
    """Threads of one prediction; part of the arithmetic, so fixed for the run."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Arithmetic of the networks; auto: bf16 where the processor that plans the run has it."""
    test_time_flips: bool | Literal["auto"] = "auto"
    """Whether each window is predicted in its four flips, and their mean taken: four times the work; auto: if the
    model's thresholds were fitted on such means."""
    device: str = "auto"
    """Device of the networks: cpu, cuda, mps; auto: a GPU where this process, or a node of the cluster, has one."""
    channels: tuple[str | int, ...] = ()
    """Channels by number or name, in the model's order; empty: as many as the model needs, from the
    first. A text that is the name of a channel, such as "1", is not read as a number."""
    z_mode: ZMode = "slices"
    """Segment each slice, or the maximum over all slices; "linked": each slice, then objects of neighbouring slices are
    joined to 3-D objects."""
    z_threshold: float = 0.25
    """Least overlap of two objects of neighbouring slices that are joined, 0 … 1."""
    z_measure: Literal["iou", "smaller"] = "iou"
    """Overlap between slices as a share of both objects together (IoU), or of the smaller one."""
    z_max_gap: int = 0
    """Most slices in a row in which a 3-D object may be missing."""
    unique_ids: bool = False
    """Whether cells are numbered through all frames, so that no number occurs in two of them."""
    frames: tuple[int, int] | None = None
    """Half-open range of frames; None: all."""
    tile_size: int = 1024
    """Side of a tile's core, px."""
    task_px: int | None = None
    """Pixels predicted in one task; None: from the size of the run."""

    def __post_init__(self) -> None:
        for name in ("window_size", "batch", "threads", "tile_size"):
            if not 1 <= getattr(self, name) <= MAX_SETTING:
                raise InputError(f"Setting {name!r} is {getattr(self, name)}; expected 1 to {MAX_SETTING}.")
        # An unfinished run's plan has it as well, which may be damaged.
        if self.task_px is not None and (type(self.task_px) is not int or not 1 <= self.task_px < 2**53):
            raise InputError(f"Setting 'task_px' is {reprlib.repr(self.task_px)}; expected a whole number above 0.")
        check_device(self.device)
        SliceRules(threshold=self.z_threshold, measure=self.z_measure, max_gap=self.z_max_gap)
        if self.frames is not None and len(self.frames) != 2:
            raise InputError(f"Setting 'frames' is {self.frames}; expected two numbers, the half-open range.")


class Planned(Protocol):
    """The part of a planned run that its target and its owner need."""

    @property
    def image(self) -> NgffImage:
        """The image that the labels are of."""
        ...

    @property
    def scratch(self) -> Folder:
        """`.cellscale-NAME`."""
        ...

    @property
    def digest(self) -> str:
        """Digest of the description."""
        ...

    @property
    def description(self) -> Mapping[str, Any]:
        """Everything that the labels depend on."""
        ...


@dataclass(frozen=True, kw_only=True)
class Run:
    """Data shared by the tasks of a segmentation, without pixels."""

    image: NgffImage
    method: Method
    settings: Settings
    planes: tuple[Plane, ...]
    channels: tuple[int, ...]
    windows: Windows
    grid: Grid
    scratch: Folder
    digest: str
    description: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fused(self) -> bool:
        """Whether a frame is one window, so that its maps need not be stored."""
        return len(self.windows) == 1

    @property
    def task_px(self) -> int:
        """Pixels predicted in one task: some seconds of work, but enough tasks for many workers."""
        total = len(self.planes) * self.grid.shape[0] * self.grid.shape[1]
        return self.settings.task_px or min(max(total // 16, 2**20), MAX_TASK_PX)

    def _step(
        self,
        kind: StepName,
        items_yx: tuple[int, int] | None,
        item_px: int,
        task_px: int,
        index: int | None = None,
        planes: int | None = None,
    ) -> Step:
        planes = planes or len(self.planes)
        block = block_of(min(task_px // max(1, item_px), BUNDLE), items_yx or (1, 1), planes)
        item_px = min(item_px, Box.of(self.grid.shape).area)
        return Step(kind=kind, index=index, planes=planes, items_yx=items_yx, block=block, item_px=item_px)

    def publish(self, level: int) -> Step:
        """One work item for each shard of each plane; those of the finest level write the next levels as well."""
        height, width = (self.image.size(axis, level) for axis in "yx")
        shards = -(-height // SHARD_PX), -(-width // SHARD_PX)
        shard_px = min(height, SHARD_PX) * min(width, SHARD_PX)
        return self._step(StepName.PUBLISH, shards, shard_px, 8 * self.task_px, level)

    @property
    def frames(self) -> range:
        """Numbers of the frames."""
        return range(self.planes[0][0], self.planes[-1][0] + 1)

    @property
    def slices(self) -> int:
        """Number of planes of a frame."""
        return len(self.planes) // len(self.frames)

    @property
    def volume_tables(self) -> Step:
        """One work item for each frame, instead of `tables` where slices are joined."""
        return dataclasses.replace(self.slice_links, kind=StepName.TABLES)

    @property
    def tables(self) -> Step:
        """One work item for each row group of each plane."""
        group_px = self.row_groups.tile_rows * self.grid.size * self.grid.shape[1]
        return self._step(StepName.TABLES, (len(self.row_groups), 1), group_px, 32 * self.task_px)

    @property
    def slice_rules(self) -> SliceRules:
        """Rules by which objects of neighbouring slices are joined."""
        settings = self.settings
        return SliceRules(threshold=settings.z_threshold, measure=settings.z_measure, max_gap=settings.z_max_gap)

    def slice_tables(self, shards: int) -> Step:
        """One work item for each plane of each shard; neighbouring slices of a shard lie in one task."""
        return self._step(StepName.SLICE_TABLES, (1, len(self.planes)), 2**22, 32 * self.task_px, planes=shards)

    @property
    def slice_links(self) -> Step:
        """One work item for each frame."""
        frame_px = Box.of(self.grid.shape).area
        return self._step(StepName.SLICE_LINKS, None, frame_px, 1, planes=len(self.frames))

    @property
    def intensity_statistics(self) -> Step:
        """One work item for each plane."""
        return self._step(StepName.INTENSITY, None, Box.of(self.grid.shape).area, 8 * self.task_px)

    @property
    def predict(self) -> Step:
        """One work item for each window of each plane."""
        items_yx = self.windows.rows, self.windows.columns
        return self._step(StepName.PREDICT, items_yx, self.windows.core_box(0).area, self.task_px)

    @property
    def decode(self) -> Step:
        """One work item for each tile of each plane; for each plane where prediction is part of it."""
        if self.fused:
            return self._step(StepName.DECODE, None, Box.of(self.grid.shape).area, self.task_px)
        items_yx = self.grid.rows, self.grid.columns
        return self._step(StepName.DECODE, items_yx, self.grid.size**2, 4 * self.task_px)

    @property
    def row_groups(self) -> RowGroups:
        """Groups of tile rows, each worth a task."""
        span = self.method.reaches.link + self.method.reaches.decode_reach
        return RowGroups(grid=self.grid, link=self.method.reaches.link, span=span, least_px=4 * self.task_px)

    @property
    def join_row_groups(self) -> Step:
        """One work item for each row group of each plane."""
        group_px = self.row_groups.tile_rows * self.grid.size * self.grid.shape[1]
        return self._step(StepName.ROW_GROUPS, (len(self.row_groups), 1), group_px, 8 * self.task_px)

    @property
    def join(self) -> Step:
        """One work item for each plane."""
        return self._step(StepName.JOIN, None, Box.of(self.grid.shape).area, 8 * self.task_px)


def with_tasks_of(run: Run, task_px: int | None) -> Run:
    """The same run with tasks of another size, in its description too: a resumed run needs the tasks of its records."""
    described = {**run.description, "settings": {**run.description["settings"], "task_px": task_px}}
    return replace(run, settings=replace(run.settings, task_px=task_px), description=described)


def for_one_worker(run: Run) -> Run:
    """The same run with tasks of whole frames: there are no other workers to take a part of one.

    Windows and tiles of one task share the chunks that they read.
    """
    return with_tasks_of(run, run.settings.task_px or max(run.task_px, min(Box.of(run.grid.shape).area, MAX_TASK_PX)))


def _digest(description: Mapping[str, Any]) -> str:
    """Digest of everything except the size of tasks: a resumed run continues with the tasks that it began with."""
    settings = {name: value for name, value in description["settings"].items() if name != "task_px"}
    text = json.dumps({**description, "settings": settings}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _channel_numbers(image: NgffImage, wanted: tuple[str | int, ...], count: int) -> tuple[int, ...]:
    """Numbers of the chosen channels; a channel of the name "1" has precedence over the channel of number 1."""
    available = image.size("c")
    numbers = []
    for channel in wanted or range(count):
        if channel in image.channels:
            numbers.append(image.channels.index(str(channel)))
        elif isinstance(channel, int) or channel.isdecimal():
            numbers.append(int(channel))
        else:
            raise unknown("channel", channel, image.channels, of=image.url)
    if len(numbers) != count or not all(0 <= number < available for number in numbers):
        raise InputError(
            f"The model was trained on {count} channel(s); {image.url} has {available}, and the chosen channels are "
            f"{list(wanted) or 'not set'}. Choose with --channels, by number or name, as many as the model needs."
        )
    return tuple(numbers)


def _planes(image: NgffImage, settings: Settings) -> tuple[Plane, ...]:
    slices: tuple[int | Literal["max"], ...] = (
        ("max",) if settings.z_mode == "max_projection" else tuple(range(image.size("z")))
    )
    return tuple((t, z) for t in chosen_frames(settings.frames, image.size("t"), image.url) for z in slices)


def plan(image: NgffImage, model: Model, settings: Settings, scratch: Folder) -> Run:
    """Fix all parameters of a run; check that image, model and settings fit together.

    Raises
    ------
    MissingError
        For frames or channels that the image does not have.
    InputError
        For another number of channels than the model's.
    """
    method = model.method
    device = device_here(settings.device)
    flips = model.test_time_flips if settings.test_time_flips == "auto" else settings.test_time_flips
    settings = dataclasses.replace(
        settings, device=device, precision=resolved(device, settings.precision), test_time_flips=flips
    )
    shape = image.plane_shape()
    windows = windows_of(method, shape, settings.window_size)
    channels = _channel_numbers(image, settings.channels, method.channels)
    level = image.levels[0]
    description = {
        "image": {
            "url": redacted(image.url),
            "shape": level.shape,
            "axes": image.axes,
            "dtype": str(image.dtype),
            "scale": level.scale,
            "units": image.units,
            "channels": image.channels,
            "levels": [dataclasses.asdict(replace(level, document=None)) for level in image.levels],
        },
        "model": digest(model),
        "method_source": source_digest(method),
        "settings": dataclasses.asdict(settings),
        "channels": channels,
        "window": {"shape": windows.window_shape, "core": windows.core, "halo": windows.halo},
        "versions": {
            "cellscale": version("cellscale"),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "machine": platform.machine(),
        },
    }
    description = json.loads(json.dumps(description))
    return Run(
        image=image,
        method=method,
        settings=settings,
        planes=_planes(image, settings),
        channels=channels,
        windows=windows,
        grid=Grid(shape=shape, size=settings.tile_size),
        scratch=scratch,
        digest=_digest(description),
        description=description,
    )


def differences(old: Any, new: Any, at: str = "") -> list[str]:
    """Name what differs between two descriptions, as `path: old → new`."""
    if isinstance(old, dict) and isinstance(new, dict):
        found = [differences(old.get(key), new.get(key), f"{at}.{key}".lstrip(".")) for key in sorted({*old, *new})]
        return [line for lines in found for line in lines]
    return [] if old == new else [f"{at}: {old} → {new}"]

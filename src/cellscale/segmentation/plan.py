"""Plan: all parameters of a segmentation, fixed before the first pixel is read.

The plan and its digest contain everything that the labels depend on. Tile size and bundles are included so that a run's
records match its plan, but the labels do not depend on them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from importlib.metadata import version
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import torch

from cellscale.errors import InputError, MissingError, unknown
from cellscale.methods.inference import check_device, resolved
from cellscale.methods.protocol import Method
from cellscale.methods.source_code import source_digest
from cellscale.models.model import Model, digest
from cellscale.ngff.image import NgffImage
from cellscale.redaction import redacted
from cellscale.segmentation.records import Arrays, find, get
from cellscale.storage.folder import Folder
from cellscale.tiling.row_groups import RowGroups
from cellscale.tiling.tiles import Grid
from cellscale.tiling.windows import Windows, windows_of
from cellscale.types import Box

Plane: TypeAlias = tuple[int, int | Literal["max"]]
"""A frame's number and its slice, or "max" for the maximum over all slices."""
Unit: TypeAlias = tuple[int, ...]
"""Coordinates of a work item: a plane; a plane and a window, tile or shard."""


MAX_SETTING = 2**20
"""Largest size, batch and number of threads: larger ones overflow torch's integers."""
BUNDLE = 64
"""Greatest number of work items in a task: a record is read whole for each of its items."""


KINDS = {"predict": "window", "decode": "tile", "row_groups": "row group", "tables": "row group"}
"""Kind of the units of a step, where they are not shards."""


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
    test_time_flips: bool = False
    """Whether each window is predicted in its four flips, and their mean taken: four times the work."""
    device: str = "cpu"
    """Device of the networks: cpu or cuda."""
    channels: tuple[str | int, ...] = ()
    """Channels by number or name, in the model's order; empty: as many as the model needs, from the first."""
    z_mode: Literal["slices", "max_projection"] = "slices"
    """Segment each slice, or the maximum over all slices."""
    frames: tuple[int, int] | None = None
    """Half-open range of frames; None: all."""
    # ---
    tile_size: int = 1024
    """Side of a tile's core, px."""
    task_px: int | None = None
    """Pixels predicted in one task; None: from the size of the run."""

    def __post_init__(self) -> None:
        for name in ("window_size", "batch", "threads", "tile_size"):
            if not 1 <= getattr(self, name) <= MAX_SETTING:
                raise InputError(f"Setting {name!r} is {getattr(self, name)}; expected 1 to {MAX_SETTING}.")
        check_device(self.device)
        if self.frames is not None and len(self.frames) != 2:
            raise InputError(f"Setting 'frames' is {self.frames}; expected two numbers, the half-open range.")


@dataclass(frozen=True, kw_only=True)
class Step:
    """A part of a run: units of work, numbered in raster order and bundled into tasks; each task writes one record."""

    name: str
    sizes: tuple[int, ...]
    """Number of planes, or of planes and of windows, tiles or shards in each."""
    bundle: int
    """Units in one task."""
    unit_px: int
    """Pixels of a unit; of the largest one where they differ."""

    @property
    def kind(self) -> str:
        """Kind of a unit: a frame, or one window, tile or shard of it."""
        return KINDS.get(self.name, "shard") if len(self.sizes) > 1 else "frame"

    def __len__(self) -> int:
        """Number of tasks."""
        return math.ceil(math.prod(self.sizes) / self.bundle)

    def units(self, task: int) -> list[Unit]:
        """The units of a task."""
        numbers = range(task * self.bundle, min((task + 1) * self.bundle, math.prod(self.sizes)))
        return [tuple(int(i) for i in np.unravel_index(number, self.sizes)) for number in numbers]

    def place(self, unit: Unit) -> tuple[int, int]:
        """The task of a unit, and the unit's position in it."""
        return divmod(int(np.ravel_multi_index(unit, self.sizes)), self.bundle)

    def record_name(self, task: int, position: int | None = None) -> str:
        """Name of a task's record, or of the record of one of its units that was tried alone."""
        return f"{self.name}/{task:07d}" + ("" if position is None else f"-{position:05d}")


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
        return self.settings.task_px or min(max(total // 16, 2**20), 2**24)

    def _step(self, name: str, sizes: tuple[int, ...], unit_px: int, task_px: int) -> Step:
        bundle = min(max(1, task_px // max(1, unit_px)), BUNDLE)
        return Step(name=name, sizes=sizes, bundle=bundle, unit_px=min(unit_px, Box.of(self.grid.shape).area))

    def publish(self, level: int, shards: int) -> Step:
        """One unit for each shard of each plane."""
        return self._step(f"publish-{level}", (len(self.planes), shards), 2**22 // 4**level, 8 * self.task_px)

    def seams(self, shards: int) -> Step:
        """One unit for each shard of the finest level of each plane."""
        return self._step("seams", (len(self.planes), shards), 2**22, 32 * self.task_px)

    @property
    def tables(self) -> Step:
        """One unit for each row group of each plane."""
        group_px = self.row_groups.tile_rows * self.grid.size * self.grid.shape[1]
        return self._step("tables", (len(self.planes), len(self.row_groups)), group_px, 32 * self.task_px)

    @property
    def intensity_statistics(self) -> Step:
        """One unit for each plane."""
        return self._step("intensity", (len(self.planes),), Box.of(self.grid.shape).area, 8 * self.task_px)

    @property
    def predict(self) -> Step:
        """One unit for each window of each plane."""
        height, width = self.windows.window_shape
        return self._step("predict", (len(self.planes), len(self.windows)), height * width, self.task_px)

    @property
    def decode(self) -> Step:
        """One unit for each tile of each plane; for each plane where prediction is part of it."""
        if self.fused:
            return self._step("decode", (len(self.planes),), Box.of(self.grid.shape).area, self.task_px)
        return self._step("decode", (len(self.planes), len(self.grid)), self.grid.size**2, 4 * self.task_px)

    @property
    def row_groups(self) -> RowGroups:
        """Groups of tile rows, each worth a task."""
        span = self.method.link + self.method.decode_reach
        return RowGroups(grid=self.grid, link=self.method.link, span=span, least_px=4 * self.task_px)

    @property
    def join_row_groups(self) -> Step:
        """One unit for each row group of each plane."""
        group_px = self.row_groups.tile_rows * self.grid.size * self.grid.shape[1]
        return self._step("row_groups", (len(self.planes), len(self.row_groups)), group_px, 8 * self.task_px)

    @property
    def join(self) -> Step:
        """One unit for each plane."""
        return self._step("join", (len(self.planes),), Box.of(self.grid.shape).area, 8 * self.task_px)


class Records:
    """Records of a run's steps; the most recent ones are kept in memory, since units of one task share a record."""

    def __init__(self, scratch: Folder, kept: int = 4) -> None:
        """Read nothing yet; `kept` records are kept."""
        self._find = lru_cache(maxsize=kept)(partial(find, scratch))
        self._scratch = scratch

    def name(self, step: Step, unit: Unit) -> str:
        """The record of a unit's task, or of the unit alone if it was tried alone."""
        task, position = step.place(unit)
        name = step.record_name(task)
        return step.record_name(task, position) if self._find(name) is None else name

    def named(self, name: str) -> Arrays:
        """The record of this name."""
        return self._find(name) or get(self._scratch, name)

    def of(self, step: Step, unit: Unit) -> Arrays:
        """The record that holds a unit's results."""
        return self.named(self.name(step, unit))


def _channel_numbers(image: NgffImage, wanted: tuple[str | int, ...], count: int) -> tuple[int, ...]:
    available = image.size("c")
    numbers = []
    for channel in wanted or range(count):
        if channel in image.channels:
            numbers.append(image.channels.index(str(channel)))
        elif isinstance(channel, int) or channel.isdecimal():
            numbers.append(int(channel))
        else:
            raise unknown(f"channel of {image.url}", channel, image.channels)
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
    count = image.size("t")
    start, stop = settings.frames or (0, count)
    if not 0 <= start < stop <= count:
        raise MissingError(
            f"Frames {start}:{stop} of {image.url}: it has frames 0:{count}. Frame ranges are half-open."
        )
    return tuple((t, z) for t in range(start, stop) for z in slices)


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
    settings = dataclasses.replace(settings, precision=resolved(settings.device, settings.precision))
    shape = (image.size("y"), image.size("x"))
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
            "levels": [dataclasses.asdict(level) for level in image.levels],
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
        digest=hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest(),
        description=description,
    )


def differences(old: Any, new: Any, at: str = "") -> list[str]:
    """Name what differs between two descriptions, as `path: old → new`."""
    if isinstance(old, dict) and isinstance(new, dict):
        found = [differences(old.get(key), new.get(key), f"{at}.{key}".lstrip(".")) for key in sorted({*old, *new})]
        return [line for lines in found for line in lines]
    return [] if old == new else [f"{at}: {old} → {new}"]

"""Failures of a run: work items and blocks that failed, their places and the reasons."""

from __future__ import annotations

import dataclasses
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeAlias

from cellscale.segmentation.plan import Run
from cellscale.segmentation.records import FAILED_REGION, WORK_ITEMS, Arrays, get
from cellscale.segmentation.work_items import RecordName, Step, StepName, WorkItem
from cellscale.types import Box

FIRST = 10
"""Greatest number of failed work items named in a message."""
LONGEST = 1000
"""Characters of one of them."""
Pixels: TypeAlias = tuple[int, int, int, int]
"""Half-open box (y0, x0, y1, x1), px."""
Micrometres: TypeAlias = tuple[float, float, float, float]
"""The same in µm."""


def _to_dict(value: Region | FailedTile) -> dict[str, Any]:
    """The fields of a failure in JSON's types."""
    return {name: list(one) if isinstance(one, tuple) else one for name, one in dataclasses.asdict(value).items()}


_KINDS: Mapping[str, Any] = {
    "frame": int,
    "slice": int | str,
    "number": int | None,
    **dict.fromkeys(("step", "kind", "reason"), str),
}
"""Types of the fields of a failure in JSON, but its boxes."""


def _is_box(value: Any) -> bool:
    """Whether a value is a list of four numbers."""
    return isinstance(value, list) and len(value) == 4 and all(type(side) in (int, float) for side in value)


def _fields(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a failure from JSON's types; TypeError for a field of another type."""
    for name, value in entry.items():
        if name in ("box_px", "box_um"):
            fits = value is None or _is_box(value)
        else:
            fits = isinstance(value, _KINDS.get(name, object))
        if not fits:
            raise TypeError(f"{name} is {reprlib.repr(value)}")
    return {name: tuple(one) if isinstance(one, list) else one for name, one in entry.items()}


@dataclass(frozen=True, kw_only=True)
class Region:
    """A part of a frame and slice."""

    frame: int
    slice: int | Literal["max"]
    """Number of the slice; "max" for the maximum projection."""
    box_px: Pixels | None
    """Half-open box, px; None: not known."""
    box_um: Micrometres | None
    """The same in µm; None: the box or the pixel size is not known."""

    @classmethod
    def of(cls, run: Run, plane: int, box: Box | None) -> Self:
        """A box of a plane."""
        t, z = run.planes[plane]
        size = run.image.pixel_size_um()
        if box is None:
            return cls(frame=t, slice=z, box_px=None, box_um=None)
        sides = (box.y0, box.x0, box.y1, box.x1)
        um = None if size is None else (box.y0 * size[0], box.x0 * size[1], box.y1 * size[0], box.x1 * size[1])
        return cls(frame=t, slice=z, box_px=sides, box_um=um)

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> Self:
        """Read back what `to_dict` returned."""
        return cls(**_fields(entry))

    def to_dict(self) -> dict[str, Any]:
        """Return the region in JSON's types."""
        return _to_dict(self)

    def __str__(self) -> str:
        return f"frame {self.frame}, slice {self.slice}{_sides(self.box_px)}"


@dataclass(frozen=True, kw_only=True)
class FailedTile:
    """A work item that failed again when tried alone."""

    step: str
    """Name of its step."""
    kind: str
    """frame, window, tile, row group or shard."""
    number: int | None
    """Its number in the frame; None: the whole frame."""
    frame: int
    slice: int | Literal["max"]
    """Number of the slice; "max" for the maximum projection."""
    box_px: Pixels | None
    """Half-open box, px; None: not known."""
    box_um: Micrometres | None
    """The same in µm; None: the box or the pixel size is not known."""
    reason: str
    """Type and message of the error."""

    @classmethod
    def of(cls, step: Step, number: int | None, region: Region, reason: str) -> Self:
        """A work item of a step: its number in the frame, its place and its reason."""
        return cls(
            step=step.name,
            kind=step.item_kind,
            number=number,
            frame=region.frame,
            slice=region.slice,
            box_px=region.box_px,
            box_um=region.box_um,
            reason=reason,
        )

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> Self:
        """Read back what `to_dict` returned."""
        return cls(**_fields(entry))

    def to_dict(self) -> dict[str, Any]:
        """Return the failure in JSON's types."""
        return _to_dict(self)

    @property
    def region(self) -> Region:
        """The place, without the reason."""
        return Region(frame=self.frame, slice=self.slice, box_px=self.box_px, box_um=self.box_um)

    def __str__(self) -> str:
        where = f"frame {self.frame}, slice {self.slice}"
        if self.number is not None:
            where += f", {self.kind} {self.number}{_sides(self.box_px)}"
        return f"{where}: {self.reason}"


def _sides(box_px: Pixels | None) -> str:
    """A box in words, in brackets; nothing if it is not known."""
    if not box_px:
        return ""
    y0, x0, y1, x1 = box_px
    return f" (rows {y0}:{y1}, columns {x0}:{x1})"


def place_of(run: Run, step: Step, item: WorkItem) -> tuple[int | None, Region]:
    """Number of a work item in its frame, None for the whole frame, and its place."""
    plane, *rest = item
    if step.kind == StepName.SLICE_TABLES:
        return plane, Region.of(run, rest[0], None)
    if step.kind == StepName.SLICE_LINKS or (step.kind == StepName.TABLES and not rest):
        return None, Region.of(run, plane * run.slices, None)
    return rest[0] if rest else None, Region.of(run, plane, _box(run, step, rest))


def _box(run: Run, step: Step, rest: Sequence[int]) -> Box | None:
    if not rest:
        return Box.of(run.grid.shape)
    boxes = {StepName.PREDICT: run.windows.core_box, StepName.DECODE: run.grid.core}
    return boxes[step.kind](rest[0]) if step.kind in boxes else None


def reason_of(error: Exception) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def first_of(entries: Iterable[str], between: str, full_report: str) -> str:
    """The first ten entries of a list in one line; if there are more, their number and where all of them are."""
    found = list(entries)
    line = between.join(entry if len(entry) <= LONGEST else f"{entry[:LONGEST]}…" for entry in found[:FIRST])
    more = len(found) - FIRST
    return f"{line} … and {more} more; {full_report}" if more > 0 else line


def unreadable(run: Run, skipped: Sequence[tuple[int, Box]], failed: Sequence[FailedTile], full_report: str) -> str:
    """Error message for unreadable frames: each block, its tiles and the reasons."""
    lines = []
    for plane, box in skipped:
        t, z = run.planes[plane]
        tiles = first_of(map(str, run.grid.touching(box)), ", ", "tiles of this block")
        lines.append(f"frame {t}, slice {z}, tile {tiles} (rows {box.y0}:{box.y1}, columns {box.x0}:{box.x1})")
    blocks = first_of(lines, "; ", full_report)
    reasons = first_of(dict.fromkeys(item.reason for item in failed), " | ", full_report)
    return (
        f"intensity: {len(skipped)} block(s) cannot be read, nothing was published: {blocks}. {reasons} "
        "Or publish without them: --allow-failed-tiles."
    )


def skipped_blocks(run: Run, records: Sequence[RecordName]) -> list[tuple[int, Box]]:
    """Planes and blocks that could not be read, from the records of the intensity statistics."""
    return [(plane, Box(*sides)) for _, found in _records(run, records) for plane, *sides in found["skipped"].tolist()]


def recorded(run: Run, step: Step, records: Sequence[RecordName]) -> list[FailedTile]:
    """Work items of a step that were recorded as failed regions, in order, from its records."""
    found = _records(run, records)
    return [FailedTile.of(step, *place_of(run, step, item), str(one[FAILED_REGION][0])) for item, one in found]


def _records(run: Run, records: Sequence[RecordName]) -> list[tuple[WorkItem, Arrays]]:
    """Records, among those of a step, of the work items that were tried alone and failed."""
    found = [get(run.scratch, name.path) for name in sorted(records) if name.position is not None]
    return [(tuple(one[WORK_ITEMS][0].tolist()), one) for one in found if FAILED_REGION in one]

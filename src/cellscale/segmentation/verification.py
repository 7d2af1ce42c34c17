"""Verification: a layer is compared with the run's records before its name appears.

Each publishing task counts the objects and pixels that it has written. The driver adds them up and compares them with a
listing of the stored objects and with the object table. Nothing is read again, so the check is always on.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Self

import numpy as np
from numpy.typing import NDArray

from cellscale.errors import RunError
from cellscale.ngff.attempts import OBJECTS
from cellscale.ngff.labels import LabelLayer
from cellscale.segmentation.plan import Plane
from cellscale.segmentation.records import WORK_ITEMS, Arrays, table_columns, table_in
from cellscale.storage.folder import Folder

WRITTEN = "written"
"""Table of a record: counts of what its work items have written."""
LAG_S = (0.2, 1.0, 4.0)
"""Pauses before a listing is asked for again, s."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """Counts of a publishing task, one entry for each of its work items."""

    planes: NDArray[np.int64]
    """Number of the plane."""
    objects: NDArray[np.int64]
    """Objects stored."""
    labelled_px: NDArray[np.int64]
    """Pixels with a label, or the areas of the rows of an object table."""
    last_label: NDArray[np.int64]
    """Greatest label."""

    @classmethod
    def of(cls, record: Arrays) -> Self:
        """Read the counts from a task's record."""
        return cls(planes=record[WORK_ITEMS][:, 0], **table_in(record, WRITTEN))


def counts(items: Iterable[tuple[int, int, int]]) -> Arrays:
    """Columns of a task's record: objects, labelled_px and last_label of each work item, see `Written`."""
    columns = np.array(list(items), np.int64).reshape(-1, 3).T
    names = ("objects", "labelled_px", "last_label")
    return table_columns(WRITTEN, dict(zip(names, columns, strict=True)))


def check_levels(layer: LabelLayer, written: Mapping[int, Sequence[Written]]) -> None:
    """Compare the stored objects of each level with those that were written.

    Raises
    ------
    RunError
        If some are missing, or there are others.
    """
    for level, tasks in written.items():
        expected = sum(int(task.objects.sum()) for task in tasks)
        found = _stable(partial(_stored_objects, layer, level), expected)
        if found != expected:
            raise RunError(
                f"Level {level} of {layer.url} has {found} stored objects, {expected} were written: something else has "
                "written or deleted there. Nothing was published. Repeat the command with --overwrite."
            )


def _stable(count: Callable[[], int], expected: int) -> int:
    """Count what a listing has; again where it is not what is expected, since listings may lag behind writes."""
    for pause_s in LAG_S:
        if (found := count()) == expected:
            return found
        time.sleep(pause_s)
    return count()


def _stored_objects(layer: LabelLayer, level: int) -> int:
    """Count the stored objects of a level, by one listing."""
    names = layer.store.child(layer.levels[level].path).folder.files()
    # The last part of a chunk's key is a number; other files are documents, or what a killed writer has left.
    return sum(name.rsplit("/", 1)[-1].isdigit() for name in names)


def check_cells(
    planes: Sequence[Plane], layer: LabelLayer, written: Sequence[Written], rows: Sequence[Written]
) -> None:
    """Compare labelled pixels and greatest label of each plane with areas and last row of its object table.

    Raises
    ------
    RunError
        Naming the first plane that differs.
    """
    pixels, table = _by_plane(written), _by_plane(rows)
    for plane, (t, z) in enumerate(planes):
        if pixels[plane] != table[plane]:
            (seen_px, seen), (listed_px, listed) = pixels[plane], table[plane]
            raise RunError(
                f"Frame {t}, slice {z} of {layer.url} has {seen} cells of {seen_px} px, its object table {listed} "
                f"of {listed_px} px. Nothing was published. Repeat the command with --overwrite, and report this."
            )
    expected = sum(int(task.objects.sum()) for task in rows)
    parts = Folder(url=layer.place(OBJECTS), storage_options=layer.storage_options)
    found = _stable(lambda: len(parts.names()), expected)
    if found != expected:
        raise RunError(
            f"{parts.url} has {found} parts, {expected} were written. Nothing was published. "
            "Repeat the command with --overwrite."
        )


def _by_plane(tasks: Sequence[Written]) -> dict[int, tuple[int, int]]:
    """Labelled pixels and greatest label of each plane."""
    pixels: Counter[int] = Counter()
    last: dict[int, int] = {}
    for task in tasks:
        for plane, px, label in zip(
            task.planes.tolist(), task.labelled_px.tolist(), task.last_label.tolist(), strict=True
        ):
            pixels[plane] += px
            last[plane] = max(last.get(plane, 0), label)
    return {plane: (pixels[plane], label) for plane, label in last.items()}

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
from cellscale.ngff.multiscale import Multiscale
from cellscale.ngff.stores import ARRAY_DOCUMENTS
from cellscale.segmentation.ownership import Ownership
from cellscale.segmentation.plan import Plane
from cellscale.segmentation.records import WORK_ITEMS, Arrays, table_columns, table_in
from cellscale.segmentation.staging import check_current
from cellscale.storage.together import together

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
    """Objects stored of each level that was written, (work items, levels); (work items, 1) for an object table."""
    labelled_px: NDArray[np.int64]
    """Pixels with a label, or the areas of the rows of an object table."""
    last_label: NDArray[np.int64]
    """Greatest label."""

    @classmethod
    def of(cls, record: Arrays) -> Self:
        """Read the counts from a task's record."""
        return cls(planes=record[WORK_ITEMS][:, 0], **table_in(record, WRITTEN))


def counts(items: Iterable[Sequence[int]]) -> Arrays:
    """Columns of a task's record: for each work item its objects, labelled_px and last_label, see `Written`.

    A work item has as many numbers of objects as it has written levels.
    """
    columns = np.array(list(items), np.int64)
    found = {"objects": columns[:, :-2], "labelled_px": columns[:, -2], "last_label": columns[:, -1]}
    return table_columns(WRITTEN, found)


def check_before_publication(
    owner: Ownership,
    layer: LabelLayer,
    written: Mapping[int, Sequence[Written]],
    rows: Sequence[Written],
    *inputs: Multiscale,
) -> None:
    """Check what only the store can tell, by requests that go out together.

    Raises
    ------
    RunError
        If the stored layer is not what the run has written, see `check_stored`.
    ChangedError
        If the image or a layer from which it was made was replaced or removed.
    OvertakenError
        If another driver owns the run.
    """
    checks: list[Callable[[], None]] = [
        partial(check_stored, layer, written, rows),
        partial(check_current, *inputs),
        owner.check,
    ]
    together(checks)


def check_stored(layer: LabelLayer, written: Mapping[int, Sequence[Written]], rows: Sequence[Written]) -> None:
    """Compare the stored objects and document of each level, and the parts of the object table, with those written.

    Parameters
    ----------
    layer : LabelLayer
        The layer, complete.
    written : mapping of int to sequence of Written
        Counts of the tasks of each step, by the finest level that the step has written.
    rows : sequence of Written
        Counts of the tasks that have written the object table.

    Raises
    ------
    RunError
        If some are missing, or there are others.
    """
    expected = Counter({OBJECTS: sum(int(task.objects.sum()) for task in rows)})
    expected.update({_document(level): 1 for level in range(len(layer.levels))})
    for first, tasks in written.items():
        for task in tasks:
            expected.update({str(level): n for level, n in enumerate(task.objects.sum(axis=0).tolist(), first)})
    found = _listed(layer)
    for pause_s in LAG_S:
        if found == expected:
            return
        # Listings may lag behind writes.
        time.sleep(pause_s)
        found = _listed(layer)
    for part in sorted({*found, *expected}):
        if found[part] != expected[part]:
            place, kind = f"Level {part} of {layer.url}", "objects"
            if part == OBJECTS:
                place, kind = layer.place(OBJECTS), "parts"
            elif not part.isdigit():
                place, kind = f"{part} of {layer.url}", "documents"
            raise RunError(
                f"{place} has {found[part]} stored {kind}, {expected[part]} were written: something else has written "
                "or deleted there. Nothing was published. Repeat the command with --overwrite."
            )


def _document(level: int) -> str:
    """Name under which the document of a level's array is counted."""
    return f"Level {level}"


def _listed(layer: LabelLayer) -> Counter[str]:
    """Count what `check_stored` compares, by one listing of the layer."""
    numbers = {level.path: str(number) for number, level in enumerate(layer.levels)}
    found: Counter[str] = Counter()
    for name in layer.store.folder.files():
        part, _, key = name.partition("/")
        if part == f"{layer.prefix}{OBJECTS}":
            found[OBJECTS] += 1
        # The last part of a chunk's key is a number; other files are documents, or what a killed writer has left.
        elif part in numbers and key.rsplit("/", 1)[-1].isdigit():
            found[numbers[part]] += 1
        elif part in numbers and key in ARRAY_DOCUMENTS.values():
            found[_document(int(numbers[part]))] += 1
    return found


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

"""A run's folder: scratch objects and records, next to the output.

Objects are whole, checksummed and written once; reading a missing or damaged one is an error, never background. A task
writes its scratch objects first, flushes them to the disk, and writes its record last. Objects without a record count
as not written, and a record that survives a loss of power proves that its objects survived it.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, TypeAlias

import numpy as np
from numcodecs import Blosc
from numpy.typing import NDArray

from cellscale.errors import DamagedError, StoreError
from cellscale.segmentation.work_items import RecordName, Step, WorkItem
from cellscale.storage.folder import Folder
from cellscale.storage.reading import read_again
from cellscale.storage.together import together

Arrays: TypeAlias = dict[str, NDArray[Any]]
"""Columns of a record by their keys. A key is a name, or the name of a table, a dot and the name of its column."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """The results of a task, not yet stored."""

    columns: Arrays
    """Columns of its record."""
    objects: Mapping[str, Arrays]
    """Scratch objects by their names, which are written before the record."""

    def __or__(self, columns: Arrays) -> Made:
        """Return the same with more columns."""
        return replace(self, columns=self.columns | columns)


WORK_ITEMS = "work_items"
"""Key of the work items of a record, (n, 1 or 2)."""
FAILED_REGION = "failed_region"
"""Key of the reasons why work items failed, (n,), in a record that stands in for their results."""


def table_columns(table: str, columns: Mapping[str, NDArray[Any]]) -> Arrays:
    """The columns of a table under the keys that they have in a record."""
    return {f"{table}.{name}": column for name, column in columns.items()}


def table_in(record: Mapping[str, NDArray[Any]], table: str) -> Arrays:
    """The columns of a table in a record, by their names."""
    prefix = f"{table}."
    return {key.removeprefix(prefix): column for key, column in record.items() if key.startswith(prefix)}


def row_of_plane(record: Mapping[str, NDArray[Any]], plane: int) -> int:
    """Row of a plane in the columns of a record whose work items are planes."""
    return int(np.flatnonzero(record[WORK_ITEMS][:, 0] == plane)[0])


def _packed(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Serialise arrays: a checksum, then, compressed, the length of the header, the header and the arrays.

    A record has hundreds of small arrays, for which NumPy's npz format takes many times as long.
    """
    header = json.dumps([(name, values.dtype.str, values.shape) for name, values in arrays.items()]).encode()
    parts = (len(header).to_bytes(4, "big"), header, *(values.tobytes() for values in arrays.values()))
    body: bytes = Blosc(cname="zstd", clevel=1, shuffle=Blosc.SHUFFLE).encode(b"".join(parts))
    return zlib.crc32(body).to_bytes(4, "big") + body


def _unpacked(data: bytes, where: str) -> Arrays:
    if len(data) < 4 or zlib.crc32(data[4:]) != int.from_bytes(data[:4], "big"):
        raise DamagedError(f"{where} is damaged: its checksum does not match. Delete the run's folder and start again.")
    content = Blosc().decode(data[4:])
    start = 4 + int.from_bytes(content[:4], "big")
    arrays = {}
    for name, dtype, shape in json.loads(content[4:start]):
        count = math.prod(shape)
        arrays[name] = np.frombuffer(content, dtype, count, start).reshape(shape).copy()
        start += arrays[name].nbytes
    return arrays


def compressed(arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.uint8]:
    """Named arrays as one array of bytes: the results of one work item; a task writes those of all at once."""
    return np.frombuffer(_packed(arrays), np.uint8)


def decompressed(data: NDArray[np.uint8], where: str) -> Arrays:
    """Named arrays of what `compressed` returned."""
    return _unpacked(data.tobytes(), where)


def items_name(kind: str, items: Sequence[Sequence[int]]) -> str:
    """Name of the scratch object of a task: its first work item, and their number if there are several."""
    plane, number = (*items[0], 0)[:2]
    return f"{kind}/{plane:06d}/{number:06d}" + (f"-{len(items)}" if len(items) > 1 else "")


def put(folder: Folder, name: str, arrays: Mapping[str, NDArray[Any]], *, flush: bool = True) -> None:
    """Write named arrays as one object; without `flush` it must be flushed before its record is written."""
    folder.write(name, _packed(arrays), flush=flush)


def find(folder: Folder, name: str) -> Arrays | None:
    """Read named arrays, or None where there is no such object.

    Raises
    ------
    DamagedError
        If they are damaged, however often they are read.
    """

    def read() -> Arrays | None:
        data = folder.read(name)
        return None if data is None else _unpacked(data, f"{folder.url}/{name}")

    return read_again(read)


def get(folder: Folder, name: str) -> Arrays:
    """Read named arrays; a missing or damaged object raises StoreError."""
    arrays = find(folder, name)
    if arrays is None:
        raise StoreError(f"{folder.url}/{name} is missing although its record exists. Start the run again.")
    return arrays


class Records:
    """Records of a run's steps, the latest ones kept: work items of one task share theirs."""

    def __init__(self, scratch: Folder, kept: int = 4) -> None:
        """Read nothing yet; `kept` records are kept."""
        self._find = lru_cache(maxsize=kept)(partial(find, scratch))
        self._objects = lru_cache(maxsize=9)(partial(find, scratch))
        self._scratch = scratch

    def name(self, step: Step, item: WorkItem) -> RecordName:
        """The record of a work item's task, or its own if it was tried alone."""
        whole, alone = step.records_of(item)
        return alone if self._find(whole.path) is None else whole

    def named(self, name: RecordName) -> Arrays:
        """The record of this name."""
        return self._find(name.path) or get(self._scratch, name.path)

    def of(self, step: Step, item: WorkItem) -> Arrays:
        """The record that holds a work item's results."""
        return self.named(self.name(step, item))

    def load(self, items: Iterable[tuple[Step, WorkItem]], objects: Iterable[tuple[Step, str, WorkItem]]) -> None:
        """Read the records of work items, and objects of a kind that their tasks have stored, at once, for later."""
        records = {step.records_of(item)[0].path for step, item in items}
        stored = {_object_name(step, kind, item) for step, kind, item in objects}
        together([partial(self._find, name) for name in records] + [partial(self._objects, name) for name in stored])

    def stored(self, step: Step, kind: str, plane: int, number: int) -> Arrays:
        """Results that the task of a window or tile has stored for it, in its object of a kind."""
        item = (plane, number) if step.items_yx else (plane,)
        name = _object_name(step, kind, item)
        found = self._objects(name)
        if found is None:
            # Its task has failed, and its work items were tried one by one.
            name = items_name(kind, [item])
            found = self._objects(name) or get(self._scratch, name)
        return decompressed(found[f"{plane}/{number}"], f"{self._scratch.url}/{name}")


def _object_name(step: Step, kind: str, item: WorkItem) -> str:
    """Name of the object of a kind that the task of a work item has stored."""
    return items_name(kind, step.task(step.task_of(item)[0]).items)

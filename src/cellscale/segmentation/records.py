"""A run's folder: scratch objects and records, next to the output.

Objects are whole, checksummed and written once; reading a missing or damaged one is an error, never background. A task
writes its scratch objects first, flushes them to the disk, and writes its record last. Objects without a record count
as not written, and a record that survives a loss of power proves that its objects survived it.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numcodecs import Blosc
from numpy.typing import NDArray

from cellscale.errors import DamagedError, StoreError
from cellscale.storage.folder import Folder
from cellscale.storage.reading import read_again
from cellscale.types import Table

Arrays: TypeAlias = dict[str, NDArray[Any]]


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


def flat_table(table: Table, prefix: str) -> Arrays:
    """Columns of a table as arrays of a record, under names with a prefix."""
    return {f"{prefix}{name}": column for name, column in table.items()}


def table_in(arrays: Arrays, prefix: str) -> Table:
    """The table whose columns have a prefix in a record."""
    return {name[len(prefix) :]: column for name, column in arrays.items() if name.startswith(prefix)}

"""Limits for images of unknown origin: sizes of arrays and chunks, names and sizes in zip files."""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import zarr

from cellscale.errors import DamagedError, InputError
from cellscale.storage.documents import MAX_BYTES

MAX_SIDE = 2**31 - 1
"""Longest axis, since channel names and frame numbers are listed."""
MAX_CHUNK_BYTES = 2**31
"""Largest unpacked chunk: it has to fit into memory a few times, and Blosc cannot make larger ones."""
MAX_SHARD_BYTES = 2**34
"""Largest unpacked shard: shards that are needed whole are read whole."""
DOCUMENTS = ("zarr.json", ".zgroup", ".zattrs", ".zarray", ".zmetadata")
"""Files that are parsed."""

_LEADS_OUT = re.compile(r"^[/\\]|^[A-Za-z]:|(^|[/\\])\.\.([/\\]|$)")
"""Absolute names, names with a drive, and names with a part `..`."""


def check_array(array: zarr.Array[Any], url: str) -> None:
    """Refuse an array whose shape or chunks would exhaust the memory when one pixel is read.

    Raises
    ------
    InputError
        Naming the axis, chunk or shard that is too large.
    """
    if not all(0 <= side <= MAX_SIDE for side in array.shape):
        raise InputError(f"{url} has the shape {_sides(array.shape)}; expected at most {MAX_SIDE} along each axis.")
    if not all(side > 0 for side in array.chunks):
        raise InputError(f"{url} has chunks of {_sides(array.chunks)}; expected at least 1 along each axis.")
    if math.prod(array.chunks) * array.dtype.itemsize > MAX_CHUNK_BYTES:
        raise InputError(
            f"{url} has chunks of {_sides(array.chunks)}, {array.dtype}; expected at most "
            f"{MAX_CHUNK_BYTES / 2**30:g} GiB each. Write the image again with smaller chunks."
        )
    if array.shards and math.prod(array.shards) * array.dtype.itemsize > MAX_SHARD_BYTES:
        raise InputError(
            f"{url} has shards of {_sides(array.shards)}, {array.dtype}; expected at most "
            f"{MAX_SHARD_BYTES / 2**30:g} GiB each. Write the image again with smaller shards."
        )


def _sides(shape: Sequence[int]) -> str:
    return " × ".join(str(side) if abs(side) <= MAX_SIDE else f"more than {MAX_SIDE}" for side in shape[:9])


def check_zip(path: Path) -> None:
    """Refuse a zip file with an entry that leads out of it, or that unpacks to more than a document or chunk may have.

    The sizes in the zip file's own table are used: never more of an entry is read.

    Raises
    ------
    DamagedError
        Naming the entry.
    """
    found = path.stat()
    _check_entries(path, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=16)
def _check_entries(path: Path, changed: int, size: int) -> None:
    """Check all entries of a file once, as long as it does not change."""
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            name = entry.filename
            if _LEADS_OUT.search(name):
                raise DamagedError(
                    f"{path} has the entry {name[:100]!r}, which leads out of it: do not trust this file."
                )
            most = MAX_BYTES if name.rpartition("/")[2] in DOCUMENTS else MAX_CHUNK_BYTES
            if entry.file_size > most:
                raise DamagedError(
                    f"{path} has the entry {name[:100]!r}, which unpacks to {entry.file_size / 2**20:.0f} MiB; "
                    f"expected at most {most / 2**20:.0f} MiB."
                )

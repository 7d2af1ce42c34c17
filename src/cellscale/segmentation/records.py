"""A run's folder: scratch objects and records, beside the output.

Objects are whole, checksummed and written once; a missing or damaged one is an error and never reads as background.
A task writes its scratch objects first and its record last: objects without a record do not exist.
"""

from __future__ import annotations

import io
import json
import uuid
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import fsspec
import numpy as np
from numcodecs import Blosc
from numpy.typing import NDArray

from cellscale.errors import StoreError

Arrays: TypeAlias = dict[str, NDArray[Any]]


def _packed(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    body: bytes = Blosc(cname="zstd", clevel=1, shuffle=Blosc.SHUFFLE).encode(buffer.getvalue())
    return zlib.crc32(body).to_bytes(4, "big") + body


def _unpacked(data: bytes, where: str) -> Arrays:
    if len(data) < 4 or zlib.crc32(data[4:]) != int.from_bytes(data[:4], "big"):
        raise StoreError(f"{where} is damaged: its checksum does not fit. Delete the run's folder and start again.")
    with np.load(io.BytesIO(Blosc().decode(data[4:])), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


@dataclass(frozen=True, kw_only=True)
class Scratch:
    """The folder of one run."""

    url: str
    """Any fsspec URL."""
    storage_options: Mapping[str, Any] = field(default_factory=dict)
    """Options for fsspec."""

    def _open(self, name: str) -> tuple[Any, str]:
        try:
            file_system, path = fsspec.core.url_to_fs(self.url, **self.storage_options)
        except (ImportError, ValueError) as error:
            raise StoreError(f"Cannot open {self.url}: {error}.") from error
        return file_system, f"{path.rstrip('/')}/{name}".rstrip("/")

    def write(self, name: str, data: bytes) -> None:
        """Write one object as a whole; on a file system under a temporary name first."""
        file_system, path = self._open(name)
        local = "file" in file_system.protocol
        target = f"{path}.{uuid.uuid4().hex}.part" if local else path
        try:
            if local:
                file_system.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
            file_system.pipe_file(target, data)
            if local:
                file_system.mv(target, path)
        except OSError as error:
            raise StoreError(f"Cannot write {path}: {error}. Check that the output store is writable.") from error

    def read(self, name: str) -> bytes | None:
        """Return an object's bytes, or None where there is none."""
        file_system, path = self._open(name)
        try:
            data: bytes = file_system.cat_file(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"Cannot read {path}: {error}.") from error
        return data

    def put(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write named arrays as one object."""
        self.write(name, _packed(arrays))

    def find(self, name: str) -> Arrays | None:
        """Read named arrays, or None where there is no such object; a damaged one raises StoreError."""
        data = self.read(name)
        return None if data is None else _unpacked(data, f"{self.url}/{name}")

    def get(self, name: str) -> Arrays:
        """Read named arrays; a missing or damaged object raises StoreError."""
        arrays = self.find(name)
        if arrays is None:
            raise StoreError(f"{self.url}/{name} is missing although its record exists. Start the run again.")
        return arrays

    def names(self, folder: str) -> frozenset[str]:
        """Names of the objects directly in a folder; empty where there is no such folder."""
        file_system, path = self._open(folder)
        file_system.invalidate_cache()
        try:
            found = file_system.ls(path, detail=False)
        except FileNotFoundError:
            return frozenset()
        except OSError as error:
            raise StoreError(f"Cannot list {path}: {error}.") from error
        return frozenset(name.rsplit("/", 1)[-1] for name in found if not name.endswith(".part"))

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON object."""
        self.write(name, json.dumps(value, indent=1, sort_keys=True).encode())

    def read_json(self, name: str) -> Any:
        """Read a JSON object, or None where there is none."""
        data = self.read(name)
        return None if data is None else json.loads(data)

    def remove(self) -> None:
        """Delete the folder and all in it."""
        file_system, path = self._open("")
        file_system.invalidate_cache()
        if file_system.exists(path):
            file_system.rm(path, recursive=True)

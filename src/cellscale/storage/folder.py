"""Folders on any file system or object store, whose files are written whole.

On a file system a file is written under a temporary name and renamed; an object store's put is whole by itself. A
folder holds no open handle.
"""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import fsspec

from cellscale.errors import DamagedError
from cellscale.storage.errors import explained
from cellscale.storage.json_text import json_text
from cellscale.storage.urls import is_local, local_path, options_for

PART = ".part"
"""Ending of a file that is being written."""


@dataclass(frozen=True, kw_only=True)
class Folder:
    """A folder, by any fsspec URL; it need not exist before the first write.

    Every method raises StoreError, with the place and the way out, where the store fails.
    """

    url: str
    """Of the folder."""
    storage_options: Mapping[str, Any] = field(default_factory=dict)
    """Options for fsspec, see `options_for`."""

    def _open(self, name: str = "") -> tuple[Any, str]:
        with explained("open", self.url):
            file_system, path = fsspec.core.url_to_fs(self.url, **options_for(self.url, self.storage_options))
        return file_system, f"{path.rstrip('/')}/{name}".rstrip("/")

    def child(self, name: str) -> Folder:
        """A folder in this one."""
        return Folder(url=f"{self.url.rstrip('/')}/{name}", storage_options=self.storage_options)

    def write(self, name: str, data: bytes) -> None:
        """Write a file whole."""
        file_system, path = self._open(name)
        local = "file" in file_system.protocol
        parent, _, base = path.rpartition("/")
        # Readers of a folder of Parquet files pass over names that begin with a dot: a killed process leaves such.
        target = f"{parent}/.{base}.{uuid.uuid4().hex}{PART}" if local else path
        with explained("write", f"{self.url}/{name}"):
            if local:
                file_system.makedirs(parent, exist_ok=True)
            try:
                file_system.pipe_file(target, data)
                if local:
                    file_system.mv(target, path)
            except BaseException:
                if local:
                    local_path(target).unlink(missing_ok=True)
                raise

    def read(self, name: str, *, start: int | None = None, stop: int | None = None) -> bytes | None:
        """Content of a file or of its bytes [start, stop), or None where there is none."""
        file_system, path = self._open(name)
        with explained("read", f"{self.url}/{name}"):
            try:
                data: bytes = file_system.cat_file(path, start=start, end=stop)
            except FileNotFoundError:
                return None
            return data

    def exists(self, name: str) -> bool:
        """Whether there is a file of this name."""
        file_system, path = self._open(name)
        with explained("look for", f"{self.url}/{name}"):
            file_system.invalidate_cache()
            return bool(file_system.exists(path))

    def size(self, name: str) -> int | None:
        """Bytes of a file, or None where there is none."""
        file_system, path = self._open(name)
        with explained("look for", f"{self.url}/{name}"):
            try:
                found = file_system.info(path)
            except FileNotFoundError:
                return None
            return int(found["size"]) if found["type"] == "file" else None

    def names(self, inner: str = "") -> frozenset[str]:
        """Names of the files and folders directly in an inner folder; none where there is no such folder."""
        file_system, path = self._open(inner)
        with explained("list", f"{self.url}/{inner}"):
            file_system.invalidate_cache()
            try:
                found = file_system.ls(path, detail=False)
            except FileNotFoundError:
                return frozenset()
        return frozenset(name.rsplit("/", 1)[-1] for name in found if not name.endswith(PART))

    def delete(self, name: str) -> None:
        """Delete a file, if it is there."""
        file_system, path = self._open(name)
        with explained("delete", f"{self.url}/{name}"), contextlib.suppress(FileNotFoundError):
            file_system.rm_file(path)

    def remove(self) -> None:
        """Delete the folder and all in it, if it is there."""
        file_system, path = self._open()
        with explained("delete", self.url):
            file_system.invalidate_cache()
            if file_system.exists(path):
                file_system.rm(path, recursive=True)

    def remove_empty(self) -> None:
        """Delete a local folder that nothing is left in; elsewhere there are no empty folders."""
        if is_local(self.url):
            path = local_path(self.url)
            with explained("delete", self.url), contextlib.suppress(FileNotFoundError):
                if not any(path.iterdir()):
                    path.rmdir()

    def files(self, inner: str = "") -> frozenset[str]:
        """Paths of all files below an inner folder, from there; none where there is no such folder."""
        file_system, path = self._open(inner)
        with explained("list", f"{self.url}/{inner}"):
            file_system.invalidate_cache()
            found = file_system.find(path)
        start = len(path) + 1
        return frozenset(name[start:] for name in found if not name.endswith(PART))

    def check_writable(self) -> None:
        """Raise StoreError, with the place and the way out, unless files can be written here."""
        name = f".cellscale-{uuid.uuid4().hex}"
        self.write(name, b"")
        self.delete(name)

    def write_json(self, name: str, value: Any) -> None:
        """Write a value of JSON's types."""
        self.write(name, json_text(value, indent=2, sort_keys=True).encode())

    def read_json(self, name: str) -> Any:
        """A value of JSON's types, or None where there is no such file; StoreError for a damaged one."""
        data = self.read(name)
        try:
            return None if data is None else json.loads(data)
        except ValueError as error:
            raise DamagedError(
                f"{self.url}/{name} is damaged: it is no JSON ({error}). "
                "Put it back from a copy, or start over with --overwrite."
            ) from error

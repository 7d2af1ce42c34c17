"""Folders on any file system or object store, whose files are written whole.

On a file system a file is written under a temporary name and renamed; an object store's put is atomic. A folder holds
no open handle. Names are taken literally: nothing in them is a pattern.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from fsspec import AbstractFileSystem
from fsspec.core import has_magic

from cellscale.storage import compare_and_set, durability
from cellscale.storage.compare_and_set import Change
from cellscale.storage.documents import parsed
from cellscale.storage.errors import explained
from cellscale.storage.json_text import json_text
from cellscale.storage.reading import read_again
from cellscale.storage.recent import Recent
from cellscale.storage.s3 import is_s3, listed
from cellscale.storage.traffic import request
from cellscale.storage.urls import address, check_apart, file_system, is_local, local_path

_PARTIAL = re.compile(r"\.[0-9a-f]{32}\.(part|partial)$")
"""Ending of a file that is being written, by cellscale or by zarr."""


@dataclass(frozen=True, kw_only=True)
class Folder:
    """A folder, by any fsspec URL; it need not exist before the first write.

    Every method raises StoreError, with the place and a remedy, if the store fails.
    """

    url: str
    """URL of the folder."""
    storage_options: Mapping[str, Any] = field(default_factory=dict)
    """Options for fsspec, see `options_for`."""
    recent: Recent | None = field(default=None, repr=False, compare=False)
    """Keeps the files that this process has written, to read them again without a request; None: nothing is kept. Only
    for a folder whose files are written once."""

    def _open(self, name: str = "") -> tuple[AbstractFileSystem, str]:
        with explained("open", self.url, self.storage_options):
            system, path = file_system(self.url, self.storage_options)
        return system, f"{path.rstrip('/')}/{name}".rstrip("/")

    def child(self, name: str) -> Folder:
        """A folder in this one."""
        return replace(self, url=f"{self.url.rstrip('/')}/{name}")

    def write(self, name: str, data: bytes, *, flush: bool = True) -> None:
        """Write a file whole.

        On return it survives a loss of power. Without `flush`, a loss of power may delete or empty it on a file system
        until `flush` is called with its name; one call for many files takes a tenth of the time.
        """
        system, path = self._open(name)
        with explained("write", f"{self.url}/{name}", self.storage_options), request("PUT", data):
            if is_local(self.url):
                _write_local(path, data, flush=flush)
                if flush:
                    durability.flush_folders([Path(path)], root=local_path(self.url))
            else:
                system.pipe_file(path, data)
        if self.recent is not None:
            self.recent.keep(f"{self.url}/{name}", data)

    def update(self, name: str, change: Change) -> None:
        """Change a file that other processes may change at the same time, without losing any change.

        Parameters
        ----------
        name : str
            The file.
        change : callable
            From its content (None: there is no such file) to the new one, None to leave it as it is, b"" to delete it.
            It is called again after another process came first, and must be pure.
        """
        system, path = self._open(name)
        with explained("change", f"{self.url}/{name}", self.storage_options):
            compare_and_set.update(system, path, change, partial(self.write, name))

    def flush(self, names: Iterable[str]) -> None:
        """Wait until files survive a loss of power; object stores need no flush."""
        if is_local(self.url):
            with explained("flush", self.url, self.storage_options):
                root = local_path(self.url)
                durability.flush((root / name for name in names), root=root)

    def flush_all(self) -> None:
        """Wait until everything in the folder survives a loss of power."""
        if is_local(self.url):
            with explained("flush", self.url, self.storage_options):
                durability.flush_tree(local_path(self.url))

    def read(self, name: str, *, start: int | None = None, stop: int | None = None) -> bytes | None:
        """Content of a file or of its bytes [start, stop), or None where there is none."""
        kept = self.recent.find(f"{self.url}/{name}") if self.recent is not None else None
        if kept is not None:
            return kept[start:stop]
        system, path = self._open(name)
        with explained("read", f"{self.url}/{name}", self.storage_options):
            return read_again(lambda: compare_and_set.read(system, path, start=start, stop=stop))

    def blocks(self, name: str, *, start: int, stop: int, size: int) -> Iterator[bytes]:
        """Bytes [start, stop) of a file, `size` at a time, through one open file."""
        system, path = self._open(name)
        with (
            explained("read", f"{self.url}/{name}", self.storage_options),
            system.open(path, "rb", block_size=size) as stream,
        ):
            stream.seek(start)
            while start < stop and (data := stream.read(min(size, stop - start))):
                start += len(data)
                yield data

    def exists(self, name: str) -> bool:
        """Whether there is a file of this name."""
        system, path = self._open(name)
        with explained("look for", f"{self.url}/{name}", self.storage_options):
            system.invalidate_cache()
            with request("HEAD"):
                return bool(system.exists(path))

    def size(self, name: str) -> int | None:
        """Bytes of a file, or None where there is none."""
        system, path = self._open(name)
        with explained("look for", f"{self.url}/{name}", self.storage_options):
            try:
                with request("HEAD"):
                    found = system.info(path)
            except FileNotFoundError:
                return None
            return int(found["size"]) if found["type"] == "file" else None

    def names(self, inner: str = "") -> frozenset[str]:
        """Names of the files and folders directly in an inner folder; none where there is no such folder."""
        system, path = self._open(inner)
        with explained("list", f"{self.url}/{inner}", self.storage_options):
            found = _listed(system, path)
        return frozenset(name.rsplit("/", 1)[-1] for name in found if not _of_writers(name))

    def delete(self, name: str) -> None:
        """Delete a file, if it exists."""
        self._forget(name)
        system, path = self._open(name)
        absent = contextlib.suppress(FileNotFoundError, NotADirectoryError)
        with explained("delete", f"{self.url}/{name}", self.storage_options), absent, request("DELETE"):
            system.rm_file(path)

    def remove(self, inner: str = "") -> None:
        """Delete the folder, or an inner one, with its contents, if it exists."""
        self.removal(inner)()

    def removal(self, inner: str = "") -> Callable[[], None]:
        """List the contents of the folder, or of an inner one, and return what deletes them with it, if it exists."""
        self._forget(inner)
        system, path = self._open(inner)
        keys: list[str] = []
        with explained("list", path, self.storage_options):
            if not is_local(self.url):
                keys = [key for key in _listed(system, path, deep=True) if key.startswith(f"{path}/")]

        def remove() -> None:
            with explained("delete", path, self.storage_options):
                if is_local(self.url):
                    _remove_local(path)
                else:
                    _remove_objects(system, path, keys)

        return remove

    def _forget(self, name: str) -> None:
        if self.recent is not None:
            self.recent.forget(f"{self.url}/{name}".rstrip("/"))

    def remove_empty(self) -> None:
        """Delete an empty local folder; elsewhere there are no empty folders."""
        if is_local(self.url):
            path = local_path(self.url)
            with explained("delete", self.url, self.storage_options), contextlib.suppress(FileNotFoundError):
                if not any(path.iterdir()):
                    path.rmdir()

    def files(self, inner: str = "") -> frozenset[str]:
        """Paths of all files below an inner folder, from there; none where there is no such folder."""
        system, path = self._open(inner)
        with explained("list", f"{self.url}/{inner}", self.storage_options):
            found = _listed(system, path, deep=True)
        start = len(path) + 1
        return frozenset(name[start:] for name in found if not _of_writers(name))

    def tidy(self) -> None:
        """Delete partial files of killed writers below, on file systems; other processes may write meanwhile.

        A write whose file is deleted before it gets its name fails, and is tried again.
        """
        if not is_local(self.url):
            return
        with explained("tidy", self.url):
            for folder, _, names in os.walk(local_path(self.url)):
                for name in filter(_PARTIAL.search, names):
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(os.path.join(folder, name))

    def check_writable(self) -> None:
        """Raise StoreError, with the place and a remedy, unless files can be written here."""
        name = f".cellscale-{uuid.uuid4().hex}"
        self.write(name, b"")
        self.delete(name)

    def write_json(self, name: str, value: Any) -> None:
        """Write a value of JSON's types."""
        self.write(name, json_text(value, indent=2, sort_keys=True).encode())

    def read_json(self, name: str) -> Any:
        """A value of JSON's types, or None where there is no such file; StoreError for a damaged one."""
        return read_again(lambda: self._json(name))

    def _json(self, name: str) -> Any:
        data = self.read(name)
        return None if data is None else parsed(data, f"{self.url}/{name}")


def check_file(url: str, sources: Iterable[str], storage_options: Mapping[str, Any] | None = None) -> None:
    """Make sure, before any work, that a file may be written at a URL.

    Raises
    ------
    InputError
        If it is, or lies in, one of the sources.
    StoreError
        If its folder cannot be written.
    """
    for source in sources:
        check_apart(source, url)
    Folder(url=address(url).rpartition("/")[0], storage_options=dict(storage_options or {})).check_writable()


def write_file(url: str, data: bytes, storage_options: Mapping[str, Any] | None = None) -> None:
    """Write one file at a URL; it appears when it is complete."""
    place, _, name = address(url).rpartition("/")
    Folder(url=place, storage_options=dict(storage_options or {})).write(name, data)


def _listed(system: AbstractFileSystem, path: str, *, deep: bool = False) -> list[str]:
    """Paths of the files and folders directly in a folder, or of all files below it; none where there is none."""
    with request("LIST") as made:
        if is_s3(system):
            found = listed(system, path, deep=deep)
        else:
            system.invalidate_cache()
            try:
                found = list(system.find(path) if deep else system.ls(path, detail=False))
            except FileNotFoundError:
                found = []
        made.items = len(found)
    return found


def _of_writers(path: str) -> bool:
    """Whether a file belongs to a write that is in progress or was interrupted."""
    return bool(_PARTIAL.search(path)) or compare_and_set.is_lock(path.rsplit("/", 1)[-1])


def _write_local(path: str, data: bytes, *, flush: bool) -> None:
    parent, name = os.path.split(path)
    os.makedirs(parent, exist_ok=True)
    # Readers of a folder of Parquet files pass over names that begin with a dot: a killed process leaves such.
    part = f"{parent}/.{name}.{uuid.uuid4().hex}.part"
    try:
        with open(part, "wb") as stream:
            stream.write(data)
        if flush:
            durability.flush_file(part)
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)
        raise


def _remove_local(path: str) -> None:
    while os.path.isdir(path):
        # Another process may delete the same files; an overtaken one writes into the folder until it notices.
        try:
            shutil.rmtree(path)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTEMPTY):
                raise


def _remove_objects(system: AbstractFileSystem, path: str, keys: Sequence[str]) -> None:
    """Delete keys below a path one by one: a file system's recursive deletion takes the path for a pattern."""
    odd = [key for key in keys if has_magic(key)]
    if plain := sorted({*keys} - {*odd}):
        with request("DELETE") as made:
            made.items = len(plain)
            system.rm(plain)
    for key in odd:
        with request("DELETE"):
            system.rm_file(key)
    if is_s3(system):
        return
    # Stores that know folders keep the empty ones.
    system.invalidate_cache()
    inner = [name for name in system.find(path, withdirs=True) if name.startswith(f"{path}/")]
    for name in sorted(inner, key=len, reverse=True):
        system.rmdir(name)
    if inner or system.isdir(path):
        system.rmdir(path)

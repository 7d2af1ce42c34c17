"""Change an object that other processes may change at the same time, without losing any change.

Where the store can compare before it writes (S3 `If-Match`, Google `ifGenerationMatch`, Azure `If-Match`), a write that
finds another version than was read is refused, and the change is repeated on the new content. Elsewhere a lock is
held while the object is read, changed and written: the kernel's on file systems, which ends with its process, or an
object with a lease where there is no such lock. The same for a store whose versions are wrong: it refuses every write,
although no one else changes the object.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import random
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias
from urllib.parse import quote

from fsspec import AbstractFileSystem

from cellscale.errors import StoreError
from cellscale.storage.errors import failures, status_of
from cellscale.storage.s3 import protocols, read_with_etag
from cellscale.storage.traffic import request

Change: TypeAlias = Callable[[bytes | None], bytes | None]
"""From the content (None: there is no such object) to the new one, None for no change; it may be called again."""
DELETED = b""
"""New content that means: delete the object."""
Version: TypeAlias = str | None
"""The store's identifier of the content of an object, or None for an object that does not exist."""
_Read: TypeAlias = Callable[[Any, str], tuple[bytes | None, Version]]

ATTEMPTS = 100
"""Greatest number of attempts of one change; in each, at least one of the writers succeeds."""
REFUSALS = 8
"""Refused writes in a row of one content after which a store's versions count as wrong: a true conflict is the change
of another writer."""
LEASE_S = 20.0
"""Time after which the holder of an unchanged lock object counts as dead, s; a lock is held for a few requests."""
SETTLE_S = 1.0
"""Time after which the successor of a dead holder looks whether the lock object is still its own, s."""
POLL_S = 0.05
"""Longest pause before the next attempt, s."""
_CONFLICTS = (409, 412)
"""HTTP statuses of a refused condition: the object is being written, or is another one."""
_GONE = 404
LOCKS = (".lock", ".lease")
"""Endings of the names of locks, which begin with a dot; a killed process may leave one that nobody holds."""
_UNSUPPORTED = 501


def _delete(fs: AbstractFileSystem, path: str) -> None:
    with request("DELETE"):
        fs.rm_file(path)


def _read_of(entry: str) -> _Read:
    """A function that reads an object and its version, an entry of the answer to a request for its size."""

    def found(fs: AbstractFileSystem, path: str) -> tuple[bytes | None, Version]:
        # The version goes first: content that is newer than it makes the write fail, never the other way round.
        fs.invalidate_cache()
        try:
            with request("HEAD"):
                version = str(fs.info(path)[entry])
        except FileNotFoundError:
            return None, None
        return read(fs, path), version

    return found


def _s3(fs: AbstractFileSystem, path: str, data: bytes, version: str) -> None:
    fs.pipe_file(path, data, IfMatch=version)


def _google(fs: Any, path: str, data: bytes, version: str) -> None:
    bucket, key, _ = fs.split_path(path)
    place = f"{fs.base.replace('/storage/', '/upload/storage/')}b/{quote(bucket)}/o"
    fs.call("POST", place, uploadType="media", name=key, ifGenerationMatch=version, data=data, json_out=True)


def _azure(fs: AbstractFileSystem, path: str, data: bytes, version: str) -> None:
    same = importlib.import_module("azure.core").MatchConditions.IfNotModified
    fs.pipe_file(path, data, etag=version, match_condition=same)


_CONDITIONAL: dict[str, tuple[_Read, Callable[[Any, str, bytes, str], None]]] = {
    "s3": (read_with_etag, _s3),
    "gs": (_read_of("generation"), _google),
    "abfs": (_read_of("etag"), _azure),
}
"""For a protocol: how an object is read with its version, and how it is written if it has this version."""


def is_lock(name: str) -> bool:
    """Whether a file is the lock of another one."""
    return name.startswith(".") and name.endswith(LOCKS)


def read(fs: AbstractFileSystem, path: str, *, start: int | None = None, stop: int | None = None) -> bytes | None:
    """Content of an object or of its bytes [start, stop), or None where there is none."""
    try:
        with request("GET") as made:
            content: bytes = fs.cat_file(path, start=start, end=stop)
            made.read_bytes = len(content)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return content


def _compared(fs: AbstractFileSystem, path: str, change: Change, kind: str) -> tuple[bool | None, bytes | None]:
    """Make a change if the object is still the one that was read.

    Returns
    -------
    tuple
        Whether it was made: False after a conflict, None if the store cannot compare. The content that was read.
    """
    read_version, write_if = _CONDITIONAL[kind]
    content, version = read_version(fs, path)
    made = change(content)
    if made is None:
        return True, content
    try:
        if made == DELETED:
            # No file system can delete on a condition; who adds something reads it back and adds it again.
            _delete(fs, path)
        elif version is None:
            with request("PUT", made):
                fs.pipe_file(path, made, mode="create")
        else:
            with request("PUT", made):
                write_if(fs, path, made, version)
    except failures() as error:
        status = status_of(error)
        if isinstance(error, FileExistsError) or status in _CONFLICTS or (status == _GONE and version is not None):
            return False, content
        if status == _UNSUPPORTED:
            return None, content
        raise
    return True, content


def update(fs: AbstractFileSystem, path: str, change: Change, write: Callable[[bytes], None]) -> None:
    """Change an object.

    Parameters
    ----------
    fs : AbstractFileSystem
        Its file system.
    path : str
        Its path there, taken literally.
    change : callable
        From the content to the new one. It must be pure, and return None once what it wants is there: it is called
        again after a conflict, and after a write whose answer was lost.
    write : callable
        Writes the object whole, for stores that cannot compare.

    Raises
    ------
    StoreError
        If other writers always came first.
    """
    kind = next((protocol for protocol in _CONDITIONAL if protocol in protocols(fs)), None)
    contents: list[bytes | None] = []
    for _ in range(ATTEMPTS if kind else 0):
        done, content = _compared(fs, path, change, str(kind))
        if done:
            return
        contents = [*contents[-REFUSALS:], content] if content in contents[-1:] else [content]
        if done is None or len(contents) > REFUSALS:
            break
        time.sleep(random.uniform(0, POLL_S))
    else:
        if kind:
            raise StoreError(f"{path} is changed continuously by other processes. Try again when they have finished.")
    with locked(fs, path):
        made = change(read(fs, path))
        if made == DELETED:
            _delete(fs, path)
        elif made is not None:
            write(made)


@contextlib.contextmanager
def locked(fs: AbstractFileSystem, path: str) -> Iterator[None]:
    """Hold the lock of an object inside the context; the lock is deleted afterwards."""
    folder, _, name = path.rpartition("/")
    kernels, leased = (f"{folder}/.{name}{ending}" for ending in LOCKS)
    if "file" in protocols(fs):
        os.makedirs(folder, exist_ok=True)
        handle = _kernel_lock(kernels)
        if handle is not None:
            try:
                yield
            finally:
                os.unlink(kernels)
                os.close(handle)
            return
    token = uuid.uuid4().hex.encode()
    _lease(fs, leased, token)
    try:
        yield
    finally:
        if read(fs, leased) == token:
            _delete(fs, leased)


def _kernel_lock(path: str) -> int | None:
    """Open and lock a file, which is made if need be; None where the file system or the system has no such locks."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl = importlib.import_module("fcntl")
            fcntl.flock(handle, fcntl.LOCK_EX)
        except (OSError, ImportError):
            os.close(handle)
            os.unlink(path)
            return None
        # Its last holder deletes the file: who waited for it holds the lock of a file that no one else can find.
        if _is_at(handle, path):
            return handle
        os.close(handle)


def _is_at(handle: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _create(fs: AbstractFileSystem, path: str, data: bytes) -> None:
    """Write an object that must not exist yet; FileExistsError if it does."""
    if "file" in protocols(fs):
        # fsspec looks whether a local file exists and then writes it: of two writers at once, both would succeed.
        with open(path, "xb") as stream:
            stream.write(data)
    else:
        with request("PUT", data):
            fs.pipe_file(path, data, mode="create")


def _lease(fs: AbstractFileSystem, lock: str, token: bytes) -> None:
    """Create the lock object; one that stays unchanged for the length of a lease is that of a dead holder."""
    seen, since, ended = None, time.monotonic(), False
    while True:
        try:
            _create(fs, lock, token)
            holder: bytes | None = token
        except FileExistsError:
            holder = read(fs, lock)
        # Another one that waited for the same dead holder may be about to delete this lease in its place.
        if holder == token and (not ended or _is_still(fs, lock, token)):
            return
        if holder != seen:
            seen, since = holder, time.monotonic()
        elif holder is not None and time.monotonic() - since > LEASE_S:
            _end(fs, lock, holder, token)
            ended = True
        time.sleep(random.uniform(0, POLL_S))


def _is_still(fs: AbstractFileSystem, lock: str, token: bytes) -> bool:
    time.sleep(SETTLE_S)
    return read(fs, lock) == token


def _end(fs: AbstractFileSystem, lock: str, dead: bytes, token: bytes) -> None:
    """Delete the lease of a dead holder, unless it is another's by now.

    Stores that could delete on a condition need no leases. Two windows remain: in a local folder, a live lease may be
    away for the time between two renames; elsewhere it may be made between the last look and the deletion, and its
    holder sees that after `SETTLE_S`, if the deletion takes no longer.
    """
    # Several may wait for the same dead holder; the first one has ended its lease and has one of its own.
    if read(fs, lock) != dead:
        return
    if "file" not in protocols(fs):
        with contextlib.suppress(FileNotFoundError):
            _delete(fs, lock)
        return
    aside = f"{lock.removesuffix(LOCKS[1])}.{token.decode()}{LOCKS[1]}"
    with contextlib.suppress(FileNotFoundError):
        os.rename(lock, aside)
        if read(fs, aside) != dead:
            with contextlib.suppress(FileExistsError):
                os.link(aside, lock)
        os.unlink(aside)

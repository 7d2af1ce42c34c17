"""Files that survive a loss of power.

A file that was written and renamed may be empty after a loss of power: the kernel writes names and contents later, in
any order. `flush` returns when files and the folders that name them are on the disk; records that confirm them are
written after it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

THREADS = 16
"""Files flushed at once: a journal commits concurrent requests together, at 0.1 ms for each file."""
_UNSUPPORTED = {errno.EINVAL, errno.ENOTSUP, errno.EACCES}
"""Error numbers of file systems and mounts that cannot flush a folder."""


def flush(files: Iterable[Path], *, root: Path) -> None:
    """Wait until files below `root`, and all folders from it down to them, are on the disk.

    Raises
    ------
    OSError
        If a file does not exist, or the disk is full or damaged.
    """
    named = list(files)
    if not named:
        return
    _side_by_side(flush_file, named)
    flush_folders(named, root=root)


def flush_folders(files: Iterable[Path], *, root: Path) -> None:
    """Return when the names of files below `root`, and of all folders down to them, are on the disk."""
    folders = {root.parent, root}
    for file in files:
        for folder in file.parents:
            if folder in folders:
                break
            folders.add(folder)
    _side_by_side(_flush_folder, folders)


def _side_by_side(flush_one: Callable[[Path], None], paths: Collection[Path]) -> None:
    with ThreadPoolExecutor(min(THREADS, len(paths))) as threads:
        # A list, so that errors are raised.
        list(threads.map(flush_one, paths))


def flush_tree(root: Path) -> None:
    """Return when all files below a folder, and all its folders, are on the disk."""
    flush((path for path in root.rglob("*") if path.is_file()), root=root)


def flush_file(path: Path | str) -> None:
    """Return when the content of a file is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _flush_folder(path: Path) -> None:
    try:
        flush_file(path)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise

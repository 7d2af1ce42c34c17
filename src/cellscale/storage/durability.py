"""Files that outlive a loss of power.

A file that was written and renamed may be empty after that: the kernel writes names and contents when it likes.
`flush` returns when files and the folders that name them are on the disk; what vouches for them is written after it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

THREADS = 16
"""Files flushed at once: a journal commits what is asked for at the same time together, at 0.1 ms for each file."""
_UNSUPPORTED = {errno.EINVAL, errno.ENOTSUP, errno.EACCES}
"""What file systems and mounts answer that cannot flush a folder."""


def flush(files: Iterable[Path], *, root: Path) -> None:
    """Return when files below `root`, and all folders from it down to them, are on the disk.

    Raises
    ------
    OSError
        If a file is not there, or the disk refuses it: full, or damaged.
    """
    named = list(files)
    if not named:
        return
    folders = {root.parent, root}
    for file in named:
        folders.update(parent for parent in file.parents if parent.is_relative_to(root))
    with ThreadPoolExecutor(min(THREADS, len(named))) as threads:
        # Lists, so that errors are raised.
        list(threads.map(_flush_file, named))
        list(threads.map(_flush_folder, folders))


def flush_tree(root: Path) -> None:
    """Return when all files below a folder, and all its folders, are on the disk."""
    flush((path for path in root.rglob("*") if path.is_file()), root=root)


def _flush_file(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _flush_folder(path: Path) -> None:
    try:
        _flush_file(path)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise

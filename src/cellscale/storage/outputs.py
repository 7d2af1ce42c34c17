"""Outputs of one use: a file that is written as a stream, or a local folder; both appear when they are complete."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Any

from cellscale.errors import ExistsError, InputError
from cellscale.storage import durability
from cellscale.storage.errors import explained
from cellscale.storage.folder import Folder
from cellscale.storage.urls import address, file_system, is_local, local_path


def check_ending(url: str, what: str, *endings: str) -> str:
    """Return the ending of an output in small letters; InputError, before any work, for one that is not among these.

    A file of another kind, such as an image, does not become the output by mistake.
    """
    ending = PurePosixPath(url.rstrip("/")).suffix.lower()
    if ending not in endings:
        known = " or ".join(filter(None, [", ".join(endings[:-1]), endings[-1]]))
        raise InputError(f"{url} is not a valid name of a {what}; expected one that ends with {known}.")
    return ending


def _part_of(path: Path) -> Path:
    """A name next to a path under which it is made; listings pass over such names."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")


@contextlib.contextmanager
def new_file(url: str, storage_options: Mapping[str, Any] | None = None) -> Iterator[IO[bytes]]:
    """Write a file as a stream inside the context; after it the file is at its URL, and after an error it is not.

    Parameters
    ----------
    url : str
        The file, any fsspec URL; an existing one is replaced.
    storage_options : mapping
        Options for fsspec.

    Raises
    ------
    StoreError
        If it cannot be written.
    """
    url, options = address(url), dict(storage_options or {})
    with explained("write", url, options):
        system, path = file_system(url, options)
        if not is_local(url):
            with system.transaction, system.open(path, "wb") as stream:
                yield stream
            return
        place = Path(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        part = _part_of(place)
        try:
            with open(part, "wb") as stream:
                yield stream
            durability.flush_file(part)
            os.replace(part, place)
        finally:
            part.unlink(missing_ok=True)
        durability.flush_folders([place], root=place.parent)


@contextlib.contextmanager
def new_folder(url: str) -> Iterator[Path]:
    """Fill a local folder inside the context; after it the folder is at its place, and after an error it is not.

    Raises
    ------
    InputError
        If the place is not on this machine.
    ExistsError
        If there is a file, or a folder that is not empty.
    StoreError
        If it cannot be written.
    """
    if not is_local(url):
        raise InputError(f"{url} is not on this machine. Write to a local folder, then copy it.")
    if Folder(url=url).names():
        raise ExistsError(f"{url} is not empty. Choose another folder, or delete it first.")
    place = local_path(url)
    with explained("write", url):
        place.parent.mkdir(parents=True, exist_ok=True)
        part = _part_of(place)
        try:
            yield part
            durability.flush_tree(part)
            os.replace(part, place)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        durability.flush_folders([place], root=place.parent)

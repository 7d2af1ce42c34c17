"""Names of label layers, and paths that documents name: both lead to a child and nowhere else."""

from __future__ import annotations

import re
from typing import Any

from cellscale.errors import InputError

MAX_BYTES = 128
"""Most bytes of a layer's name: names of files have 255, and some are made of a layer's."""
_FORBIDDEN = re.compile(r'[/\\:*?"<>|\x00-\x1f\x7f\ud800-\udfff]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def check_layer_name(name: str) -> str:
    """Return a name under which a layer may be written.

    It is one component of a path on every file system and object store, and no place of the format.

    Raises
    ------
    InputError
        For any other name.
    """
    found = _FORBIDDEN.search(name)
    if not name.strip():
        reason = "it is empty"
    elif found:
        reason = f"it has {found.group()!r} in it"
    elif len(name.encode()) > MAX_BYTES:
        reason = f"it has {len(name.encode())} bytes, more than {MAX_BYTES}"
    elif name.startswith((".", "__")) or name == "zarr.json":
        reason = "Zarr keeps such names for itself"
    elif name != name.strip() or name.endswith("."):
        reason = "it begins or ends with a space, or ends with a dot"
    elif _RESERVED.fullmatch(name):
        reason = "Windows keeps such names for itself"
    else:
        return name
    shown = name if len(name) <= MAX_BYTES else f"{name[:MAX_BYTES]}…"
    raise InputError(
        f"{shown!r} is not a valid name of a label layer: {reason}. "
        "Choose a name of letters, digits, '-' and '_', such as 'cells'."
    )


def child_path(path: Any, url: str) -> str:
    """Return a path that a document names, without needless slashes and dots; it leads to a place below `url`.

    Raises
    ------
    InputError
        For a path that leads out of the group, or is not text.
    """
    parts = [part for part in path.split("/") if part not in ("", ".")] if isinstance(path, str) else []
    if not parts or ".." in parts or any(mark in path for mark in ("\\", "::", "\0")) or parts[0].endswith(":"):
        raise InputError(
            f"{url} names the path {path!r}, which does not lead to a place below it. "
            "Only use files from people whom you trust, or put the path right."
        )
    return "/".join(parts)

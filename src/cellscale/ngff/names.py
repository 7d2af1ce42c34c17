"""Names of label layers and tables, and paths in documents: both must lead to a child of the group."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from cellscale.errors import InputError

MAX_BYTES = 128
"""Longest name of a layer, bytes: file names have at most 255, and some contain a layer's name."""
_FORBIDDEN = frozenset('/\\:*?"<>|%#')
"""Characters with a meaning for file systems, in patterns or in the addresses of web servers."""
_UNSEEN = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))
"""Unicode categories of characters that are not seen, turn the order of others, or are none."""
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def check_layer_name(name: str) -> str:
    """Return a name under which a layer may be written; InputError for any other."""
    return check_name(name, "label layer")


def check_name(name: str, kind: str) -> str:
    """Return a name under which a thing of this kind may be written; InputError for any other."""
    reason = _reason_against(name)
    if not reason:
        return name
    shown = name if len(name) <= MAX_BYTES else f"{name[:MAX_BYTES]}…"
    raise InputError(
        f"{shown!r} is not a valid name of a {kind}: {reason}. "
        "Choose a name of letters, digits, '-' and '_', such as 'cells'."
    )


def is_name(value: Any) -> bool:
    """Return whether a value of a document is a name under which cellscale writes."""
    return isinstance(value, str) and not _reason_against(value)


def _reason_against(name: str) -> str:
    """Return why a name is not valid, "" for one that is.

    A valid one is one path component on every file system and object store, and not reserved by the format.
    """
    found = next((mark for mark in name if mark in _FORBIDDEN or unicodedata.category(mark) in _UNSEEN), None)
    reason = ""
    if not name.strip():
        reason = "it is empty"
    elif found:
        reason = f"it has {found!r} in it"
    elif not unicodedata.is_normalized("NFC", name):
        composed = unicodedata.normalize("NFC", name)
        reason = f"some file systems take it for {composed!r}, whose letters and accents are single characters"
    elif len(name.encode()) > MAX_BYTES:
        reason = f"it has {len(name.encode())} bytes, more than {MAX_BYTES}"
    elif name.startswith((".", "__")) or name == "zarr.json":
        reason = "Zarr keeps such names for itself"
    elif name != name.strip() or name.endswith("."):
        reason = "it begins or ends with a space, or ends with a dot"
    elif _RESERVED.fullmatch(name):
        reason = "Windows keeps such names for itself"
    return reason


def child_path(path: Any, url: str) -> str:
    """Return a path from a document, without needless slashes and dots; it leads to a place below `url`.

    Raises
    ------
    InputError
        For a path that leads out of the group, or is not text.
    """
    parts = [part for part in path.split("/") if part not in ("", ".")] if isinstance(path, str) else []
    if not parts or ".." in parts or any(mark in path for mark in ("\\", "::", "\0")) or parts[0].endswith(":"):
        raise InputError(
            f"{url} names the path {path!r}, which does not lead to a place below it. "
            "Use only files from people whom you trust, or correct the path."
        )
    return "/".join(parts)

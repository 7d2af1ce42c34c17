"""URLs of files and folders: local paths, object stores and the options of their file systems."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fsspec.registry import known_implementations


def is_local(url: str) -> bool:
    """Whether a URL is a path of this machine."""
    return "://" not in url or url.startswith(("file://", "local://"))


def local_path(url: str) -> Path:
    """The absolute path of a local URL."""
    return Path(url.split("://", 1)[-1]).expanduser().absolute()


def address(url: str) -> str:
    """A URL without a slash at its end; a local path is made absolute."""
    return str(local_path(url)) if is_local(url) else url.rstrip("/")


def options_for(url: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a URL's own file system, as fsspec reads them for chained URLs.

    Options under the name of a protocol, {"s3": {…}, "https": {…}}, are for stores of this protocol or another name of
    it; the others are for every store.
    """

    def kind(protocol: str) -> str | None:
        entry = known_implementations.get(protocol)
        return None if entry is None else entry["class"]

    named = {key for key, value in options.items() if kind(key) and isinstance(value, Mapping)}
    own = "file" if is_local(url) else url.partition(":")[0]
    chosen = {key: value for key, value in options.items() if key not in named}
    for key in named:
        if kind(key) == kind(own):
            chosen |= options[key]
    return chosen

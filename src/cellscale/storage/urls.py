"""URLs of files and folders: local paths, object stores and the options of their file systems.

A local path is taken literally; a remote URL may chain file systems, as in fsspec.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import fsspec
from fsspec.registry import known_implementations

from cellscale.errors import InputError
from cellscale.storage.together import REQUESTS

Location: TypeAlias = str | os.PathLike[str]
"""A URL, or a path of this machine."""


def url_of(location: Location, what: str = "location") -> str:
    """Return a location as a URL string; every public function calls this on its URLs.

    Raises
    ------
    InputError
        For anything else, such as an array, and for an empty text, which would be the current folder.
    """
    if isinstance(location, str):
        if not location:
            raise InputError(f"The {what} is empty; expected a URL or a path.")
        return location
    if not isinstance(location, os.PathLike):
        hint = " Use Model.segment for arrays, or cellscale.save_image." if hasattr(location, "shape") else ""
        raise InputError(f"The {what} is {type(location).__name__}; expected a URL or a path.{hint}")
    return os.fspath(location)


def urls_of(locations: Iterable[Location], what: str) -> list[str]:
    """Return several locations as URL strings; `what` names them in errors, in the plural.

    Raises
    ------
    InputError
        For a single location, whose letters would be taken for locations, and for anything that is not a location.
    """
    if isinstance(locations, str | os.PathLike):
        raise InputError(f"The {what} are one location, {url_of(locations)}; expected a list: [{url_of(locations)!r}].")
    return [url_of(location, "image") for location in locations]


def with_urls(given: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Keyword arguments in which the named ones are URLs as strings, or None."""
    places = {name: url_of(given[name], name) for name in names if given.get(name) is not None}
    return {**given, **places}


def is_local(url: str) -> bool:
    """Whether a URL is a path of this machine."""
    return "://" not in url or url.startswith(("file://", "local://"))


def local_path(url: str) -> Path:
    """The absolute path of a local URL."""
    # Other than Path.expanduser, this one keeps a folder ~name as it is where there is no such user.
    return Path(os.path.expanduser(url.split("://", 1)[-1])).absolute()


def address(url: str) -> str:
    """A URL without a slash at its end; a local path is made absolute.

    Raises
    ------
    InputError
        For a remote URL with "::" in the names of its folders, which fsspec would read as another file system.
    """
    if is_local(url):
        return str(local_path(url))
    if "::" in url.partition("://")[2] and "::" not in url.partition("://")[0]:
        raise InputError(f"{url} has '::' in the name of a folder, which cannot be told from a chain of file systems.")
    return url.rstrip("/")


def file_system(url: str, options: Mapping[str, Any]) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system of a URL, and the place there."""
    if is_local(url):
        return fsspec.filesystem("file"), str(local_path(url))
    found: tuple[fsspec.AbstractFileSystem, str] = fsspec.core.url_to_fs(url, **client_options(url, options))
    return found


def client_options(url: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a URL's own file system: it reads an object by one request, and makes many requests at once."""
    chosen = options_for(url, options)
    if not url.startswith("s3://"):
        return chosen
    # With more, s3fs asks for the size of every object before it reads it.
    pool = {"max_pool_connections": REQUESTS, **chosen.get("config_kwargs", {})}
    return {"max_concurrency": 1, **chosen, "config_kwargs": pool}


def check_apart(source: str, output: str, *, may_hold: bool = False) -> None:
    """Refuse an output that is, contains or lies in its input.

    Parameters
    ----------
    source, output : str
        URLs of the two.
    may_hold : bool
        Allow an output that contains the source: a folder for a few files.

    Raises
    ------
    InputError
        With both places.
    """
    inner, outer = sorted((_parts(source), _parts(output)), key=len, reverse=True)
    if inner[: len(outer)] == outer and not (may_hold and inner == _parts(source) != outer):
        how = "is" if inner == outer else "lies in" if outer == _parts(source) else "holds"
        raise InputError(f"The output {output} {how} the input {source}. Choose another place for the output.")


def _parts(url: str) -> tuple[str, ...]:
    """A place as its kind of store and the names on the way to it; links of the file system are followed."""
    if is_local(url):
        return ("file", *local_path(url).resolve().parts)
    protocol, _, rest = url.rpartition("::")[2].partition("://")
    entry = known_implementations.get(protocol)
    return (entry["class"] if entry else protocol, *(name for name in rest.split("/") if name not in ("", ".")))


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

"""Folders on any file system or object store, whose files are written whole.

On a file system a file is written under a temporary name and renamed; an object store's put is whole by itself. A
folder holds no open handle.
"""

from __future__ import annotations

import contextlib
import json
import sys
import uuid
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec
from fsspec.registry import known_implementations

from cellscale.errors import DamagedError, ExistsError, MissingError, StoreError

_FOREIGN = {
    "botocore.exceptions": ("BotoCoreError", "ClientError"),
    "aiohttp.client_exceptions": ("ClientError",),
    "google.auth.exceptions": ("GoogleAuthError",),
    "gcsfs.retry": ("HttpError",),
    "azure.core.exceptions": ("AzureError",),
}
_EXTRAS = {
    "s3": "s3",
    "gs": "gcs",
    "gcs": "gcs",
    "az": "azure",
    "abfs": "azure",
    "abfss": "azure",
    "http": "http",
    "https": "http",
}
_KEYS = {
    "s3": 'set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or pass storage options such as {"key": …, "secret": …}; '
    '{"anon": true} for a public bucket',
    "gcs": 'run `gcloud auth application-default login`, or pass storage options such as {"token": "key.json"}; '
    '{"token": "anon"} for a public bucket',
    "azure": "set AZURE_STORAGE_CONNECTION_STRING, or pass storage options such as "
    '{"account_name": …, "account_key": …}; {"anon": true} for a public container',
}
_CREDENTIALS = (
    "credential",
    "403",
    "401",
    "forbidden",
    "accessdenied",
    "access denied",
    "signature",
    "invalidaccesskey",
)


def failures() -> tuple[type[Exception], ...]:
    """Exceptions that reading or writing may raise: those of the loaded cloud libraries share no ancestor."""
    loaded = ((sys.modules[module], names) for module, names in _FOREIGN.items() if module in sys.modules)
    foreign = tuple(getattr(module, name) for module, names in loaded for name in names if hasattr(module, name))
    ours = (OSError, ImportError, ValueError, TypeError, RuntimeError, LookupError, EOFError, zlib.error)
    return (*ours, zipfile.BadZipFile, *foreign)


def advice(error: BaseException, url: str) -> str:
    """What to do about a failure, as a sentence."""
    text = f"{type(error).__name__} {error}".lower()
    if isinstance(error, ImportError):
        extra = _EXTRAS.get(url.partition(":")[0])
        return f"Install cellscale[{extra}]." if extra else "Install the package that it names."
    if isinstance(error, PermissionError) or any(word in text for word in _CREDENTIALS):
        if is_local(url):
            return "Check the permissions of the folder."
        if url.startswith("http"):
            return (
                "Check the address and its access rights; for a bucket give its own URL, e.g. s3://…, and credentials."
            )
        return f"Check the credentials: {_KEYS[_EXTRAS.get(url.partition(':')[0], 's3')]}."
    if is_local(url):
        return "Check the path."
    return "Check the URL, the storage options and the connection."


@contextlib.contextmanager
def explained(action: str, url: str) -> Iterator[None]:
    """Turn any failure of the storage libraries into a StoreError that names the place and the way out."""
    try:
        yield
    except (StoreError, ExistsError, MissingError):
        raise
    except failures() as error:
        reason = f"{type(error).__name__}: {error}".strip(": ")
        raise StoreError(f"Cannot {action} {url}: {reason}. {advice(error, url)}") from error


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

    def write(self, name: str, data: bytes) -> None:
        """Write a file whole."""
        file_system, path = self._open(name)
        local = "file" in file_system.protocol
        target = f"{path}.{uuid.uuid4().hex}{PART}" if local else path
        with explained("write", f"{self.url}/{name}"):
            if local:
                file_system.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
            file_system.pipe_file(target, data)
            if local:
                file_system.mv(target, path)

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

    def write_json(self, name: str, value: Any) -> None:
        """Write a value of JSON's types."""
        self.write(name, json.dumps(value, indent=2, sort_keys=True).encode())

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

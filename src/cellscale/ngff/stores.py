"""Where bytes lie: local folders, zip files, object stores and web servers, behind one picklable value.

A store holds no open handle. Objects are written whole; on a file system under a temporary name that is renamed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import uuid
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import fsspec
import zarr
from zarr.abc.store import Store as ZarrStore
from zarr.storage import FsspecStore, LocalStore, ZipStore

from cellscale.errors import ExistsError, MissingError, StoreError

ZIPS = (".zip", ".ozx")
DOCUMENTS = ("zarr.json", ".zgroup", ".zattrs", ".zarray")
_FOREIGN = {
    "botocore.exceptions": ("BotoCoreError", "ClientError"),
    "aiohttp.client_exceptions": ("ClientError",),
    "google.auth.exceptions": ("GoogleAuthError",),
    "gcsfs.retry": ("HttpError",),
    "azure.core.exceptions": ("AzureError",),
}
_EXTRAS = {"s3": "s3", "gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure"}
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
        return (
            "Check the credentials: for S3 set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or pass storage options "
            'such as {"key": …, "secret": …}; {"anon": true} for a public bucket.'
        )
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


def joined(url: str, *names: str) -> str:
    """A URL below another."""
    return "/".join([url.rstrip("/"), *(name.strip("/") for name in names if name.strip("/"))])


def _temporary(path: Path) -> Path:
    return path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")


@dataclass(frozen=True, kw_only=True)
class Store:
    """A folder of Zarr documents and chunks: URL and fsspec options, nothing open."""

    url: str
    storage_options: Mapping[str, Any] = field(default_factory=dict)

    def child(self, *names: str) -> Store:
        """The store of a group or array below."""
        return Store(url=joined(self.url, *names), storage_options=self.storage_options)

    @property
    def zip_file(self) -> tuple[Path, str] | None:
        """Path of the zip file that the store lies in and its place there, or None."""
        if not is_local(self.url):
            return None
        path = local_path(self.url)
        for outer in (path, *path.parents):
            if outer.suffix in ZIPS and outer.is_file():
                return outer, "" if outer == path else path.relative_to(outer).as_posix()
        return None

    @property
    def read_only(self) -> bool:
        """Whether the kind of store cannot be written."""
        return self.url.startswith(("http://", "https://")) or self.zip_file is not None

    def _fs(self) -> tuple[Any, str]:
        with explained("open", self.url):
            file_system, path = fsspec.core.url_to_fs(self.url, **self.storage_options)
        return file_system, path.rstrip("/")

    def read_bytes(self, name: str) -> bytes | None:
        """An object's bytes, or None where there is none; StoreError where it cannot be read."""
        with explained("read", self.url):
            inside = self.zip_file
            if inside:
                with zipfile.ZipFile(inside[0]) as archive:
                    found = f"{inside[1]}/{name}".lstrip("/")
                    return archive.read(found) if found in archive.namelist() else None
            if is_local(self.url):
                path = local_path(self.url) / name
                return path.read_bytes() if path.is_file() else None
            file_system, folder = self._fs()
            try:
                data: bytes = file_system.cat_file(f"{folder}/{name}")
            except FileNotFoundError:
                return None
            return data

    def read_json(self, name: str) -> dict[str, Any] | None:
        """A JSON object, or None where there is none; StoreError for damaged text."""
        data = self.read_bytes(name)
        if data is None:
            return None
        try:
            document = json.loads(data)
        except ValueError as error:
            raise StoreError(f"{joined(self.url, name)} is damaged: it is no JSON ({error}).") from error
        if not isinstance(document, dict):
            raise StoreError(
                f"{joined(self.url, name)} is damaged: expected a JSON object, got {type(document).__name__}."
            )
        return document

    def write_json(self, name: str, document: Mapping[str, Any]) -> None:
        """Write a JSON object whole."""
        self.writable()
        data = json.dumps(document, indent=2).encode()
        with explained("write", self.url):
            if not is_local(self.url):
                file_system, folder = self._fs()
                file_system.pipe_file(f"{folder}/{name}", data)
                return
            path = local_path(self.url) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            part = _temporary(path)
            part.write_bytes(data)
            os.replace(part, path)

    def writable(self) -> None:
        """Raise StoreError for a store that is read only by its kind."""
        if self.read_only:
            kind = "web servers" if "://" in self.url else "zip files"
            raise StoreError(f"Cannot write {self.url}: {kind} are read only. Give another store with --output.")

    def delete_object(self, name: str) -> None:
        """Delete one object, if it exists."""
        self.writable()
        with explained("delete", joined(self.url, name)):
            file_system, folder = self._fs()
            with contextlib.suppress(FileNotFoundError):
                file_system.rm_file(f"{folder}/{name}")

    def remove(self) -> None:
        """Delete the folder and all in it, if it exists."""
        self.writable()
        with explained("delete", self.url):
            if is_local(self.url):
                path = local_path(self.url)
                if path.exists():
                    shutil.rmtree(path)
                return
            file_system, folder = self._fs()
            file_system.invalidate_cache()
            with contextlib.suppress(FileNotFoundError):
                file_system.rm(folder, recursive=True)

    def is_zarr(self) -> bool:
        """Whether there is a Zarr group or array."""
        return any(self.read_bytes(name) is not None for name in DOCUMENTS)

    def occupied(self) -> bool:
        """Whether anything lies there, Zarr or not."""
        if is_local(self.url):
            path = local_path(self.url)
            return path.is_file() or (path.is_dir() and any(path.iterdir()))
        with explained("list", self.url):
            file_system, folder = self._fs()
            file_system.invalidate_cache()
            try:
                return bool(file_system.ls(folder, detail=False))
            except FileNotFoundError:
                return False

    def make_room(self, *, overwrite: bool) -> None:
        """Refuse an occupied place, or delete what a Zarr store has left there.

        Raises
        ------
        ExistsError
            Without `overwrite`; with it, for anything that is no Zarr store.
        """
        self.writable()
        if not self.occupied():
            return
        if not overwrite:
            raise ExistsError(f"{self.url} exists already. Choose another destination, or use --overwrite.")
        if not self.is_zarr():
            raise ExistsError(
                f"{self.url} exists and is no Zarr store; it is not overwritten. Choose another destination."
            )
        self.remove()

    def _zarr(self, *, read_only: bool) -> tuple[ZarrStore, str]:
        inside = self.zip_file
        if inside:
            return ZipStore(inside[0], mode="r", read_only=True), inside[1]
        if is_local(self.url):
            return LocalStore(local_path(self.url), read_only=read_only), ""
        options = dict(self.storage_options)
        return FsspecStore.from_url(self.url, storage_options=options, read_only=read_only), ""

    @contextlib.contextmanager
    def array(self, path: str, mode: Literal["r", "r+"] = "r") -> Iterator[zarr.Array[Any]]:
        """Open an array for one use.

        Raises
        ------
        MissingError
            If there is no such array.
        StoreError
            If the store cannot be read, or the array's metadata are not understood.
        """
        if mode == "r+":
            self.writable()
        with explained("open array", joined(self.url, path)):
            store, prefix = self._zarr(read_only=mode == "r")
            try:
                opened = zarr.open_array(store, path=f"{prefix}/{path}".strip("/"), mode=mode)
            except FileNotFoundError as error:
                store.close()
                raise MissingError(
                    f"{joined(self.url, path)} is no Zarr array; it is missing or incomplete."
                ) from error
        try:
            yield opened
        finally:
            store.close()

    def create_array(self, path: str, **settings: Any) -> None:
        """Create an array, as zarr's create_array does; one in its place is replaced."""
        self.writable()
        with explained("create array", joined(self.url, path)):
            store, prefix = self._zarr(read_only=False)
            zarr.create_array(store, name=f"{prefix}/{path}".strip("/"), overwrite=True, **settings)
            store.close()

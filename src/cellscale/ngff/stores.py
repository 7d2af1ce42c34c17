"""Stores: local folders, zip files, object stores and web servers, behind one picklable value.

A store holds no open handle. Objects are written whole; on a file system under a temporary name that is renamed.
"""

from __future__ import annotations

import contextlib
import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import zarr
from zarr.abc.store import ByteRequest
from zarr.abc.store import Store as ZarrStore
from zarr.core.array import parse_array_metadata
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype
from zarr.core.sync import sync
from zarr.errors import ContainsArrayError
from zarr.storage import FsspecStore, LocalStore, StorePath, WrapperStore, ZipStore

from cellscale.errors import MissingError, StoreError
from cellscale.ngff.bounded import BoundedStore, codec_names
from cellscale.ngff.limits import check_array, check_zip
from cellscale.storage.documents import parsed
from cellscale.storage.errors import explained
from cellscale.storage.folder import Folder
from cellscale.storage.json_text import json_text
from cellscale.storage.reading import read_again
from cellscale.storage.traffic import request
from cellscale.storage.urls import client_options, is_local, local_path

ZIPS = (".zip", ".ozx")
DOCUMENTS = ("zarr.json", ".zgroup", ".zattrs", ".zarray")
ARRAY_DOCUMENTS = {3: "zarr.json", 2: ".zarray"}
"""Name of an array's document by Zarr's version."""


def joined(url: str, *names: str) -> str:
    """A URL below another."""
    return "/".join([url.rstrip("/"), *(name.strip("/") for name in names if name.strip("/"))])


class _Noting(WrapperStore[ZarrStore]):
    """A zarr store that collects the keys of requested chunks and shards that do not exist."""

    def __init__(self, store: ZarrStore, absent: set[str]) -> None:
        """Collect keys in `absent`."""
        super().__init__(store)
        self.absent = absent

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """Read an object; None where there is none."""
        found: Buffer | None = await super().get(key, prototype, byte_range)
        if found is None and key.rsplit("/", 1)[-1] not in DOCUMENTS:
            self.absent.add(key)
        return found


def _text(array: zarr.Array[Any]) -> str:
    """The document of an array that was made."""
    written = array.metadata.to_buffer_dict(default_buffer_prototype())
    document = json.loads(written[ARRAY_DOCUMENTS[array.metadata.zarr_format]].to_bytes())
    return json.dumps({key: value for key, value in document.items() if key != "attributes"})


class _RemoteStore(FsspecStore):
    """A remote store that deletes an object by one request."""

    async def delete(self, key: str) -> None:
        """Delete an object, if it is there."""
        # zarr "deletes" every chunk of background alone, whether it was ever there or not; its own way asks first
        # whether the object exists, by a request for it and a listing.
        with contextlib.suppress(*self.allowed_exceptions):
            await self.fs._rm_file(f"{self.path}/{key}")


class _Parsed(NamedTuple):
    """An array, as its document describes it."""

    metadata: Any
    """Zarr's metadata of the array."""
    codecs: tuple[str, ...]
    """Names of all codecs."""


@lru_cache(maxsize=64)
def _parsed(document: str) -> _Parsed:
    """Parse the document of an array, once for all uses: it takes longer than to read a small chunk from a disk."""
    metadata = parse_array_metadata(json.loads(document))
    return _Parsed(metadata, tuple(codec_names(metadata.to_dict())))


async def _opened(url: str, options: dict[str, Any], *, read_only: bool) -> FsspecStore:
    """Open a remote store in the thread of zarr's event loop.

    fsspec keeps a client, with its connections, for each thread that opens a store: here all share one.
    """
    return _RemoteStore.from_url(url, storage_options=options, read_only=read_only)


class _CountedStore(WrapperStore[ZarrStore]):
    """A zarr store whose requests are counted."""

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """Read an object or a part of one; None where there is none."""
        with request("GET") as made:
            found: Buffer | None = await super().get(key, prototype, byte_range)
            made.read_bytes = 0 if found is None else len(found)
        return found

    async def set(self, key: str, value: Buffer) -> None:
        """Write an object."""
        with request("PUT") as made:
            made.written_bytes = len(value)
            await super().set(key, value)

    async def delete(self, key: str) -> None:
        """Delete an object, if it is there."""
        with request("DELETE"):
            await super().delete(key)


class _OverwritingStore(WrapperStore[ZarrStore]):
    """A zarr store whose objects are written whole, and never read.

    zarr reads a shard before it writes one, also where every chunk of it is new.
    """

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """Return None: every object is made anew."""
        return None


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
        """Path of the zip file that contains the store, and the store's path in it, or None."""
        if not is_local(self.url):
            return None
        path = local_path(self.url)
        for outer in (path, *path.parents):
            if outer.suffix in ZIPS and outer.is_file():
                return outer, "" if outer == path else path.relative_to(outer).as_posix()
        return None

    def zipped_folder(self) -> str | None:
        """The only outermost Zarr group in a zip file whose root is not a group: the folder that was zipped."""
        inside = self.zip_file
        if inside is None or inside[1]:
            return None
        with explained("read", self.url), zipfile.ZipFile(inside[0]) as archive:
            names = archive.namelist()
        groups = {name.rpartition("/")[0] for name in names if name.rpartition("/")[2] in DOCUMENTS}
        depth = min((group.count("/") for group in groups), default=0)
        outermost = [group for group in groups if group.count("/") == depth]
        return outermost[0] if len(outermost) == 1 else None

    @property
    def on_disk(self) -> bool:
        """Whether objects are files of this machine."""
        return is_local(self.url) and self.zip_file is None

    @property
    def read_only(self) -> bool:
        """Whether the kind of store cannot be written."""
        return self.url.startswith(("http://", "https://")) or self.zip_file is not None

    @property
    def folder(self) -> Folder:
        """The same place, for files that are not Zarr arrays."""
        return Folder(url=self.url, storage_options=self.storage_options)

    def read_bytes(self, name: str) -> bytes | None:
        """An object's bytes, or None where there is none; StoreError where it cannot be read."""
        with explained("read", self.url, self.storage_options):
            inside = self.zip_file
            if inside:
                check_zip(inside[0])
                with zipfile.ZipFile(inside[0]) as archive:
                    found = f"{inside[1]}/{name}".lstrip("/")
                    return archive.read(found) if found in archive.namelist() else None
        return self.folder.read(name)

    def read_json(self, name: str) -> dict[str, Any] | None:
        """A JSON object, or None where there is none; StoreError for damaged text."""
        data = self.read_bytes(name)
        return None if data is None else self.parsed(data, name)

    def parsed(self, data: bytes, name: str) -> dict[str, Any]:
        """The JSON object in the bytes of an object of this name; StoreError for damaged text."""
        document = parsed(data, joined(self.url, name))
        if not isinstance(document, dict):
            raise StoreError(
                f"{joined(self.url, name)} is damaged: expected a JSON object, got {type(document).__name__}."
            )
        return document

    def write_json(self, name: str, document: Mapping[str, Any]) -> None:
        """Write a JSON object whole."""
        self.writable()
        self.folder.write(name, json_text(document, indent=2).encode())

    def writable(self) -> None:
        """Raise StoreError for a kind of store that is read-only."""
        if self.read_only:
            kind = "web servers" if "://" in self.url else "zip files"
            raise StoreError(f"Cannot write {self.url}: {kind} are read only. Give another store with --output.")

    def delete_object(self, name: str) -> None:
        """Delete one object, if it exists."""
        self.writable()
        self.folder.delete(name)

    def remove(self) -> None:
        """Delete the folder with its contents, if it exists."""
        self.writable()
        self.folder.remove()

    def is_zarr(self) -> bool:
        """Whether there is a Zarr group or array."""
        return any(self.read_bytes(name) is not None for name in DOCUMENTS)

    def occupied(self) -> bool:
        """Whether anything exists at the URL, Zarr or not."""
        if is_local(self.url) and local_path(self.url).is_file():
            return True
        return bool(self.folder.names())

    def _zarr(self, *, read_only: bool) -> tuple[ZarrStore, str]:
        inside = self.zip_file
        if inside:
            check_zip(inside[0])
            return _CountedStore(sync(ZipStore.open(inside[0], mode="r", read_only=True))), inside[1]
        if is_local(self.url):
            return _CountedStore(LocalStore(local_path(self.url), read_only=read_only)), ""
        options = client_options(self.url, self.storage_options)
        return _CountedStore(sync(_opened(self.url, options, read_only=read_only))), ""

    def array_document(self, path: str, zarr_format: int) -> str:
        """Read the document of an array: its shape, type, chunks and codecs, as JSON text without attributes.

        Parameters
        ----------
        path : str
            The array, below the store.
        zarr_format : int
            2 or 3: the version that is looked for first.

        Raises
        ------
        MissingError
            If there is no such array.
        StoreError
            If the store cannot be read, or the document is damaged.
        """
        for version in (zarr_format, 5 - zarr_format):
            name = f"{path}/{ARRAY_DOCUMENTS[version]}"
            document = read_again(partial(self.read_json, name))
            if document is not None:
                return json.dumps({key: value for key, value in document.items() if key != "attributes"})
        raise MissingError(f"{joined(self.url, path)} is not a Zarr array; it is missing or incomplete.")

    @contextlib.contextmanager
    def array(
        self,
        path: str,
        mode: Literal["r", "r+"] = "r",
        *,
        document: str | None = None,
        absent: set[str] | None = None,
    ) -> Iterator[zarr.Array[Any]]:
        """Open an array for one use.

        Parameters
        ----------
        path : str
            The array, below the store.
        mode : {"r", "r+"}
            Read; or write whole objects, whose former content is not read.
        document : str, optional
            Result of `array_document`, so that opening the array takes no request; None: it is read now.
        absent : set of str, optional
            Gets the keys of chunks and shards that are read and do not exist.

        Raises
        ------
        MissingError
            If there is no such array.
        StoreError
            If the store cannot be read, or the array's metadata are not understood.
        """
        if mode == "r+":
            self.writable()
        url = joined(self.url, path)
        with explained("open array", url, self.storage_options):
            store, prefix = self._zarr(read_only=mode == "r")
            store = store if absent is None else _Noting(store, absent)
            store = _OverwritingStore(store) if mode == "r+" else store
        bounded = BoundedStore(store)
        try:
            with explained("open array", url, self.storage_options):
                known = _parsed(document or self.array_document(path, 3))
                place = StorePath(bounded, f"{prefix}/{path}".strip("/"))
                opened = zarr.Array(zarr.AsyncArray(metadata=known.metadata, store_path=place))
                check_array(opened, url)
                bounded.check(opened, url, known.codecs)
            yield opened
        finally:
            store.close()

    def create_array(self, path: str, *, new: bool = False, **settings: Any) -> str:
        """Create an array, as zarr's create_array does; keep an existing one, unless it is known that there is none.

        Returns
        -------
        str
            Its document, see `array_document`.
        """
        self.writable()
        with explained("create array", joined(self.url, path), self.storage_options):
            # A store at the array itself: zarr asks for the groups on the way from the root of a store to an array.
            store, _ = self.child(path)._zarr(read_only=False)
            store = _OverwritingStore(store) if new else store
            try:
                made = zarr.create_array(store, **settings)
                document = _text(made)
            except ContainsArrayError:
                document = self.array_document(path, settings["zarr_format"])
            finally:
                store.close()
        if self.on_disk:
            folder = self.child(path).folder
            folder.flush(name for name in DOCUMENTS if folder.exists(name))
        return document

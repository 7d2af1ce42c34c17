"""Stores on this machine's HTTP: read only, byte ranges, open to pages of any origin.

Web viewers ask for chunks, for the end of a shard (its index) and for parts of shards, from a page of another origin.
Whatever the store lies in is read through fsspec, so a zip file or a private bucket is served like a folder.
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cellscale.errors import InputError, StoreError
from cellscale.ngff.stores import Store
from cellscale.storage.folder import Folder

log = logging.getLogger("cellscale")
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_HEADERS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Headers": "Range",
    "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
    "Access-Control-Allow-Private-Network": "true",
    "Access-Control-Expose-Headers": "Content-Range, Content-Length, Accept-Ranges",
    "Accept-Ranges": "bytes",
    "Cache-Control": "no-cache",
}


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """The bytes [start, stop) that a Range header asks for; None: all.

    Raises
    ------
    InputError
        For a range that begins beyond the end.
    """
    found = _RANGE.fullmatch(header or "")
    if found is None or not any(found.groups()):
        return None
    first, last = found.groups()
    start = int(first) if first else max(0, size - int(last))
    stop = min(size, int(last) + 1) if first and last else size
    if start >= stop:
        raise InputError(f"Range {header!r} lies outside of a file of {size} bytes.")
    return start, stop


def served_folder(store: Store) -> Folder:
    """The place of a store's files, inside a zip file, too."""
    inside = store.zip_file
    if inside is None:
        return store.folder
    return Folder(url=f"zip://{inside[1]}::file://{inside[0].as_posix()}")


class _Handler(BaseHTTPRequestHandler):
    """Answers for the folders that it is made with."""

    protocol_version = "HTTP/1.1"

    def __init__(self, folders: Mapping[str, Folder], *args: object) -> None:
        self.folders = folders
        super().__init__(*args)  # type: ignore[arg-type]

    def do_OPTIONS(self) -> None:
        """Allow pages of other origins to ask."""
        self._answer(HTTPStatus.NO_CONTENT, b"")

    def do_HEAD(self) -> None:
        """Tell the size."""
        self._serve(body=False)

    def do_GET(self) -> None:
        """Send a file, or the part that is asked for."""
        self._serve(body=True)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the terminal for what matters."""
        log.debug(format, *args)

    def _serve(self, *, body: bool) -> None:
        mount, _, name = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path).lstrip("/").partition("/")
        if mount not in self.folders or {"..", ""} & set(name.split("/")):
            self._answer(HTTPStatus.NOT_FOUND, b"")
            return
        try:
            self._send(self.folders[mount], name, body=body)
        except StoreError as error:
            log.warning("%s", error)
            self._answer(HTTPStatus.BAD_GATEWAY, str(error).encode())

    def _send(self, folder: Folder, name: str, *, body: bool) -> None:
        size = folder.size(name)
        if size is None:
            self._answer(HTTPStatus.NOT_FOUND, b"")
            return
        try:
            part = byte_range(self.headers.get("Range"), size)
        except InputError:
            self._answer(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, b"", {"Content-Range": f"bytes */{size}"})
            return
        start, stop = part or (0, size)
        told = {"Content-Range": f"bytes {start}-{stop - 1}/{size}"} if part else {}
        data = (folder.read(name, start=start, stop=stop) or b"") if body and stop > start else b""
        status = HTTPStatus.PARTIAL_CONTENT if part else HTTPStatus.OK
        self._answer(status, data, {**told, "Content-Length": str(stop - start)})

    def _answer(self, status: HTTPStatus, data: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**_HEADERS, "Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(data)


@contextlib.contextmanager
def listening(host: str, port: int) -> Iterator[None]:
    """Explain why a server cannot be started."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"Cannot listen on {host}, port {port}: {error}. Choose another port: it and the next one must be free."
        ) from error


@contextlib.contextmanager
def serving(stores: Mapping[str, Store], *, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serve stores, each below its name, while the context lasts; yields the server's address, http://HOST:PORT.

    Parameters
    ----------
    stores : mapping of str to Store
        By the first part of their paths.
    host : str
        Address to listen on; 127.0.0.1 is seen by this machine alone.
    port : int
        0: one that is free.

    Raises
    ------
    InputError
        If the address cannot be listened on.
    """
    folders = {name: served_folder(store) for name, store in stores.items()}
    with listening(host, port):
        made = ThreadingHTTPServer((host, port), partial(_Handler, folders))
    with made as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://{host}:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()

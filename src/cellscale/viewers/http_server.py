"""HTTP server of stores on this machine's loopback, for one viewer: read-only, in byte ranges, protected by a token.

A web viewer requests chunks, the end of a shard (its index) and parts of shards, from a page of another origin. Stores
are read through fsspec, so a zip file or a private bucket is served like a folder.

Any page in the user's browser can send requests to 127.0.0.1, and any program on the machine can connect. So an answer
needs a random token in the path; the Host header must name the loopback (a foreign name that resolves to it would make
the page of an attacker same-origin); pages of other origins than the viewer's are refused; nothing outside the stores
is read, not even through links; and clients that are slow or many cost a bounded number of threads and bytes.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import re
import secrets
import socket
import threading
import time
import urllib.parse
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

from cellscale.errors import InputError, StoreError
from cellscale.ngff.stores import Store
from cellscale.storage.folder import Folder
from cellscale.storage.urls import is_local, local_path

log = logging.getLogger("cellscale")
MAX_CLIENTS = 64
"""Greatest number of connections: a browser opens at most six to a host, and a few tabs may be open."""
WAIT_S = 15.0
"""Longest wait for a request to arrive whole, the pause before it included, s."""
SEND_S = 20.0
"""Longest time that a client takes for one block, s: slower ones lose the connection."""
BLOCK_BYTES = 2**20
"""Bytes of a file that are held for a client."""
_PORTS = 2**16
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_HOST = re.compile(r"(localhost|127(\.\d{1,3}){3})(:\d{1,5})?", re.IGNORECASE)


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """The bytes [start, stop) that a Range header asks for; None: all, also for a header that is not understood.

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


def _holds(folder: Folder, name: str) -> bool:
    """Whether a name stays below the folder, after following links."""
    if {"..", ".", ""} & set(name.split("/")) or "\0" in name:
        return False
    if not is_local(folder.url):
        return True
    root = os.path.realpath(local_path(folder.url))
    return os.path.realpath(f"{root}/{name}").startswith(f"{root.rstrip('/')}/")


class _Server(ThreadingHTTPServer):
    """A thread for each connection, and no more than MAX_CLIENTS of them."""

    daemon_threads = True
    request_queue_size = MAX_CLIENTS

    def __init__(self, address: tuple[str, int], handler: Any) -> None:
        super().__init__(address, handler)
        self._lock = threading.Lock()
        self._clients: set[Any] = set()
        self._waiting: dict[Any, float] = {}
        """Connections whose request has not arrived, and since when, s."""

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection; where there are too many, the one that has waited longest, or this one, is closed."""
        with self._lock:
            full = len(self._clients) >= MAX_CLIENTS
            oldest = next(iter(self._waiting), None) if full else None
            if oldest is not None:
                self._drop(oldest)
            admitted = not full or oldest is not None
            if admitted:
                self._clients.add(request)
                self._waiting[request] = time.monotonic()
        if admitted:
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        with self._lock:
            self._clients.discard(request)
            self._waiting.pop(request, None)
        super().shutdown_request(request)

    def awaits(self, request: Any, *, arrived: bool) -> None:
        """Record that this connection waits for a request, or that the request has arrived."""
        with self._lock:
            self._waiting.pop(request, None)
            if not arrived and request in self._clients:
                self._waiting[request] = time.monotonic()

    def service_actions(self) -> None:
        """Close connections that have waited too long; called between connections, twice a second."""
        with self._lock:
            now = time.monotonic()
            for request in [request for request, since in self._waiting.items() if now - since > WAIT_S]:
                self._drop(request)

    def _drop(self, request: Any) -> None:
        """End a connection, whose thread then forgets it; the lock is held."""
        self._waiting.pop(request, None)
        self._clients.discard(request)
        with contextlib.suppress(OSError):
            request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing: clients that disconnect are not errors."""
        log.debug("a connection ended early", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    """Answers for the folders that it is made with."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "cellscale", ""
    timeout = SEND_S

    def __init__(self, folders: Mapping[str, Folder], token: str, origins: Collection[str], *args: object) -> None:
        self.folders = folders
        self.token = token
        self.origins = origins
        super().__init__(*args)  # type: ignore[arg-type]

    def handle_one_request(self) -> None:
        """Wait for a request and answer it."""
        cast("_Server", self.server).awaits(self.connection, arrived=False)
        super().handle_one_request()

    def parse_request(self) -> bool:
        """Read a request; refuse those of foreign names and pages, whatever they ask for."""
        understood = super().parse_request()
        cast("_Server", self.server).awaits(self.connection, arrived=True)
        if understood and not self._admitted():
            self.close_connection = True
            self._answer(HTTPStatus.FORBIDDEN)
            return False
        return understood

    def _admitted(self) -> bool:
        hosts, origins = self.headers.get_all("Host") or [], self.headers.get_all("Origin") or []
        return len(hosts) == 1 and _HOST.fullmatch(hosts[0]) is not None and set(origins) <= set(self.origins)

    def do_OPTIONS(self) -> None:
        """Allow the viewer's page to ask for parts of files."""
        self._answer(HTTPStatus.NO_CONTENT)

    def do_HEAD(self) -> None:
        """Send the size."""
        self._serve(body=False)

    def do_GET(self) -> None:
        """Send a file, or the part that is asked for."""
        self._serve(body=True)

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""
        log.debug(format, *args)

    def _serve(self, *, body: bool) -> None:
        path = urllib.parse.unquote(self.path.partition("?")[0])
        root, token, mount, name = (*path.split("/", 3), "", "", "")[:4]
        known = secrets.compare_digest(token.encode(errors="replace"), self.token.encode())
        folder = self.folders.get(mount) if known and not root else None
        try:
            if folder is None or not _holds(folder, name):
                self._answer(HTTPStatus.NOT_FOUND)
            else:
                self._send(folder, name, body=body)
        except StoreError as error:
            log.warning("%s", error)
            self._answer(HTTPStatus.BAD_GATEWAY)

    def _send(self, folder: Folder, name: str, *, body: bool) -> None:
        size = folder.size(name)
        if size is None:
            self._answer(HTTPStatus.NOT_FOUND)
            return
        try:
            part = byte_range(self.headers.get("Range"), size)
        except InputError:
            self._answer(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, {"Content-Range": f"bytes */{size}"})
            return
        start, stop = part or (0, size)
        headers = {"Content-Range": f"bytes {start}-{stop - 1}/{size}"} if part else {}
        status = HTTPStatus.PARTIAL_CONTENT if part else HTTPStatus.OK
        self._answer(status, {**headers, "Content-Length": str(stop - start)})
        if body:
            self._stream(folder, name, start, stop)

    def _stream(self, folder: Folder, name: str, start: int, stop: int) -> None:
        """Send bytes [start, stop) block by block; a body that stays short ends the connection."""
        try:
            for block in folder.blocks(name, start=start, stop=stop, size=BLOCK_BYTES):
                self.wfile.write(block)
                start += len(block)
        except StoreError as error:
            log.warning("%s", error)
        except OSError:
            log.debug("a client disconnected or did not read for %g s", SEND_S)
        self.close_connection |= start < stop

    def _answer(self, status: HTTPStatus, headers: Mapping[str, str] | None = None) -> None:
        """Send a status and headers, and permission to read where the viewer's page asks."""
        self.send_response(status)
        allowed = self.headers.get("Origin")
        shared = {
            "Access-Control-Allow-Origin": str(allowed),
            "Access-Control-Allow-Headers": "Range",
            "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
            "Access-Control-Allow-Private-Network": "true",
            "Access-Control-Expose-Headers": "Content-Range, Content-Length, Accept-Ranges",
        }
        always = {
            "Content-Length": "0",
            "Content-Type": "application/octet-stream",
            "X-Content-Type-Options": "nosniff",
            "Accept-Ranges": "bytes",
            "Cache-Control": "no-cache",
            "Vary": "Origin",
        }
        for name, value in {**always, **(shared if allowed in self.origins else {}), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.IPv4Address(host).is_loopback
    except ValueError:
        return False


@contextlib.contextmanager
def listening(host: str, port: int) -> Iterator[None]:
    """Explain why a server cannot be started, and refuse addresses that other machines can reach.

    Raises
    ------
    InputError
        For an address beyond this machine's loopback, or a port that is taken or does not exist.
    """
    if not _is_loopback(host):
        raise InputError(
            f"A view is served to this machine only, not at {host!r}; expected 127.0.0.1. From another machine use "
            "a tunnel to both ports: `ssh -L 9000:127.0.0.1:9000 -L 9001:127.0.0.1:9001 HOST`, and `--port 9000` there."
        )
    if not 0 <= port < _PORTS:
        raise InputError(f"Port {port} is not valid; expected 1 to {_PORTS - 1}, or 0 for any free ports.")
    try:
        yield
    except OSError as error:
        raise InputError(
            f"Cannot listen on {host}, port {port}: {error}. Choose another port: it and the next one must be free."
        ) from error


@contextlib.contextmanager
def serving(
    stores: Mapping[str, Store], *, host: str = "127.0.0.1", port: int = 0, origins: Collection[str] = ()
) -> Iterator[str]:
    """Serve stores, each below its name, while the context lasts; yields their address, http://HOST:PORT/TOKEN.

    Parameters
    ----------
    stores : mapping of str to Store
        By the part of their paths after the token.
    host : str
        Address to listen on, of this machine's loopback.
    port : int
        0: one that is free.
    origins : collection of str
        Origins of the pages that may read, as http://HOST:PORT; programs that are not pages need the token only.

    Raises
    ------
    InputError
        If the address cannot be listened on.
    """
    folders, token = {name: served_folder(store) for name, store in stores.items()}, secrets.token_urlsafe(16)
    with listening(host, port):
        made = _Server((host, port), partial(_Handler, folders, token, origins))
    with made as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://{host}:{server.server_address[1]}/{token}"
        finally:
            server.shutdown()
            thread.join()

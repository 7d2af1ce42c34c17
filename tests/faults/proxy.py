"""A web proxy on loopback that stands between a client and a store and fails by a seeded plan."""

from __future__ import annotations

import random
import re
import socket
import struct
import threading
import time
import uuid
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

HOLD_S = 4.0
"""How long a request that times out is held; clients wait for less."""
LAG_S = 1.0
"""How young an object is that a listing may not have yet."""
SLOW_S = 1.5
"""How long a slow answer takes."""


@dataclass(frozen=True, kw_only=True)
class Storm:
    """Which requests fail, and how: a pure function of the seed, the object and how often it was asked for."""

    seed: int = 0
    kinds: tuple[str, ...] = ()
    """500, 503, timeout, reset (no answer), lost (carried out, no answer), slow, truncated, flipped (an object has
    another byte), etag (an unknown ETag), lagging (a listing without half of the objects
    of the last second)."""
    share: float = 0.1
    """Part of the objects that are hit."""
    most: int = 2
    """Most failures of one object."""
    lasting: str = ""
    """Requests to paths with this part always fail."""
    delay_s: float = 0.0
    """How long every request waits before it is carried out, s."""

    def kind(self, method: str, path: str, count: int) -> str | None:
        """How the count-th request of a kind to a path fails, or None."""
        if not self.kinds:
            return None
        draw = random.Random(f"{self.seed} {method} {path}")
        kind, fails = draw.choice(self.kinds), draw.randint(1, self.most) if draw.random() < self.share else 0
        return kind if count < fails or (self.lasting and self.lasting in path) else None


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request that was answered."""

    method: str
    path: str
    """With its query, as it was asked for."""
    ranged: str | None
    """The bytes that were asked for, None for a whole object."""
    status: int
    sent: int
    """Bytes of the request's body."""
    received: int
    """Bytes of the answer's body."""
    began: float
    """Time at which it arrived, on the clock of `time.monotonic`, s."""
    ended: float
    """Time at which its answer was ready, s."""


@dataclass(kw_only=True)
class Proxy:
    """What a running proxy knows."""

    url: str = ""
    requests: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    """Requests that failed, by kind."""
    answered: list[Request] = field(default_factory=list)
    """Requests that were carried out, in the order of their answers."""


def _flipped(data: bytes) -> bytes:
    """Bytes with a bit of the middle one changed."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0x10]) + data[middle + 1 :] if data else data


def _lagging(data: bytes, born: Mapping[str, float]) -> bytes:
    """A listing of a bucket without every second object that was written in the last second; other answers as is."""
    young = {key for key, at in born.items() if time.monotonic() - at < LAG_S}

    def kept(match: re.Match[bytes]) -> bytes:
        key = unquote(re.search(rb"<Key>(.*?)</Key>", match[0])[1].decode())  # type: ignore[index]
        return b"" if key in young and zlib.crc32(key.encode()) % 2 else match[0]

    return re.sub(rb"<Contents>.*?</Contents>", kept, data, flags=re.S) if b"<ListBucketResult" in data else data


def _handler(upstream: int, storm: Storm, proxy: Proxy) -> type[BaseHTTPRequestHandler]:
    seen: Counter[tuple[str, str]] = Counter()
    born: dict[str, float] = {}
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 60

        def _kind(self) -> str | None:
            what = (self.command, self.path)
            with lock:
                kind = storm.kind(*what, seen[what])
                seen[what] += 1
                proxy.requests += 1
                proxy.failed.update([kind] if kind else [])
            return kind

        def _forwarded(self, body: bytes, began: float) -> tuple[int, list[tuple[str, str]], bytes]:
            connection = HTTPConnection("127.0.0.1", upstream, timeout=60)
            headers = {key: value for key, value in self.headers.items() if key.lower() != "connection"}
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            data = answer.read()
            connection.close()
            done = Request(
                method=self.command,
                path=unquote(self.path),
                ranged=self.headers.get("Range"),
                status=answer.status,
                sent=len(body),
                received=len(data),
                began=began,
                ended=time.monotonic(),
            )
            with lock:
                proxy.answered.append(done)
            return answer.status, answer.getheaders(), data

        def _hang_up(self) -> None:
            self.close_connection = True
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

        def _send(self, status: int, headers: list[tuple[str, str]], length: int) -> None:
            self.send_response_only(status)
            for key, value in headers:
                if key.lower() not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(key, value)
            self.send_header("Content-Length", str(length))
            self.end_headers()

        def _refuse(self, status: int) -> None:
            code = {500: "InternalError", 503: "SlowDown"}[status]
            body = f"<Error><Code>{code}</Code><Message>planned</Message></Error>".encode()
            self._send(status, [("Content-Type", "application/xml")], len(body))
            self.wfile.write(b"" if self.command == "HEAD" else body)

        def _answer(self, kind: str | None, status: int, headers: list[tuple[str, str]], data: bytes) -> None:
            if kind == "etag":
                headers = [(key, f'"{uuid.uuid4().hex}"' if key.lower() == "etag" else value) for key, value in headers]
            if kind == "flipped" and self.command == "GET" and not data.startswith(b"<?xml"):
                data = _flipped(data)
            length = next((int(value) for key, value in headers if key.lower() == "content-length"), len(data))
            if kind == "lagging" and self.command == "GET":
                data = _lagging(data, born)
                length = len(data)
            self._send(status, headers, length)
            for start in range(0, len(data), max(1, len(data) // 8)) if kind == "slow" else ():
                time.sleep(SLOW_S / 8)
                self.wfile.write(data[start : start + max(1, len(data) // 8)])
            if kind == "truncated":
                self.wfile.write(data[: len(data) // 2])
                self._hang_up()
            elif kind != "slow":
                self.wfile.write(data)

        def _serve(self) -> None:
            began, body = time.monotonic(), self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.command == "PUT":
                born[unquote(self.path.partition("?")[0].split("/", 2)[-1])] = time.monotonic()
            kind = self._kind()
            time.sleep(storm.delay_s)
            if kind in ("500", "503"):
                self._refuse(int(kind))
            elif kind in ("timeout", "reset"):
                time.sleep(HOLD_S if kind == "timeout" else 0)
                self._hang_up()
            else:
                status, headers, data = self._forwarded(body, began)
                if kind == "lost":
                    self._hang_up()
                else:
                    self._answer(kind, status, headers, data)

        def log_message(self, format: str, *args: Any) -> None:
            """Log nothing."""

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve  # noqa: N815

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are part of the plan."""


@contextmanager
def stormy(upstream: int, storm: Storm) -> Iterator[Proxy]:
    """A proxy before a port of loopback, for the length of the context."""
    proxy = Proxy()
    server = _Server(("127.0.0.1", 0), _handler(upstream, storm, proxy))
    proxy.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

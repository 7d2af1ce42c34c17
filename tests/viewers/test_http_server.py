"""Answers to a web viewer and to everyone else: byte ranges, origins, hosts, tokens, links, slow and many clients."""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellscale.errors import InputError
from cellscale.ngff.stores import Store
from cellscale.viewers import http_server
from cellscale.viewers.http_server import byte_range, serving

CONTENT = bytes(range(200))
VIEWER, STRANGER = "http://127.0.0.1:1234", "https://evil.example"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("stores")
    (folder / "a" / "inner").mkdir(parents=True)
    (folder / "a" / "inner" / "chunk").write_bytes(CONTENT)
    (folder / "secret").write_bytes(b"secret")
    shutil.make_archive(str(folder / "a.zarr"), "zip", folder / "a")
    (folder / "a" / "same").symlink_to("inner/chunk")
    (folder / "a" / "out").symlink_to(folder / "secret")
    (folder / "a" / "folder").symlink_to("..")
    os.mkfifo(folder / "a" / "pipe")
    (folder / "link").symlink_to("a")
    stores = {"a": Store(url=f"{folder}/a"), "zip": Store(url=f"{folder}/a.zarr.zip"), "b": Store(url=f"{folder}/link")}
    with serving(stores, origins=[VIEWER]) as url:
        yield url


def raw(url: str, request: str) -> bytes:
    """The answer to a request as it is written, until the server closes the connection or is silent for 5 s."""
    parts = urllib.parse.urlsplit(url)
    with socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=5) as client:
        client.sendall(request.replace("TOKEN", parts.path[1:]).encode())
        found = b""
        while part := client.recv(65536):
            found += part
    return found


def ask(url: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    method = headers.pop("method", "GET")
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers, method=method), timeout=10) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read()


@pytest.mark.parametrize("mount", ["a", "zip", "b"])
@pytest.mark.parametrize(
    ("asked", "status", "found"),
    [
        (None, 200, CONTENT),
        ("bytes=0-9", 206, CONTENT[:10]),
        ("bytes=190-", 206, CONTENT[190:]),
        ("bytes=-16", 206, CONTENT[-16:]),
        ("bytes=190-900", 206, CONTENT[190:]),
        ("bytes=200-210", 416, b""),
        ("bytes=" + "9" * 18 + "-", 416, b""),
        ("bytes=" + "9" * 5000 + "-", 200, CONTENT),
        ("bytes=0-0,5-6", 200, CONTENT),
    ],
)
def test_byte_ranges(server: str, mount: str, asked: str | None, status: int, found: bytes) -> None:
    code, headers, body = ask(f"{server}/{mount}/inner/chunk", **({"Range": asked} if asked else {}))
    assert (code, body) == (status, found)
    assert "Access-Control-Allow-Origin" not in headers
    if status == 206:
        start = CONTENT.index(found)
        assert headers["Content-Range"] == f"bytes {start}-{start + len(found) - 1}/200"


def test_a_private_bucket_is_passed_on(s3: dict[str, Any]) -> None:
    store = Store(url="s3://cells/served", storage_options=s3)
    store.folder.write("inner/chunk", CONTENT)
    with serving({"b": store}) as url:
        assert ask(f"{url}/b/inner/chunk")[::2] == (200, CONTENT)
        assert ask(f"{url}/b/inner/chunk", Range="bytes=-16")[::2] == (206, CONTENT[-16:])
        assert ask(f"{url}/b/inner/chunk", Range="bytes=3-7")[::2] == (206, CONTENT[3:8])
        assert ask(f"{url}/b/inner/none")[0] == 404


def test_the_page_of_the_viewer_may_read(server: str) -> None:
    code, headers, _ = ask(f"{server}/a/inner/chunk", method="OPTIONS", Origin=VIEWER)
    assert code == 204
    assert headers["Access-Control-Allow-Headers"] == "Range"
    assert headers["Access-Control-Allow-Origin"] == VIEWER
    code, headers, body = ask(f"{server}/a/inner/chunk", method="HEAD", Origin=VIEWER)
    assert (code, headers["Content-Length"], body) == (200, "200", b"")
    assert (headers["Access-Control-Allow-Origin"], headers["Vary"]) == (VIEWER, "Origin")


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST"])
@pytest.mark.parametrize(
    "who",
    [
        {"Origin": STRANGER},
        {"Origin": "null"},
        {"Origin": f"{VIEWER}.evil.example"},
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example:80"},
        {"Host": "localhost@evil.example"},
        {"Host": ""},
        {"Host": "[::1]"},
    ],
)
def test_pages_of_other_origins_and_hosts_are_refused(server: str, method: str, who: dict[str, str]) -> None:
    """A name that an attacker lets resolve to 127.0.0.1 makes his page same-origin; it shows in the Host header."""
    code, headers, body = ask(f"{server}/a/inner/chunk", method=method, **who)
    assert (code, body) == (403, b"")
    assert "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize("lines", ["", "Host: 127.0.0.1\r\nHost: evil.example\r\n"])
def test_a_request_names_one_host(server: str, lines: str) -> None:
    found = raw(server, f"GET /TOKEN/a/inner/chunk HTTP/1.1\r\n{lines}Connection: close\r\n\r\n")
    assert found.startswith(b"HTTP/1.1 403")


@pytest.mark.parametrize(
    "path",
    [
        "a/none", "a/inner", "c/inner/chunk", "a/../secret", "a/%2e%2e/secret", "a/..%2fsecret", "a/inner/../../secret",
        "", "a", "a/", "a//inner/chunk", "a/./inner/chunk", "a/%00", "a/out", "a/folder/secret", "a/folder", "a/pipe",
        "a/inner/chunk/", "zip/../../etc/passwd", "zip//etc/passwd",
    ],
)  # fmt: skip
def test_nothing_else_is_served(server: str, path: str) -> None:
    found = raw(server, f"GET /TOKEN/{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert found.startswith(b"HTTP/1.1 404")
    assert b"secret" not in found


def test_a_link_inside_the_store_is_followed(server: str) -> None:
    assert ask(f"{server}/a/same")[::2] == (200, CONTENT)


@pytest.mark.parametrize(
    "path",
    [
        "/a/inner/chunk",
        "/x/a/inner/chunk",
        "//a/inner/chunk",
        "http://127.0.0.1/TOKEN/a/inner/chunk",
        "//[",
        "*",
        "/\u00e9/a",
    ],
)
def test_nothing_is_served_without_the_token(server: str, path: str) -> None:
    found = raw(server, f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
    assert found.startswith(b"HTTP/1.1 404")


def test_each_server_has_a_token_of_its_own(server: str, tmp_path: Path) -> None:
    (tmp_path / "chunk").write_bytes(CONTENT)
    with serving({"a": Store(url=str(tmp_path))}) as url:
        assert ask(f"{url}/a/chunk")[::2] == (200, CONTENT)
        assert ask(url.replace(url[-22:], server[-22:]) + "/a/chunk")[0] == 404


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.1", "127.0.0.1.example", "example.org", "", "::", "127.evil"])
def test_other_machines_cannot_ask(host: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="served to this machine only"), serving({}, host=host):
        pass


def half_open(url: str, count: int) -> list[socket.socket]:
    """Clients that begin a request and never end it."""
    parts = urllib.parse.urlsplit(url)
    clients = [socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=10) for _ in range(count)]
    for client in clients:
        client.sendall(b"GET /x HTTP/1.1\r\n")
    return clients


def test_clients_that_never_ask_are_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "WAIT_S", 0.2)
    with serving({"a": Store(url=str(tmp_path))}) as url:
        clients = half_open(url, 3)
        for client in clients:
            assert client.recv(1) == b""
            client.close()


def test_many_clients_that_never_ask_keep_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "MAX_CLIENTS", 4)
    (tmp_path / "chunk").write_bytes(CONTENT)
    with serving({"a": Store(url=str(tmp_path))}) as url:
        before = threading.active_count()
        clients = half_open(url, 40)
        assert ask(f"{url}/a/chunk")[::2] == (200, CONTENT)
        for client in clients[:30]:
            assert client.recv(1) == b""
        assert threading.active_count() - before <= 8
        for client in clients:
            client.close()


def test_a_client_that_does_not_read_costs_one_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server._Handler, "timeout", 0.5)
    with (tmp_path / "large").open("wb") as stream:
        stream.truncate(2**33)
    with serving({"a": Store(url=str(tmp_path))}) as url:
        parts = urllib.parse.urlsplit(url)
        with socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=10) as client:
            client.sendall(f"GET {parts.path}/a/large HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            time.sleep(1.5)
            received = 0
            while part := client.recv(2**20):
                received += len(part)
        assert 0 < received < 2**28
        assert ask(f"{url}/a/large", Range="bytes=-3")[::2] == (206, bytes(3))


@given(st.integers(0, 20), st.integers(0, 20), st.integers(1, 20))
def test_a_range_is_what_a_slice_is(first: int, last: int, size: int) -> None:
    data = bytes(range(size))
    if first >= size or last < first:
        with pytest.raises(InputError, match="outside"):
            byte_range(f"bytes={first}-{last}", size)
    else:
        start, stop = byte_range(f"bytes={first}-{last}", size) or (0, size)
        assert data[start:stop] == data[first : last + 1]

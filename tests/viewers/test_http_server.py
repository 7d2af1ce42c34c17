"""What the server says to a web viewer: origins, byte ranges, what is not there."""

from __future__ import annotations

import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellscale.errors import InputError
from cellscale.ngff.stores import Store
from cellscale.viewers.http_server import byte_range, serving

CONTENT = bytes(range(200))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("stores")
    (folder / "a" / "inner").mkdir(parents=True)
    (folder / "a" / "inner" / "chunk").write_bytes(CONTENT)
    (folder / "secret").write_bytes(b"secret")
    shutil.make_archive(str(folder / "a.zarr"), "zip", folder / "a")
    with serving({"a": Store(url=f"{folder}/a"), "zip": Store(url=f"{folder}/a.zarr.zip")}) as url:
        yield url


def ask(url: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    method = headers.pop("method", "GET")
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers, method=method), timeout=10) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read()


@pytest.mark.parametrize("mount", ["a", "zip"])
@pytest.mark.parametrize(
    ("asked", "status", "found"),
    [
        (None, 200, CONTENT),
        ("bytes=0-9", 206, CONTENT[:10]),
        ("bytes=190-", 206, CONTENT[190:]),
        ("bytes=-16", 206, CONTENT[-16:]),
        ("bytes=190-900", 206, CONTENT[190:]),
        ("bytes=200-210", 416, b""),
    ],
)
def test_byte_ranges(server: str, mount: str, asked: str | None, status: int, found: bytes) -> None:
    code, headers, body = ask(f"{server}/{mount}/inner/chunk", **({"Range": asked} if asked else {}))
    assert (code, body) == (status, found)
    assert headers["Access-Control-Allow-Origin"] == "*"
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


def test_a_page_of_another_origin_may_ask(server: str) -> None:
    code, headers, _ = ask(f"{server}/a/inner/chunk", method="OPTIONS")
    assert code == 204
    assert headers["Access-Control-Allow-Headers"] == "Range"
    code, headers, body = ask(f"{server}/a/inner/chunk", method="HEAD")
    assert (code, headers["Content-Length"], body) == (200, "200", b"")


@pytest.mark.parametrize("path", ["a/none", "a/inner", "b/inner/chunk", "a/../secret", "a/%2e%2e/secret", "", "a/"])
def test_nothing_else_is_served(server: str, path: str) -> None:
    assert ask(f"{server}/{path}")[0] == 404


@given(st.integers(0, 20), st.integers(0, 20), st.integers(1, 20))
def test_a_range_is_what_a_slice_is(first: int, last: int, size: int) -> None:
    data = bytes(range(size))
    if first >= size or last < first:
        with pytest.raises(InputError, match="outside"):
            byte_range(f"bytes={first}-{last}", size)
    else:
        start, stop = byte_range(f"bytes={first}-{last}", size) or (0, size)
        assert data[start:stop] == data[first : last + 1]

"""Requests are counted where they are made, in whatever thread."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from cellscale.errors import StoreError
from cellscale.segmentation.prefetch import prefetch
from cellscale.storage.folder import Folder
from cellscale.storage.together import behind, together
from cellscale.storage.traffic import PAGE, Traffic, counting, request


def test_kinds_and_bytes_of_a_folder_on_s3(s3: dict[str, Any]) -> None:
    folder = Folder(url="s3://cells/counted", storage_options=s3)
    with counting() as traffic:
        folder.write("a", b"12345")
        folder.write("b", b"678")
        assert folder.read("a", start=1, stop=3) == b"23"
        assert folder.read("missing") is None
        folder.update("b", lambda content: (content or b"") + b"!" if content == b"678" else None)
        assert folder.names() == {"a", "b"}
        folder.remove()
    assert traffic.requests == {"PUT": 3, "GET": 3, "LIST": 2, "DELETE": 1}
    assert (traffic.read_bytes, traffic.written_bytes) == (2 + 3, 5 + 3 + 4)
    assert traffic.waiting_s > 0


def test_a_piece_of_work_counts_its_own_requests_alone(tmp_path: Path) -> None:
    folder = Folder(url=str(tmp_path))
    with counting() as outer:
        folder.write("a", b"1")
        with counting() as inner:
            folder.write("b", b"22")
        assert outer.taken().requests == {"PUT": 1}
        folder.read("b")
    folder.write("c", b"")
    assert inner.to_dict() == {"PUT": 1, "read_bytes": 0, "written_bytes": 2, "waiting_s": inner.to_dict()["waiting_s"]}
    assert (outer.requests, outer.read_bytes, outer.written_bytes) == ({"GET": 1}, 2, 0)
    assert (outer + inner).requests == {"GET": 1, "PUT": 1}


def test_requests_of_threads_are_counted_with_those_of_their_caller(tmp_path: Path) -> None:
    folder = Folder(url=str(tmp_path))
    with counting() as traffic:
        together([partial(folder.write, str(n), b"1") for n in range(5)])
        assert list(prefetch(folder.read(str(n)) for n in range(5))) == [b"1"] * 5
    assert traffic.requests == {"PUT": 5, "GET": 5}


def test_failed_requests_and_pages_count() -> None:
    with counting() as traffic:
        with pytest.raises(KeyError), request("GET"):
            raise KeyError
        with request("LIST") as made:
            made.items = PAGE + 1
    assert traffic.requests == {"GET": 1, "LIST": 2}
    assert Traffic().requests == {}


def test_results_of_calls_at_once_keep_their_order_and_errors_are_raised(tmp_path: Path) -> None:
    assert together([partial(pow, n, 2) for n in range(40)]) == [n * n for n in range(40)]
    assert together(list[Any]()) == []
    absent = Folder(url="s3://cells", storage_options={"unknown-option": 1})
    with pytest.raises(StoreError):
        together([partial(Folder(url=str(tmp_path)).write, "a", b""), partial(absent.write, "a", b"")])
    assert (tmp_path / "a").exists()


def test_writes_go_on_behind_the_caller_and_end_with_the_context(tmp_path: Path) -> None:
    folder, waiting = Folder(url=str(tmp_path)), Event()
    with counting() as traffic:
        with behind(2) as later:
            held = later(partial(waiting.wait, 60))
            for n in range(5):
                later(partial(folder.write, str(n), b"1"))
            assert not held.done()
            waiting.set()
        assert folder.names() == {"0", "1", "2", "3", "4"}
    assert traffic.requests["PUT"] == 5


def test_the_first_error_of_a_write_behind_the_caller_is_raised(tmp_path: Path) -> None:
    folder = Folder(url=str(tmp_path))

    def written() -> None:
        with behind() as later:
            later(lambda: 1 / 0)
            later(partial(folder.write, "after", b""))

    with pytest.raises(ZeroDivisionError):
        written()
    assert (tmp_path / "after").exists()

"""Folders: files written whole, names taken literally, changes that others make at once kept."""

from __future__ import annotations

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import pytest

from cellscale.errors import StoreError
from cellscale.storage import compare_and_set
from cellscale.storage.folder import Folder
from tests.faults.proxy import Storm, stormy

STORES = ["file", "memory", "s3", "azure", "gcs"]


def place(kind: str, name: str, tmp_path: Path, request: pytest.FixtureRequest) -> Folder:
    """A folder in a store of a kind."""
    if kind in ("file", "memory"):
        return Folder(url=str(tmp_path / name) if kind == "file" else f"memory://folders/{tmp_path.name}/{name}")
    protocol = {"s3": "s3", "azure": "az", "gcs": "gs"}[kind]
    return Folder(
        url=f"{protocol}://cells/folders/{tmp_path.name}/{name}", storage_options=request.getfixturevalue(kind)
    )


@pytest.mark.parametrize("kind", STORES)
@pytest.mark.parametrize("name", ["movie[1].zarr", "c*", "{a,b}", "a?b", "a#b", "a%20b", "a b"])
def test_removing_a_folder_takes_its_name_literally(
    kind: str, name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    neighbours = ["movie1.zarr", "cells", "a", "b", "axb", "a b c", f"{name}x"]
    for other in neighbours:
        place(kind, other, tmp_path, request).write("deep/file", b"theirs")
    folder = place(kind, name, tmp_path, request)
    for inner in ("0/c[0]", "0/*", "plain", "1/2/3"):
        folder.write(inner, b"mine")
    folder.remove("0")
    assert folder.names() == {"plain", "1"}
    folder.remove()
    assert folder.names() == frozenset()
    for other in neighbours:
        assert place(kind, other, tmp_path, request).read("deep/file") == b"theirs"


def test_a_local_path_is_no_chain_of_file_systems(tmp_path: Path) -> None:
    folder = Folder(url=str(tmp_path / "a::b" / "memory:"))
    folder.write("x", b"1")
    assert (tmp_path / "a::b" / "memory:" / "x").read_bytes() == b"1"
    assert folder.names() == {"x"}
    folder.remove()
    assert list((tmp_path / "a::b").iterdir()) == []


def test_a_failed_write_leaves_the_old_file_and_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Folder(url=str(tmp_path))
    folder.write("x", b"old")
    (tmp_path / "directory").mkdir()
    with pytest.raises(StoreError, match="Cannot write"):
        folder.write("directory", b"new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["directory", "x"]
    assert folder.read("x") == b"old"


def _added(name: str, content: bytes | None) -> bytes | None:
    names = json.loads(content or b"[]")
    return None if name in names else json.dumps([*names, name]).encode()


@pytest.mark.parametrize("kind", ["file", "memory", "s3", "azure"])
def test_no_change_of_many_at_once_is_lost(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    folder, names = place(kind, "at-once", tmp_path, request), [f"n{i}" for i in range(8)]
    start = threading.Barrier(len(names))

    def add(name: str) -> None:
        start.wait()
        folder.update("list.json", partial(_added, name))

    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(add, names))
    assert sorted(folder.read_json("list.json")) == names
    assert folder.names() == {"list.json"}
    folder.update("list.json", lambda content: b"")
    assert folder.read("list.json") is None


def test_a_change_between_reading_and_writing_is_seen(s3: dict[str, Any]) -> None:
    folder, seen = Folder(url="s3://cells/folders/between", storage_options=s3), []

    def change(content: bytes | None) -> bytes | None:
        seen.append(content)
        if len(seen) < 3:
            folder.write("x", f"theirs {len(seen)}".encode())
        return b"mine after " + (content or b"nothing")

    folder.update("x", change)
    assert seen == [None, b"theirs 1", b"theirs 2"]
    assert folder.read("x") == b"mine after theirs 2"


def test_a_store_whose_versions_are_wrong_loses_no_change(s3: dict[str, Any]) -> None:
    """Its conditions refuse every write; of several writers at once, each then holds the lock."""
    names, port = [f"n{i}" for i in range(3)], int(s3["endpoint_url"].rsplit(":", 1)[1])
    with stormy(port, Storm(kinds=("etag",), share=1.0, most=10**6)) as proxy:
        folder = Folder(url="s3://cells/folders/wrong", storage_options={**s3, "endpoint_url": proxy.url})
        folder.write("list.json", b"[]")
        with ThreadPoolExecutor(len(names)) as pool:
            list(pool.map(lambda name: folder.update("list.json", partial(_added, name)), names))
    assert sorted(folder.read_json("list.json")) == names
    assert folder.names() == {"list.json"}


def test_the_lock_that_a_killed_process_has_left_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / ".x.lock").touch()
    folder = Folder(url=str(tmp_path))
    assert folder.names() == frozenset()
    folder.update("x", lambda content: b"1" if content is None else None)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_bucket_that_does_not_exist_is_named(s3: dict[str, Any]) -> None:
    with pytest.raises(StoreError, match=r"Cannot change s3://no-such-bucket/x/y"):
        Folder(url="s3://no-such-bucket/x", storage_options=s3).update("y", lambda content: b"1")


def test_the_lock_of_a_dead_holder_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare_and_set, "LEASE_S", 0.2)
    folder = Folder(url=f"memory://folders/{tmp_path.name}")
    fsspec.filesystem("memory").pipe_file(f"/folders/{tmp_path.name}/.x.lease", b"somebody who died")
    folder.update("x", lambda content: b"1" if content is None else None)
    assert folder.names() == {"x"}


@pytest.mark.parametrize(
    ("kind", "moment"),
    [("file", "_end"), ("file", "rename"), ("file", "_is_still"), ("memory", "_end"), ("memory", "_is_still")],
)
def test_the_lock_of_a_dead_holder_has_one_successor(
    kind: str, moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one that waited for the same holder has taken the lock just before this one ends it, or just after."""
    url = {"file": str(tmp_path), "memory": f"memory://successor/{moment}"}[kind]
    locks, other = Folder(url=url), Folder(url=url)
    place = os if moment == "rename" else compare_and_set
    before, ended = getattr(place, moment), []

    def end() -> None:
        ended.append(True)
        other.delete(".x.lease")

    def met(*args: Any) -> Any:
        monkeypatch.setattr(place, moment, before)
        other.write(".x.lease", b"other")
        threading.Timer(0.4, end).start()
        return before(*args)

    monkeypatch.setattr(compare_and_set, "LEASE_S", 0.8)
    monkeypatch.setattr(compare_and_set, "SETTLE_S", 0.2)
    monkeypatch.setattr(compare_and_set, "_kernel_lock", lambda path: None)
    locks.write(".x.lease", b"somebody who died")
    monkeypatch.setattr(place, moment, met)
    locks.update("x", lambda content: b"alone" if ended else b"at once")
    assert locks.read("x") == b"alone"
    assert locks.names() == {"x"}
    assert kind == "memory" or os.listdir(tmp_path) == ["x"]


def test_a_file_system_without_locks_has_locks_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare_and_set, "_kernel_lock", lambda path: None)
    test_no_change_of_many_at_once_is_lost("file", tmp_path, None)  # type: ignore[arg-type]


def test_a_folder_is_removed_while_another_process_writes_into_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file appears between the deletion of a folder's files and that of the folder, twice."""
    folder, rmdir, late = Folder(url=str(tmp_path / "run")), os.rmdir, 2
    folder.write("step/0", b"x")

    def met(path: Any, **options: Any) -> None:
        nonlocal late
        if late:
            late -= 1
            folder.write("step/1", b"x")
        rmdir(path, **options)

    monkeypatch.setattr(os, "rmdir", met)
    folder.remove()
    assert late == 0
    assert not (tmp_path / "run").exists()

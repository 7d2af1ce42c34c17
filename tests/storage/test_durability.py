"""What is flushed before what: the order of the system's calls is what a loss of power sees."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from cellscale.errors import StoreError
from cellscale.ngff.image import NgffImage
from cellscale.storage import durability
from cellscale.storage.folder import Folder
from tests.blobs import blurred_noise
from tests.support.runs import SHAPE, segmented, written


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Calls in their order, which are made: (fsync, path) and (old path, new path) of a renaming."""
    calls: list[tuple[str, str]] = []
    fsync, replace = os.fsync, os.replace

    def noting_fsync(handle: int) -> None:
        calls.append(("fsync", os.readlink(f"/proc/self/fd/{handle}")))
        fsync(handle)

    def noting_rename(source: str, target: str) -> None:
        replace(source, target)
        calls.append((str(source), str(target)))

    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(os, "replace", noting_rename)
    monkeypatch.setattr(os, "rename", noting_rename)
    return calls


def test_a_file_is_flushed_with_all_folders_that_name_it(tmp_path: Path, disk: list[tuple[str, str]]) -> None:
    folder = Folder(url=str(tmp_path / "run"))
    folder.write("a/b/record", b"content")
    (at,) = [i for i, (call, _) in enumerate(disk) if call != "fsync"]
    assert disk[:at] == [("fsync", disk[at][0])]
    assert disk[at][1] == f"{tmp_path}/run/a/b/record"
    folders = {str(tmp_path), f"{tmp_path}/run", f"{tmp_path}/run/a", f"{tmp_path}/run/a/b"}
    assert {path for _, path in disk[at + 1 :]} == folders


def test_files_can_be_flushed_together_later(tmp_path: Path, disk: list[tuple[str, str]]) -> None:
    folder = Folder(url=str(tmp_path / "run"))
    for name in ("a/1", "a/2", "b/1"):
        folder.write(name, b"content", flush=False)
    assert not any(call == "fsync" for call, _ in disk)
    folder.flush(["a/1", "b/1"])
    flushed = {path.removeprefix(f"{tmp_path}/") for call, path in disk if call == "fsync"}
    assert flushed == {str(tmp_path), "run", "run/a", "run/b", "run/a/1", "run/b/1"}


def test_a_file_that_is_gone_or_a_disk_that_refuses_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Folder(url=str(tmp_path / "run"))
    folder.write("a", b"")
    with pytest.raises(StoreError, match="Cannot flush"):
        folder.flush(["b"])

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"No space left.*Free some space there"):
        folder.flush(["a"])


def test_a_mount_that_cannot_flush_folders_is_used_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync, flushed = os.fsync, list[str]()

    def files_only(handle: int) -> None:
        path = os.readlink(f"/proc/self/fd/{handle}")
        if os.path.isdir(path):
            raise OSError(errno.EINVAL, "Invalid argument")
        flushed.append(path)
        fsync(handle)

    (tmp_path / "a").write_bytes(b"")
    monkeypatch.setattr(os, "fsync", files_only)
    durability.flush([tmp_path / "a"], root=tmp_path)
    assert flushed == [str(tmp_path / "a")]


@pytest.mark.parametrize("window", [64, 2048])
def test_no_record_is_on_the_disk_before_what_it_vouches_for(
    tmp_path: Path, disk: list[tuple[str, str]], window: int
) -> None:
    """A record is renamed into its place after all objects before it, and the folders that name them, are flushed."""
    image: NgffImage = written(str(tmp_path / "movie.zarr"), blurred_noise(SHAPE))
    disk.clear()
    segmented(image, "cells", window_size=window, tile_size=50, task_px=12_000)
    waiting, flushed, records = set[str](), set[str](), 0
    for call, path in disk:
        if call == "fsync":
            waiting.discard(path)
            flushed.add(path)
            continue
        if path.endswith("labels/zarr.json") or Path(path).parent.name in STEPS:
            assert not waiting, f"{path} was written before {sorted(waiting)[:3]} were on the disk"
            records += 1
        if path.startswith(image.url):
            waiting |= {str(Path(path).parent)} | ({path} - flushed if call not in flushed else set())
    assert records > len(STEPS) - (window == 2048)


STEPS = {"intensity", "predict", "decode", "row_groups", "join", "publish-0", "tables"}
"""Folders of records."""

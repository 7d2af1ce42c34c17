from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cellscale.errors import StoreError
from cellscale.segmentation.records import find, get, put
from cellscale.storage.folder import Folder


@pytest.fixture(params=["folder", "memory"])
def scratch(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    url = str(tmp_path / "run") if request.param == "folder" else f"memory://{tmp_path.name}/run"
    return Folder(url=url)


def test_arrays_survive(scratch: Folder) -> None:
    arrays: dict[str, NDArray[Any]] = {
        "a": np.arange(6, dtype=np.uint8).reshape(2, 3),
        "none": np.zeros((0, 4), np.int64),
    }
    put(scratch, "decode/0", arrays)
    found = get(scratch, "decode/0")
    assert all(np.array_equal(found[name], arrays[name]) and found[name].dtype == arrays[name].dtype for name in arrays)


def test_a_missing_object_is_an_error_and_never_background(scratch: Folder) -> None:
    assert find(scratch, "fragments/0") is None
    with pytest.raises(StoreError, match="fragments/0 is missing"):
        get(scratch, "fragments/0")


@pytest.mark.parametrize("keep", [0, 3, 40])
def test_a_truncated_object_is_an_error(scratch: Folder, keep: int) -> None:
    put(scratch, "maps/0", {"a": np.arange(100)})
    scratch.write("maps/0", (scratch.read("maps/0") or b"")[:keep])
    with pytest.raises(StoreError, match="checksum"):
        get(scratch, "maps/0")


def test_names_lists_whole_objects_only(scratch: Folder) -> None:
    assert scratch.names("join") == frozenset()
    put(scratch, "join/1", {"a": np.zeros(1)})
    scratch.write(f"join/.2.{uuid.uuid4().hex}.part", b"")
    assert scratch.names("join") == {"1"}


def test_remove_takes_everything(scratch: Folder) -> None:
    scratch.write_json("plan.json", {"digest": "x"})
    scratch.remove()
    assert scratch.read_json("plan.json") is None
    scratch.remove()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"Cannot write .*file/run/plan.json"):
        Folder(url=str(tmp_path / "file" / "run")).write_json("plan.json", {})

import numpy as np
import pytest

from cellscale.errors import StoreError
from cellscale.segmentation.records import Scratch


@pytest.fixture(params=["folder", "memory"])
def scratch(request: pytest.FixtureRequest, tmp_path) -> Scratch:
    url = str(tmp_path / "run") if request.param == "folder" else f"memory://{tmp_path.name}/run"
    return Scratch(url=url)


def test_arrays_survive(scratch: Scratch) -> None:
    arrays = {"a": np.arange(6, dtype=np.uint8).reshape(2, 3), "none": np.zeros((0, 4), np.int64)}
    scratch.put("decode/0", arrays)
    found = scratch.get("decode/0")
    assert all(np.array_equal(found[name], arrays[name]) and found[name].dtype == arrays[name].dtype for name in arrays)


def test_a_missing_object_is_an_error_and_never_background(scratch: Scratch) -> None:
    assert scratch.find("pieces/0") is None
    with pytest.raises(StoreError, match="pieces/0 is missing"):
        scratch.get("pieces/0")


@pytest.mark.parametrize("keep", [0, 3, 40])
def test_a_truncated_object_is_an_error(scratch: Scratch, keep: int) -> None:
    scratch.put("maps/0", {"a": np.arange(100)})
    scratch.write("maps/0", (scratch.read("maps/0") or b"")[:keep])
    with pytest.raises(StoreError, match="checksum"):
        scratch.get("maps/0")


def test_names_lists_whole_objects_only(scratch: Scratch) -> None:
    assert scratch.names("join") == frozenset()
    scratch.put("join/1", {"a": np.zeros(1)})
    scratch.write("join/2.x.part", b"")
    assert scratch.names("join") == {"1"}


def test_remove_takes_everything(scratch: Scratch) -> None:
    scratch.write_json("plan.json", {"digest": "x"})
    scratch.remove()
    assert scratch.read_json("plan.json") is None
    scratch.remove()


def test_a_folder_that_cannot_be_written_is_named(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"Cannot write .*file/run/plan.json"):
        Scratch(url=str(tmp_path / "file" / "run")).write_json("plan.json", {})

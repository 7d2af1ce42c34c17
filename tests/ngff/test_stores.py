"""Stores: whole objects, and failures that say what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from cellscale.errors import StoreError
from cellscale.ngff.stores import Store
from cellscale.storage.errors import advice


@pytest.mark.parametrize(
    ("error", "url", "words"),
    [
        (ImportError("Please install gcsfs"), "gs://b/i", "Install cellscale[gcs]."),
        (ImportError("no module s3fs"), "s3://b/i", "Install cellscale[s3]."),
        (PermissionError("Forbidden"), "s3://b/i", '{"anon": true} for a public bucket'),
        (PermissionError("denied"), "/data/i", "Check the permissions of the folder."),
        (OSError("Is a directory"), "/data/i", "Check the path."),
        (OSError("403, message='FORBIDDEN'"), "https://b/i", "its access rights"),
        (OSError("timed out"), "s3://b/i", "Check the URL, the storage options and the connection."),
    ],
)
def test_advice_fits_the_failure(error: Exception, url: str, words: str) -> None:
    assert words in advice(error, url)


def test_documents_are_written_whole_and_nothing_else_is_left(tmp_path: Path) -> None:
    store = Store(url=str(tmp_path)).child("a", "b")
    store.write_json("zarr.json", {"x": 1})
    store.write_json("zarr.json", {"x": 2})
    assert store.read_json("zarr.json") == {"x": 2}
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["zarr.json"]
    assert store.read_json(".zattrs") is None
    store.delete_object("zarr.json")
    store.delete_object("zarr.json")
    assert not store.is_zarr()


def test_documents_that_are_no_objects_are_damaged(tmp_path: Path) -> None:
    (tmp_path / "zarr.json").write_text("[1]")
    with pytest.raises(StoreError, match=r"expected a JSON object, got list"):
        Store(url=str(tmp_path)).read_json("zarr.json")


def test_file_urls_are_paths(tmp_path: Path) -> None:
    Store(url=f"file://{tmp_path}/i").write_json("zarr.json", {"x": 1})
    assert Store(url=f"{tmp_path}/i").read_json("zarr.json") == {"x": 1}
    Store(url=f"file://{tmp_path}/i").remove()
    assert not (tmp_path / "i").exists()

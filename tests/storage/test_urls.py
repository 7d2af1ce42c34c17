"""Which places are apart, and which URLs are taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from cellscale.errors import InputError
from cellscale.storage.urls import address, check_apart, local_path


@pytest.mark.parametrize(
    ("source", "output", "how"),
    [
        ("{tmp}/i.zarr", "{tmp}/i.zarr/", "is"),
        ("{tmp}/i.zarr", "file://{tmp}/i.zarr", "is"),
        ("{tmp}/i.zarr", "{tmp}/x/../i.zarr", "is"),
        ("{tmp}/i.zarr", "{tmp}/link", "is"),
        ("{tmp}/i.zarr", "{tmp}/link/maps", "lies in"),
        ("{tmp}/i.zarr", "{tmp}", "holds"),
        ("s3://b/i.zarr", "s3a://b//i.zarr", "is"),
        ("s3://b/i.zarr", "s3://b/i.zarr/maps", "lies in"),
        ("s3://b/i.zarr", "s3://b", "holds"),
        ("gs://b/i", "gcs://b/i", "is"),
    ],
)
def test_an_output_in_or_around_its_input_is_refused(tmp_path: Path, source: str, output: str, how: str) -> None:
    (tmp_path / "i.zarr").mkdir()
    (tmp_path / "x").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "i.zarr")
    with pytest.raises(InputError, match=rf"^The output .* {how} the input .* Choose another place"):
        check_apart(source.format(tmp=tmp_path), output.format(tmp=tmp_path))


@pytest.mark.parametrize(
    ("source", "output"),
    [
        ("{tmp}/i.zarr", "{tmp}/i.zarr2"),
        ("{tmp}/a/i", "{tmp}/b/i"),
        ("s3://b/i", "s3://b/ii"),
        ("s3://b/i", "gs://b/i"),
    ],
)
def test_places_that_are_apart_are_taken(tmp_path: Path, source: str, output: str) -> None:
    check_apart(source.format(tmp=tmp_path), output.format(tmp=tmp_path))


def test_a_folder_that_gets_files_of_its_own_may_hold_the_input(tmp_path: Path) -> None:
    check_apart(f"{tmp_path}/i.zarr", str(tmp_path), may_hold=True)
    for output in ("i.zarr", "i.zarr/0"):
        with pytest.raises(InputError, match="the input"):
            check_apart(f"{tmp_path}/i.zarr", f"{tmp_path}/{output}", may_hold=True)


def test_names_that_would_chain_file_systems_are_refused_where_they_are_remote() -> None:
    with pytest.raises(InputError, match="'::' in the name of a folder"):
        address("s3://bucket/a::b/movie.zarr")
    assert address("simplecache::s3://bucket/movie.zarr/") == "simplecache::s3://bucket/movie.zarr"
    assert address("/data/a::b/movie.zarr/") == "/data/a::b/movie.zarr"


def test_a_folder_with_a_tilde_that_is_no_user_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert local_path("~nobody-of-this-name/x") == tmp_path / "~nobody-of-this-name" / "x"

"""Segmentations in and out of every kind of store, each served by a real endpoint."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import cellscale
from cellscale.cli.main import cli
from cellscale.errors import StoreError
from cellscale.models.model import save_model
from cellscale.ngff.image import open_image
from cellscale.ngff.labels import list_labels, open_labels
from cellscale.storage.folder import Folder
from cellscale.storage.urls import options_for
from cellscale.types import Box
from tests.blobs import blobs_model, blurred_noise
from tests.endpoints import web_server
from tests.segmentation.test_run import written

SHAPE = (2, 90, 130)
SMALL = {"tile_size": 50, "backend": "serial", "settings": {"window_size": 64}, "trust": ["tests.blobs"]}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a movie, the movie in a zip file, its labels in a store of their own, and a model."""
    folder = tmp_path_factory.mktemp("home")
    written(str(folder / "movie.zarr"), blurred_noise(SHAPE))
    shutil.make_archive(str(folder / "movie.zarr"), "zip", folder / "movie.zarr")
    save_model(blobs_model(), str(folder / "model"))
    cellscale.segment(str(folder / "movie.zarr"), model=blobs_model(), output=str(folder / "labels.zarr"), **SMALL)
    return folder


@pytest.fixture(scope="module")
def web(home: Path) -> Iterator[str]:
    """URL of the folder on a web server."""
    with web_server(home) as url:
        yield url


def labels(store: str, options: Any = None) -> np.ndarray:
    layer = open_labels(store, "cells", storage_options=options)
    return np.stack([layer.read(Box(0, 0, *SHAPE[1:]), t=t) for t in range(SHAPE[0])])


@pytest.mark.parametrize(("protocol", "endpoint"), [("s3", "s3"), ("az", "azure"), ("gs", "gcs")])
def test_a_bucket_holds_image_model_run_and_labels(
    protocol: str, endpoint: str, home: Path, request: pytest.FixtureRequest
) -> None:
    options = request.getfixturevalue(endpoint)
    movie, model = (f"{protocol}://cells/clouds/{name}" for name in ("movie.zarr", "model"))
    written(movie, blurred_noise(SHAPE), options=options)
    save_model(blobs_model(), model, options)
    result = cellscale.segment(movie, model=model, storage_options=options, **SMALL)
    assert result.cells > 10
    assert np.array_equal(labels(movie, options), labels(str(home / "labels.zarr")))
    there = pd.read_parquet(f"{movie}/labels/cells/objects.parquet", storage_options=options)
    assert there.equals(pd.read_parquet(home / "labels.zarr" / "labels" / "cells" / "objects.parquet"))
    assert Folder(url=movie, storage_options=options).names() >= {"0", "labels", "zarr.json"}
    assert ".cellscale-cells" not in Folder(url=movie, storage_options=options).names()


@pytest.mark.parametrize("source", ["{web}/movie.zarr", "{home}/movie.zarr.zip", "file://{home}/movie.zarr"])
def test_the_source_stays_as_it_is_and_the_output_names_it(source: str, home: Path, web: str, tmp_path: Path) -> None:
    url, output = source.format(web=web, home=home), str(tmp_path / "out.zarr")
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    cellscale.segment(url, model=str(home / "model"), output=output, **SMALL)
    assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == before
    assert np.array_equal(labels(output), labels(str(home / "labels.zarr")))
    layer = open_labels(output, "cells")
    assert layer.source == open_image(url).url
    assert layer.levels[0].scale == open_image(url).levels[0].scale


def test_from_the_web_into_a_bucket(home: Path, web: str, s3: dict[str, Any]) -> None:
    options, output = {"s3": s3, "https": {"block_size": 2**16}}, "s3://cells/clouds/of-the-web.zarr"
    cellscale.segment(f"{web}/movie.zarr", model=f"{web}/model", output=output, storage_options=options, **SMALL)
    assert np.array_equal(labels(output, s3), labels(str(home / "labels.zarr")))
    assert list_labels(output, storage_options=options) == ("cells",)


@pytest.mark.parametrize(
    ("source", "kind"), [("{web}/movie.zarr", "web servers"), ("{home}/movie.zarr.zip", "zip files")]
)
def test_stores_that_cannot_be_written_ask_for_another_output(source: str, kind: str, home: Path, web: str) -> None:
    with pytest.raises(StoreError, match=f"{kind} are read only. Give another store with --output"):
        cellscale.segment(source.format(web=web, home=home), model=str(home / "model"), **SMALL)


def test_every_command_takes_storage_options(s3: dict[str, Any], tmp_path: Path) -> None:
    np.save(tmp_path / "frames.npy", blurred_noise((2, 64, 64)))
    options = ("--storage-options", json.dumps(s3))
    movie, model = "s3://cells/commands/movie.zarr", "s3://cells/commands/model"
    small = ("--set", "unet.width=2", "--set", "depth=1", "--set", "crop=32", "--set", "loader_workers=0")
    commands = [
        ("import", str(tmp_path / "frames.npy"), "s3://cells/commands/imported.zarr"),
        ("synthesize", movie, "--shape", "2,96,96", "--cells", "12"),
        ("train", "saw", movie, "--output", model, "--serial", "--steps", "2", *small),
        ("segment", movie, "--model", model, "--serial"),
        ("evaluate", movie),
    ]
    for words in commands:
        done = CliRunner().invoke(cli, [*words, *options], catch_exceptions=False)
        assert done.exit_code == 0, done.output
    assert list_labels(movie, storage_options=s3) == ("truth", "cells")
    assert open_image("s3://cells/commands/imported.zarr", storage_options=s3).levels[0].shape == (2, 64, 64)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://b/i", {"anon": True, "key": "k"}),
        ("s3a://b/i", {"anon": True, "key": "k"}),
        ("https://h/i", {"anon": True, "ssl": False}),
        ("gs://b/i", {"anon": True}),
        ("/data/i", {"anon": True}),
    ],
)
def test_options_by_protocol_reach_their_own_stores(url: str, expected: dict[str, Any]) -> None:
    assert options_for(url, {"anon": True, "s3": {"key": "k"}, "http": {"ssl": False}}) == expected


def test_options_of_one_kind_are_passed_as_they_are() -> None:
    options = {"key": "k", "client_kwargs": {"region_name": "r"}}
    assert options_for("s3://b/i", options) == options

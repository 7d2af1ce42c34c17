from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

import cellscale
from cellscale.cli.main import cli
from cellscale.errors import CellscaleError, ExistsError, InputError, MissingError
from cellscale.methods import settings_of
from cellscale.methods.parts.tuning import NOISE
from cellscale.models.model import CURVE, digest, tensors

CHEAP: dict[str, Any] = {"trees": 10, "leaves": 30, "scales": [1.0, 2.0], "crop": 64, "loader_workers": 0}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A time-lapse of four frames, and a model calibrated on its last frame."""
    folder = tmp_path_factory.mktemp("calibration")
    cellscale.synthesize(folder / "movie.zarr", shape=(4, 128, 128), cells=20)
    chosen: dict[str, Any] = {"frames": (0, 3), "validation_frames": (3, 4), "settings": CHEAP, "backend": "serial"}
    cellscale.train("pixel-forest", [folder / "movie.zarr"], output=folder / "model", **chosen)
    return folder


def test_settings_alone_change_nothing_else(work: Path, tmp_path: Path) -> None:
    given = cellscale.load_model(work / "model")
    made = cellscale.calibrate(work / "model", settings={"minimum_area": 10_000}, output=tmp_path / "m")
    assert settings_of(made.method) == settings_of(given.method) | {"contours.minimum_area": 10_000}
    assert made.training["calibrated_from"] == digest(given)
    assert (made.training["validation"], made.training["steps"]) == ({}, given.training["steps"])
    read = cellscale.load_model(tmp_path / "m")
    assert digest(read) == digest(made)
    for key, value in tensors(given.networks).items():
        torch.testing.assert_close(tensors(read.networks)[key], value, rtol=0, atol=0)
    # As a user applies it: no object is as large as that.
    found = cellscale.segment(work / "movie.zarr", model=tmp_path / "m", layer="large", backend="serial")
    assert found.cells == 0


def test_thresholds_are_fitted_on_annotated_frames(work: Path, tmp_path: Path) -> None:
    given = cellscale.load_model(work / "model")
    spoilt = cellscale.calibrate(given, settings={"minimum_area": 900}, output=tmp_path / "spoilt")
    asked: dict[str, Any] = {"data": [work / "movie.zarr"], "frames": (3, 4)}
    made = cellscale.calibrate(tmp_path / "spoilt", **asked, output=tmp_path / "mended")
    assert made.training["validation_frames"] == 1
    best, found = given.training["validation"], made.training["validation"]
    assert found["seg"] + found["f1"] >= best["seg"] + best["f1"] - 2 * NOISE
    assert settings_of(made.method)["contours.minimum_area"] < 900
    # On the frame that the training held out there is nothing better than what it found there.
    same = cellscale.calibrate(given, **asked, output=tmp_path / "same")
    assert (settings_of(same.method), same.training["validation"]) == (settings_of(given.method), best)
    assert settings_of(spoilt.method) != settings_of(given.method)


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({}, InputError, "Nothing to change"),
        ({"settings": {"trees": 12}}, InputError, "has other networks than these settings"),
        (
            {"settings": {"scales": [1.0, 3.0]}},
            InputError,
            r"'scales' is \(1.0, 3.0\); the model was trained with \(1.0",
        ),
        ({"settings": {"minimum_aera": 8}}, MissingError, "minimum_area"),
        ({"settings": {"steps": 8}}, MissingError, "steps"),
        ({"data": "movie.zarr"}, InputError, r"expected a list: \['movie.zarr'\]"),
        ({"data": ["movie.zarr"], "layer": "truht"}, MissingError, "truht"),
        ({"data": ["movie.zarr"], "frames": (2, 9)}, CellscaleError, "9"),
        ({"data": ["movie.zarr"], "settings": {"device": "gpu"}}, InputError, "device"),
        ({"data": ["movie.zarr"], "output": "movie.zarr/model"}, InputError, "movie.zarr"),
        ({"settings": {"minimum_area": 8}, "output": "model"}, ExistsError, "holds a model"),
    ],
)
def test_what_cannot_be_calibrated_is_refused_and_leaves_nothing(
    asked: dict[str, Any], error: type[Exception], message: str, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(work)
    before = sorted((path, path.stat().st_mtime_ns) for path in work.rglob("*"))
    with pytest.raises(error, match=message):
        cellscale.calibrate("model", **{"output": "refused", **asked})
    assert sorted((path, path.stat().st_mtime_ns) for path in work.rglob("*")) == before


def test_thresholds_are_for_the_predictions_that_they_were_fitted_on(work: Path, tmp_path: Path) -> None:
    assert cellscale.load_model("nuclei").test_time_flips
    asked: dict[str, Any] = {"data": [work / "movie.zarr"], "frames": (3, 4)}
    # A calibration predicts as the model does, until it is told otherwise.
    flips = cellscale.calibrate("nuclei", **asked, output=tmp_path / "flips")
    plain = cellscale.calibrate("nuclei", **asked, settings={"test_time_flips": False}, output=tmp_path / "plain")
    again = cellscale.calibrate(tmp_path / "plain", **asked, output=tmp_path / "again")
    assert [model.test_time_flips for model in (flips, plain, again)] == [True, False, False]
    assert again.training["validation"] == plain.training["validation"] != flips.training["validation"]
    # Without data the thresholds stay.
    words = ("calibrate", str(tmp_path / "flips"), "--output", str(tmp_path / "quick"))
    done = CliRunner().invoke(cli, (*words, "--set", "test_time_flips=false"))
    assert done.output.splitlines()[0] == "test_time_flips: True → False"
    quick = cellscale.load_model(tmp_path / "quick")
    assert (quick.test_time_flips, settings_of(quick.method)) == (False, settings_of(flips.method))


@pytest.mark.parametrize("name", ["minimum_area", "contours.minimum_area", "method.minimum_area"])
def test_a_segmentation_says_where_a_models_settings_are_changed(name: str, work: Path) -> None:
    asked: dict[str, Any] = {"model": work / "model", "layer": "refused", "backend": "serial"}
    with pytest.raises(
        InputError, match=r"one of the model.*`cellscale calibrate MODEL --set (contours\.)?minimum_area=…"
    ):
        cellscale.segment(work / "movie.zarr", **asked, settings={name: 9})


def test_the_command_says_what_changed(work: Path, tmp_path: Path) -> None:
    words = ("calibrate", str(work / "model"), "--set", "minimum_area=77", "--output", str(tmp_path / "m"))
    done = CliRunner().invoke(cli, words)
    given = settings_of(cellscale.load_model(work / "model").method)
    old = given["contours.minimum_area"]
    assert done.output.splitlines() == [f"contours.minimum_area: {old} → 77", f"Model: {tmp_path / 'm'}"]
    again = CliRunner().invoke(cli, (*words, str(work / "movie.zarr"), "--frames", "3:4", "--overwrite", "--json"))
    told, made = json.loads(again.output), cellscale.load_model(tmp_path / "m")
    assert (told["settings"], told["validation"]) == (settings_of(made.method), made.training["validation"])


def test_a_curve_goes_with_the_weights_that_it_belongs_to(work: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    shutil.copytree(work / "model", kept)
    curve = {name: (kept / name).read_bytes() for name in CURVE}
    # The model in its own folder has the same weights: its training's curve stays.
    cellscale.calibrate(kept, settings={"minimum_area": 70}, output=kept, overwrite=True)
    assert {name: (kept / name).read_bytes() for name in CURVE} == curve
    # Another model in its place: the curve of the old one would be taken for its own.
    cellscale.calibrate("nuclei", settings={"minimum_area": 70}, output=kept, overwrite=True)
    assert [path.name for path in kept.iterdir() if path.name in CURVE] == []
    assert cellscale.load_model(kept).method.name == "unet-ronneberger"

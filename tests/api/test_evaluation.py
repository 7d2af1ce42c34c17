"""Scores of label layers: pixels that nobody annotated, and frames of any size."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import cellscale
from cellscale.cli.main import cli
from cellscale.metrics import frames as metrics_frames
from cellscale.metrics import scores
from cellscale.ngff.image import NgffImage
from cellscale.types import Labels
from tests.metrics.damage import damaged, scattered
from tests.ngff.pictures import layer, make

UNKNOWN = 65535


def image_with(path: Path, **layers: Labels) -> NgffImage:
    image = make(path, np.zeros((1, *layers["truth"].shape), np.uint8), "tyx")
    for name, labels in layers.items():
        layer(image, name, labels[None])
    return image


def test_what_nobody_annotated_is_not_scored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    truth = scattered(1)
    found = damaged(truth, 1)
    known = np.broadcast_to(np.arange(truth.shape[1]) < 30, truth.shape)
    image = image_with(tmp_path / "i.zarr", truth=np.where(known, truth, UNKNOWN).astype(np.uint32), cells=found)
    expected = scores([(truth * known, found * known)])
    got = cellscale.evaluate(image.url, ignore_label=UNKNOWN)
    assert got.to_dict() == pytest.approx({"frames": 1, **expected}, nan_ok=True)
    assert caplog.messages == []
    assert cellscale.evaluate(image.url).truth_cells == expected["truth_cells"] + 1
    assert ["--ignore-label 65535" in message for message in caplog.messages] == [True]


def test_scores_do_not_depend_on_tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = scattered(3)
    image = image_with(tmp_path / "i.zarr", truth=truth, cells=damaged(truth, 3))
    whole = cellscale.evaluate(image.url)
    monkeypatch.setattr(metrics_frames, "TILE_PX", 17)
    assert cellscale.evaluate(image.url) == whole


def test_scores_that_are_not_defined_are_null_in_json(tmp_path: Path) -> None:
    empty = np.zeros((20, 30), np.uint32)
    image = image_with(tmp_path / "i.zarr", truth=empty, cells=empty)
    file = tmp_path / "scores.json"
    printed = CliRunner().invoke(cli, ["evaluate", image.url, "--json", "--output", str(file)]).output
    for text in (printed, file.read_text()):
        assert json.loads(text, parse_constant=pytest.fail)["seg"] is None


def test_slices_of_a_volume_are_scored_as_planes_whose_links_do_not_count(tmp_path: Path) -> None:
    truth = np.zeros((1, 3, 24, 24), np.uint32)
    truth[:, :, 2:9, 2:9], truth[:, :, 12:20, 12:20] = 1, 2
    parted = truth + np.array([0, 10, 20], np.uint32)[:, None, None] * (truth > 0)
    image = str(tmp_path / "i.zarr")
    cellscale.save_image(np.zeros(truth.shape, np.uint8), image, axes="tzyx")
    cellscale.save_labels(truth, image, layer="truth")
    cellscale.save_labels(parted, image, layer="cells")
    found = cellscale.evaluate(image)
    assert (found.seg, found.f1, found.truth_cells, found.predicted_cells) == (1, 1, 6, 6)

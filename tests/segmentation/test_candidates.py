"""Mask R-CNN through a whole run: untrained networks propose plenty, and no tile changes a byte."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from cellscale.methods import load_method
from cellscale.models.model import Model
from cellscale.ngff.image import NgffImage
from cellscale.segmentation.plan import Settings, plan
from cellscale.segmentation.report import Report
from cellscale.segmentation.run import segment
from cellscale.segmentation.target import Target
from cellscale.storage.folder import Folder
from tests.blobs import blurred_noise
from tests.segmentation.test_run import arrays, equal, written


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    cells = {"cells.size": 16.0, "cells.longest": 30, "cells.density": 1500.0}
    method = load_method("maskrcnn", width=4, samples=16, score=0.1, overlap=64, **cells)
    return Model(method=method, networks={name: net.eval() for name, net in method.networks().items()})


@pytest.fixture
def image(tmp_path: Path) -> NgffImage:
    return written(str(tmp_path / "movie.zarr"), blurred_noise((1, 150, 211)))


def segmented(image: NgffImage, model: Model, name: str, **settings: Any) -> Report:
    run = plan(
        image, model, Settings(**{"precision": "fp32", **settings}), Folder(url=f"{image.url}/.cellscale-{name}")
    )
    return segment(run, model.networks, Target(store=image.url, name=name))


@pytest.mark.parametrize("window", [64, 2048])
def test_tiles_do_not_change_a_byte(image: NgffImage, model: Model, window: int) -> None:
    whole = segmented(image, model, "whole", window_size=window, tile_size=211)
    assert whole.cells > 5
    for tile in (37, 64):
        assert segmented(image, model, f"by{tile}", window_size=window, tile_size=tile).cells == whole.cells
        assert equal(arrays(image, f"by{tile}"), arrays(image, "whole"))


def test_limits_that_are_reached_are_reported(image: NgffImage, model: Model, caplog: pytest.LogCaptureFixture) -> None:
    report = segmented(image, model, "cells", window_size=64)
    assert report.reached["detections"] > 0
    assert "limits of the networks were reached" in caplog.text

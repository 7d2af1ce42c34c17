"""Probability maps as an image: the numbers that are decoded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

import cellscale
from cellscale.api import probability_maps
from cellscale.errors import InputError, MissingError
from cellscale.methods import load_method
from cellscale.models.model import Model
from cellscale.ngff.image import open_image
from cellscale.ngff.labels import open_labels
from cellscale.tiling.in_memory import whole_frame
from cellscale.types import Box
from cellscale.viewers.scenes import scene
from tests.blobs import BLOBS, blobs_model, blurred_noise
from tests.ngff.pictures import make, validate


@pytest.mark.parametrize("ngff", ["0.4", "0.5"])
def test_decoding_the_maps_gives_the_labels(tmp_path: Path, ngff: str) -> None:
    pixels = blurred_noise((3, 1, 90, 120))
    image = make(tmp_path / "i.zarr", pixels, "tcyx", pixel_size_um=(0.5, 0.25), version=ngff)
    words: dict[str, Any] = {"model": blobs_model(), "frames": (1, 3), "settings": {"window_size": 32}}
    url = cellscale.predict_maps(image.url, output=str(tmp_path / "maps.zarr"), **words)
    cellscale.segment(image.url, backend="serial", tile_size=50, **words)
    maps = open_image(url)
    assert (maps.channels, maps.version, maps.pixel_size_um()) == (("cell", "touching"), ngff, (0.5, 0.25))
    assert validate(url) == "Image"
    box, layer = Box(0, 0, 90, 120), open_labels(image.url, "cells")
    for t in (1, 2):
        stored = dict(zip(maps.channels, maps.read(box, t=t), strict=True))
        assert np.array_equal(whole_frame(BLOBS, stored) > 0, layer.read(box, t=t) > 0)
    assert not maps.read(box, t=0).any()
    assert [layer.name for layer in scene(url, labels_store=image.url).labels] == ["cells"]


def test_a_detector_has_no_maps(tmp_path: Path) -> None:
    image = make(tmp_path / "i.zarr", blurred_noise((40, 40)), "yx")
    model = Model(method=load_method("maskrcnn"), networks={})
    with pytest.raises(InputError, match="candidates"):
        cellscale.predict_maps(image.url, model=model, output=str(tmp_path / "maps.zarr"))
    assert not (tmp_path / "maps.zarr").exists()


def test_an_unknown_option_is_named(tmp_path: Path) -> None:
    image = make(tmp_path / "i.zarr", blurred_noise((40, 40)), "yx")
    calls: tuple[Any, ...] = (cellscale.segment, cellscale.plan)
    for call in calls:
        with pytest.raises(MissingError, match="Did you mean 'tile_size'"):
            call(image.url, model=blobs_model(), tile_siz=32)


def test_maps_that_fail_leave_nothing_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise InputError("no prediction")

    image = make(tmp_path / "i.zarr", blurred_noise((40, 40)), "yx")
    before = set(fsspec.filesystem("memory").store)
    monkeypatch.setattr(probability_maps, "predictions_of", broken)
    with pytest.raises(InputError, match="no prediction"):
        cellscale.predict_maps(image.url, model=blobs_model(), output=str(tmp_path / "maps.zarr"))
    assert set(fsspec.filesystem("memory").store) == before
    assert not (tmp_path / "maps.zarr").exists()

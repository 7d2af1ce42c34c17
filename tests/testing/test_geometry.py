"""The geometry check finds what the format's validators let pass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cellscale.ngff.image import NgffImage
from cellscale.ngff.labels import LabelLayer, stage_labels
from cellscale.ngff.metadata import Level
from cellscale.testing.geometry import check_geometry
from tests.ngff.pictures import make, noise


@pytest.fixture
def pair(tmp_path: Path) -> tuple[NgffImage, LabelLayer]:
    image = make(tmp_path / "i.zarr", noise(2, 2, 600, 600), "tcyx", pixel_size_um=(0.5, 0.5))
    return image, stage_labels(image, "cells", planes_z=1)


def test_a_staged_layer_is_right(pair: tuple[NgffImage, LabelLayer]) -> None:
    assert check_geometry(*pair) == []


def _half(level: Level) -> Level:
    return replace(level, shape=(*level.shape[:2], level.shape[2] // 2, level.shape[3] // 2))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (lambda a: {"levels": tuple(_half(level) for level in a.levels)}, "y: 300 instead of 600"),
        (lambda a: {"levels": tuple(replace(level, scale=(1, 1, 1, 1)) for level in a.levels)}, "has the scale"),
        (lambda a: {"levels": tuple(replace(level, translation=(0, 0, 1, 0)) for level in a.levels)}, "translation"),
        (lambda a: {"levels": a.levels[:1]}, "1 levels; the image has 2"),
        (lambda a: {"axes": ("c", "t", "y", "x")}, "axes are c, t"),
        (lambda a: {"units": (None, None, "nanometer", "nanometer")}, "units are"),
        (lambda a: {"dtype": np.dtype("f4")}, "pixels are float32"),
    ],
)
def test_what_is_wrong_is_said(pair: tuple[NgffImage, LabelLayer], changes: Any, words: str) -> None:
    image, layer = pair
    problems = check_geometry(image, replace(layer, **changes(layer)))
    assert any(words in problem for problem in problems), problems


def test_two_channels_of_labels_where_the_image_has_three_are_wrong(tmp_path: Path) -> None:
    image = make(tmp_path / "i.zarr", noise(3, 40, 40), "cyx")
    layer = stage_labels(image, "cells", planes_z=1)
    wrong = replace(layer, levels=(replace(layer.levels[0], shape=(2, 40, 40)),))
    assert "c: 2 instead of 3" in check_geometry(image, wrong)[0]

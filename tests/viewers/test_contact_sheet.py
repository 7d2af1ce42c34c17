"""The contact sheet: what it reads, what it compares, what it draws."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from cellscale.errors import MissingError
from cellscale.ngff.image import NgffImage
from cellscale.ngff.import_planes import write_frame
from cellscale.ngff.labels import publish_labels, stage_labels
from cellscale.types import Labels
from cellscale.viewers.contact_sheet import SHADES, preview
from tests.ngff.pictures import make, noise


def grid(height: int, width: int, side: int = 16) -> Labels:
    """Square cells with gaps of four pixels."""
    rows, columns = np.indices((height, width))
    cells = 1 + (rows // side) * (width // side) + columns // side
    return np.where((rows % side < side - 4) & (columns % side < side - 4), cells, 0).astype(np.uint32)


def layered(path: Path, layers: dict[str, Labels], frames: int = 3) -> NgffImage:
    height, width = next(iter(layers.values())).shape
    image = make(path, noise(frames, height, width), "tyx")
    for name, labels in layers.items():
        layer = stage_labels(image, name, planes_z=1)
        for t in range(frames):
            write_frame(layer, labels, t=t)
        publish_labels(layer)
    return image


def test_missed_split_merged_and_spurious_cells_have_their_colours(tmp_path: Path) -> None:
    truth = grid(64, 64)
    found = truth.copy()
    found[found == 1] = 0
    found[:16, 16:32][:6] *= 100
    found[(truth == 5) | (truth == 6)] = 5
    found[16:28, 12:16] = 5
    truth[truth == 16] = 0
    image = layered(tmp_path / "i.zarr", {"truth": truth, "cells": found})
    drawn = preview(image.url, output=str(tmp_path / "out" / "sheet.png"), count=2)
    assert (drawn.layer, drawn.ground_truth, drawn.level, list(drawn.frames)) == ("cells", "truth", 0, [0, 2])
    assert drawn.frames[0] == {"true positive": 11, "false negative": 1, "split": 1, "merged": 2, "false positive": 1}
    picture = matplotlib.image.imread(io.BytesIO((tmp_path / "out" / "sheet.png").read_bytes()))[..., :3]
    for shade in SHADES.values():
        assert np.abs(picture - np.float32(shade)).max(axis=-1).min() < 0.01


def test_a_coarse_level_is_enough(tmp_path: Path) -> None:
    image = layered(tmp_path / "i.zarr", {"truth": grid(700, 640, 40)}, frames=1)
    assert len(image.levels) == 2
    drawn = preview(image.url, output=str(tmp_path / "sheet.png"), longest=400)
    assert (drawn.level, drawn.layer, drawn.ground_truth, drawn.frames) == (1, "truth", None, {0: {}})


def test_an_unknown_layer_is_named(tmp_path: Path) -> None:
    image = layered(tmp_path / "i.zarr", {"truth": grid(40, 40)})
    with pytest.raises(MissingError, match="'celsl'"):
        preview(image.url, layer="celsl", output=str(tmp_path / "x.png"))
    with pytest.raises(MissingError, match="Frame 7"):
        preview(image.url, frames=[7], output=str(tmp_path / "x.png"))
    assert not (tmp_path / "x.png").exists()

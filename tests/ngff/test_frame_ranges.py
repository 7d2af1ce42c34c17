"""Frames that have no labels are refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import cellscale
from cellscale.errors import MissingError
from cellscale.ngff.import_planes import write_frame
from cellscale.ngff.labels import publish_labels, stage_labels
from cellscale.training.selection import training_data
from tests.ngff.pictures import make, noise


def test_a_frame_that_was_not_segmented_is_named_with_those_that_were(tmp_path: Path) -> None:
    image = make(tmp_path / "i.zarr", noise(6, 20, 20), "tyx")
    for name, frames in (("truth", range(6)), ("cells", (0, 1, 2, 4))):
        layer = stage_labels(image, name, planes_z=1, metadata={"frames": list(frames)})
        for t in frames:
            write_frame(layer, np.ones((20, 20), np.uint32), t=t)
        publish_labels(layer)
    with pytest.raises(MissingError, match="Frame 3 was not segmented in layer 'cells', which has 0:3, 4:5"):
        cellscale.evaluate(image.url)
    assert cellscale.evaluate(image.url, frames=(0, 3)).seg == 1
    told = r"None of the frames 5:6 of .*cells has labels; those that have are 0:3, 4:5\. Choose frames among these"
    with pytest.raises(MissingError, match=told):
        training_data(image, "cells", 1, (5, None))
    with pytest.raises(MissingError, match=told):
        cellscale.evaluate(image.url, layer="truth", ground_truth="cells", frames=(5, None))
    with pytest.raises(MissingError, match=told):
        cellscale.measure(image.url, layer="cells", frames=(5, None))

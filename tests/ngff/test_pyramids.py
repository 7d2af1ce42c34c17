"""Pyramids: one pixel of each block is kept, wherever the box lies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from cellscale.ngff.image import open_image
from cellscale.ngff.import_planes import write_frame
from cellscale.ngff.labels import stage_labels
from cellscale.ngff.pyramids import downsample, kept, level_count, mean_of_blocks
from tests.ngff.pictures import make, whole


@pytest.mark.parametrize(
    ("before", "after", "factor"), [(511, 255, 2), (511, 256, 2), (512, 256, 2), (5, 2, 2), (9, 3, 3), (7, 7, 1)]
)
def test_every_factors_first_pixel_is_kept(before: int, after: int, factor: int) -> None:
    assert kept(before, after).tolist() == [factor * i for i in range(after)]


@given(before=st.integers(1, 5000), data=st.data())
def test_kept_pixels_exist_and_rise(before: int, data: st.DataObject) -> None:
    after = data.draw(st.integers(1, before))
    indices = kept(before, after)
    assert len(indices) == after
    assert indices[0] == 0
    assert indices[-1] < before
    assert (np.diff(indices) > 0).all()


@given(st.integers(1, 9), st.integers(1, 9))
def test_means_of_constant_images_are_the_constant(height: int, width: int) -> None:
    for value in (np.uint8(255), np.float32(0.1), np.int16(-3)):
        small = mean_of_blocks(np.full((height, width), value))
        assert small.shape == (-(-height // 2), -(-width // 2))
        assert small.dtype == value.dtype
        assert (small == value).all()


def test_level_count_ends_at_512() -> None:
    assert [level_count((n, 10)) for n in (1, 512, 513, 1024, 1025)] == [1, 1, 2, 2, 3]


def test_boxes_of_a_level_fit_together(tmp_path: Path) -> None:
    image = make(tmp_path / "i.zarr", np.zeros((4200, 70), np.uint8), "yx", levels=2)
    layer = stage_labels(image, "cells", planes_z=1)
    labels = np.arange(4200 * 70, dtype=np.uint32).reshape(4200, 70)
    for box in layer.shards(0):
        layer.write(labels[box.slices], box)
    for box in reversed(layer.shards(1)):
        downsample(layer, 1, box)
    assert (layer.read(whole(layer, 1), level=1) == labels[::2, ::2]).all()


def test_pyramids_that_shrink_along_z_keep_whole_slices(tmp_path: Path) -> None:
    datasets = [{"path": "0"}, {"path": "1"}, {"path": "2"}]
    multiscale = {"version": "0.4", "axes": [{"name": axis} for axis in "zyx"], "datasets": datasets}
    group = zarr.create_group(str(tmp_path), zarr_format=2, attributes={"multiscales": [multiscale]})
    for path, shape in (("0", (5, 40, 30)), ("1", (3, 20, 15)), ("2", (3, 10, 8))):
        group.create_array(path, shape=shape, chunks=shape, dtype="u1")
    image = open_image(str(tmp_path))
    assert image.levels[1].scale == (2, 2, 2)
    layer = stage_labels(image, "cells", planes_z=5)
    labels = np.arange(5 * 40 * 30, dtype=np.uint32).reshape(5, 40, 30)
    for z in range(5):
        write_frame(layer, labels[z], t=0, z=z)
    for z in range(3):
        assert (layer.read(whole(layer, 1), z=z, level=1) == labels[2 * z, ::2, ::2]).all()
        assert (layer.read(whole(layer, 2), z=z, level=2) == labels[2 * z, ::4, ::4]).all()

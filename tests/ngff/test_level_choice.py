"""The level that fits a model, and labels brought to another level's size."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

import cellscale
from cellscale.errors import ExistsError, InputError, MissingError
from cellscale.models.model import Model
from cellscale.ngff.image import NgffImage, open_image
from cellscale.ngff.labels import list_labels, open_labels, remove_labels
from cellscale.ngff.level_choice import fitting, from_level
from cellscale.ngff.upsampling import labels_at
from cellscale.testing.geometry import check_geometry
from cellscale.types import Box
from tests.blobs import blobs_model, blurred_noise
from tests.ngff.pictures import layer, make, noise, validate, whole


def pyramid(path: Path) -> NgffImage:
    image = make(path, blurred_noise((2, 1200, 900)), "tyx", pixel_size_um=(0.25, 0.25))
    assert [level.shape[1] for level in image.levels] == [1200, 600, 300]
    return image


@pytest.mark.parametrize(
    ("size_um", "level", "warned"),
    [(0.25, 0, False), (0.34, 0, False), (0.37, 1, False), (1.0, 2, False), (1.7, 2, True), (0.1, 0, True)],
)
def test_auto_takes_the_nearest_level_and_warns_where_none_is_near(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, size_um: float, level: int, warned: bool
) -> None:
    image = pyramid(tmp_path / "i.zarr")
    with caplog.at_level(logging.WARNING, "cellscale"):
        assert fitting(image, "auto", (size_um, size_um)).levels[: 3 - level] == image.levels[level:]
    assert bool(caplog.messages) == warned


def test_a_mismatch_is_told_in_numbers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    image = pyramid(tmp_path / "i.zarr")
    fitting(image, 0, (1.0, 1.0))
    assert "0.25 × 0.25 µm" in caplog.text
    assert "1 × 1 µm: 4.0 × finer" in caplog.text
    assert "--level auto" in caplog.text


def test_what_is_no_level_is_refused(tmp_path: Path) -> None:
    image = pyramid(tmp_path / "i.zarr")
    with pytest.raises(InputError, match="the model has none"):
        fitting(image, "auto", None)
    with pytest.raises(InputError, match=r"bare\.zarr has none"):
        fitting(make(tmp_path / "bare.zarr", noise(40, 40), "yx"), "auto", (1.0, 1.0))
    with pytest.raises(InputError, match="'-1'"):
        fitting(image, "-1", None)
    with pytest.raises(MissingError, match="Level 3"):
        fitting(image, "3", None)


def test_a_segmentation_of_a_level_is_that_of_the_level_as_an_image(tmp_path: Path) -> None:
    image, model = pyramid(tmp_path / "i.zarr"), blobs_model()
    sized = Model(method=model.method, networks=model.networks, pixel_size_um=(0.5, 0.5))
    cellscale.segment(image.url, model=sized, level="auto", tile_size=200, backend="serial")
    layer = open_labels(image.url, "cells")
    assert check_geometry(from_level(image, 1), layer) == []
    assert [level.shape[1:] for level in layer.levels] == [(600, 450), (300, 225), (150, 113)]
    assert [level.scale[1] for level in layer.levels] == [0.5, 1, 2]
    validate(image.url)
    pixels = np.concatenate([image.read(whole(image, 1), t=t, level=1) for t in range(2)])
    alone = make(tmp_path / "alone.zarr", pixels, "tyx", pixel_size_um=(0.5, 0.5))
    cellscale.segment(alone.url, model=sized, tile_size=200, backend="serial")
    for t in range(2):
        same = open_labels(alone.url, "cells").read(whole(alone), t=t)
        assert np.array_equal(layer.read(whole(alone), t=t), same)


def test_labels_are_upsampled_to_the_image(tmp_path: Path) -> None:
    image = pyramid(tmp_path / "i.zarr")
    cellscale.segment(image.url, model=blobs_model(), level=1, backend="serial")
    full = open_labels(cellscale.upsample_labels(image.url).rsplit("/labels/", 1)[0], "cells-full")
    assert check_geometry(open_image(image.url), full) == []
    coarse = open_labels(image.url, "cells").read(whole(image, 1), t=1)
    assert coarse.max() > 10
    fine = full.read(whole(image), t=1)
    assert np.array_equal(fine, coarse.repeat(2, 0).repeat(2, 1))
    assert np.array_equal(full.read(whole(image, 1), t=1, level=1), coarse)
    box = Box(10, 20, 300, 310)
    assert np.array_equal(labels_at(open_labels(image.url, "cells"), image, 0, box, t=1, z=0), fine[box.slices])


def test_an_upsampling_that_was_stopped_is_repeated_and_replaces_only_when_asked(tmp_path: Path) -> None:
    image = make(tmp_path / "i.zarr", noise(2, 80, 90), "tyx", levels=2)
    labels = np.arange(2 * 40 * 45, dtype=np.uint32).reshape(2, 40, 45)
    layer(from_level(image, 1), "cells", labels)
    pixels = labels.repeat(2, 1).repeat(2, 2)

    def stop(step: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cellscale.upsample_labels(image.url, on_progress=stop)
    assert list_labels(image.url) == ("cells",)
    cellscale.upsample_labels(image.url)
    assert np.array_equal(cellscale.open_labels(image.url, "cells-full"), pixels)
    with pytest.raises(ExistsError, match="already has a label layer 'cells-full'"):
        cellscale.upsample_labels(image.url)
    with pytest.raises(InputError, match="cannot be upsampled into itself"):
        cellscale.upsample_labels(image.url, new_layer="cells", overwrite=True)
    remove_labels(image.url, "cells")
    layer(from_level(image, 1), "cells", labels[::-1])
    cellscale.upsample_labels(image.url, overwrite=True)
    assert np.array_equal(cellscale.open_labels(image.url, "cells-full"), pixels[::-1])

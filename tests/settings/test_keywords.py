"""Arguments of public functions: names, types and ranges are checked before anything is done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cellscale
from cellscale.errors import InputError
from cellscale.ngff.label_layer import list_labels
from cellscale.settings.fields import fitting
from cellscale.settings.frame_range import chosen_frames


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = str(tmp_path_factory.mktemp("keywords") / "i.zarr")
    cellscale.synthesize(url, shape=(2, 48, 48), cells=2)
    return url


@pytest.mark.parametrize("frames", [3, (0, 1, 2), "0:1", (0.0, 1.0), (), ("a", 1)])
def test_frames_that_are_no_range_are_refused(frames: Any) -> None:
    with pytest.raises(InputError, match=r"^frames is .*; expected two whole numbers or None, .*e\.g\. \(0, 10\)"):
        chosen_frames(frames, 4, "i.zarr")


def test_frames_may_be_numbers_of_numpy_and_open() -> None:
    assert chosen_frames((np.int64(1), None), 4, "i.zarr") == range(1, 4)  # type: ignore[arg-type]
    assert chosen_frames([None, 2], 4, "i.zarr") == range(2)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"layer": 5}, "Option 'layer' expects a text, got 5"),
        ({"overwrite": "no"}, "Option 'overwrite' expects true or false, got 'no'"),
        ({"max_gap": 1.5}, "Option 'max_gap' expects a whole number, got 1.5"),
        ({"max_distance_px": "a"}, "Option 'max_distance_px' expects a number.*, got 'a'"),
        ({"backend": "dask"}, "Option 'backend' expects 'ray' or 'serial', got 'dask'"),
    ],
)
def test_an_option_of_the_wrong_type_is_refused(image: str, options: Any, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        cellscale.track(image, **{"layer": "truth", "backend": "serial", **options})
    assert list_labels(image) == ("truth",)


def test_an_unknown_backend_and_no_data_are_refused(image: str, tmp_path: Path) -> None:
    backend: Any = "dask"
    for command in (
        lambda: cellscale.segment(image, model="nuclei", backend=backend),
        lambda: cellscale.prepare(image, tmp_path / "p.zarr", backend=backend),
        lambda: cellscale.train("unet3", [image], output=tmp_path / "m", backend=backend),
    ):
        with pytest.raises(InputError, match="'backend' expects 'ray' or 'serial'"):
            command()
    with pytest.raises(InputError, match="data names no image"):
        cellscale.train("unet3", [], output=tmp_path / "m", backend="serial")


def test_numbers_of_numpy_are_numbers() -> None:
    assert fitting(np.int64(64), int, "tile_size") == 64
    assert fitting(np.float32(0.5), float, "sigma") == 0.5
    assert type(fitting(np.int64(64), int | None, "tile_size")) is int

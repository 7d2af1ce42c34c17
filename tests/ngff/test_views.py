"""Lazy views carry physical coordinates and read the stored pixels."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from cellscale.errors import MissingError, StoreError
from cellscale.ngff.import_planes import write_frame
from cellscale.ngff.labels import publish_labels, stage_labels
from cellscale.ngff.views import open_image_view, open_labels_view
from tests.ngff.pictures import make, noise


def test_an_image_has_coordinates_names_and_pixels(tmp_path: Path) -> None:
    pixels = noise(2, 2, 600, 40)
    image = make(
        tmp_path / "i.zarr", pixels, "tcyx", pixel_size_um=(0.5, 0.25), frame_interval_s=60, channels=("a", "b")
    )
    view = pickle.loads(pickle.dumps(open_image_view(image.url)))
    assert view.dims == ("t", "c", "y", "x")
    assert view.sel(c="b", t=60).isel(y=slice(3, 9)).values.tolist() == pixels[1, 1, 3:9].tolist()
    assert view.y.values[:3].tolist() == [0, 0.5, 1]
    assert view.x.attrs == {"units": "µm"}
    assert view.t.attrs == {"units": "s"}
    coarse = open_image_view(image.url, level=1)
    assert coarse.shape == (2, 2, 300, 20)
    assert coarse.y.values[:2].tolist() == [0.25, 1.25]
    with pytest.raises(MissingError, match="Level 2"):
        open_image_view(image.url, level=2)


def test_labels_align_with_their_image(tmp_path: Path) -> None:
    image = make(tmp_path / "i.zarr", noise(2, 40, 40), "tyx", pixel_size_um=(0.5, 0.5))
    layer = stage_labels(image, "cells", planes_z=1)
    write_frame(layer, np.arange(1600).reshape(40, 40), t=1)
    publish_labels(layer)
    view, pixels = open_labels_view(image.url, "cells"), open_image_view(image.url)
    assert view.dtype == np.uint32
    assert view.name == "cells"
    assert view.y.equals(pixels.y)
    assert int(view.isel(t=1, y=1, x=2)) == 42
    assert float(pixels.where(view == 42).max()) == pixels.values[1, 1, 2]


def test_other_units_are_converted_and_unknown_ones_kept(tmp_path: Path) -> None:
    image = make(tmp_path / "i.zarr", noise(2, 40, 40), "tyx", pixel_size_um=(500.0, 0.5))
    document = json.loads((tmp_path / "i.zarr" / "zarr.json").read_text())
    axes = document["attributes"]["ome"]["multiscales"][0]["axes"]
    axes[0]["unit"], axes[1]["unit"], axes[2]["unit"] = "hour", "nanometer", "furlong"
    (tmp_path / "i.zarr" / "zarr.json").write_text(json.dumps(document))
    view = open_image_view(image.url)
    assert view.t.values[1] == 3600
    assert view.y.values[1] == pytest.approx(0.5)
    assert (view.x.values[1], view.x.attrs) == (0.5, {"units": "furlong"})


def test_a_damaged_chunk_is_a_store_error(tmp_path: Path) -> None:
    image = make(tmp_path / "i.zarr", noise(40, 40), "yx")
    (tmp_path / "i.zarr" / "0" / "c" / "0" / "0").write_bytes(b"nothing")
    with pytest.raises(StoreError, match=r"i.zarr/0"):
        open_image_view(image.url).compute()


def test_a_view_of_an_image_that_was_replaced_gives_no_zeros(tmp_path: Path) -> None:
    view = open_image_view(make(tmp_path / "i.zarr", noise(40, 40), "yx").url)
    make(tmp_path / "i.zarr", noise(40, 40), "yx", overwrite=True)
    with pytest.raises(MissingError, match="was replaced or removed while it was read"):
        view.compute()

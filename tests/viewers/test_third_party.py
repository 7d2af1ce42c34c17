"""Stores and label layers of other programs open in `preview` and `view`."""

from __future__ import annotations

import tarfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from cellscale.viewers.contact_sheet import preview
from cellscale.viewers.neuroglancer import view
from cellscale.viewers.neuroglancer_state import state
from cellscale.viewers.scenes import scene
from tests.ngff.pictures import noise
from tests.viewers.test_contact_sheet import grid


def foreign(place: Path, pixels: NDArray[Any], labels: NDArray[Any], ngff: str) -> None:
    """Image and labels, (t, y, x), written by ome-zarr: it picks factors of its own and keeps any integer type."""
    root = zarr.open_group(str(place), mode="w", zarr_format=2 if ngff == "0.4" else 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ome_zarr.format import format_from_version
        from ome_zarr.writer import write_image, write_labels

        made = format_from_version(ngff)
        write_image(pixels[:, None], root, axes="tcyx", fmt=made)
        write_labels(labels[:, None], root, name="nuclei", axes="tcyx", fmt=made)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "uint64"])
@pytest.mark.parametrize("ngff", ["0.4", "0.5"])
def test_labels_of_another_program(tmp_path: Path, ngff: str, dtype: str) -> None:
    place, labels = tmp_path / "other.zarr", np.stack([grid(200, 240)] * 2)
    labels[labels > 250] = 0
    foreign(place, noise(2, 200, 240), labels.astype(dtype), ngff)
    drawn = preview(str(place), output=str(tmp_path / "sheet.png"), ground_truth="nuclei", longest=100)
    assert (drawn.layer, list(drawn.frames)) == ("nuclei", [0, 1])
    shown = scene(str(place))
    addresses = {shown.image.url: "http://a", **{layer.url: "http://b" for layer in shown.labels}}
    kinds = [(layer["type"], layer["source"]) for layer in state(shown.image, shown.labels, addresses)["layers"]]
    assert kinds == [("image", "http://a/|zarr:"), ("segmentation", "http://b/|zarr:")]


def test_labels_that_browsers_do_not_draw_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    foreign(tmp_path / "other.zarr", noise(1, 40, 40), grid(40, 40)[None].astype("int64"), "0.5")
    view(scene(str(tmp_path / "other.zarr"))).close()
    assert "'nuclei' is int64" in caplog.text


def test_images_of_other_programs(data: Path, tmp_path: Path) -> None:
    archive = data / "ome-zarr-third-party" / "stores.tar.gz"
    if not archive.exists():
        pytest.skip(f"{archive} is absent")
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path, filter="data")
    places = sorted({*tmp_path.rglob("*_v[45].ome.zarr"), *tmp_path.rglob("valid/image-*.zarr")})
    images = [place for place in places if "bf2raw" not in place.name]
    assert len(images) > 10
    for place in images:
        drawn = preview(str(place), output=str(tmp_path / "sheet.png"), count=1)
        shown = scene(str(place))
        assert drawn.layer is None
        assert state(shown.image, (), {shown.image.url: "http://a"})["layers"]

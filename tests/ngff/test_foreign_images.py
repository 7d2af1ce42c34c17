"""Images that other programs and people have packed: opened, or refused with the way out."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from cellscale.errors import InputError, MissingError, StoreError
from cellscale.ngff.image import open_image
from cellscale.ngff.labels import open_labels
from cellscale.viewers.contact_sheet import preview
from cellscale.viewers.neuroglancer_state import contrast
from tests.ngff.pictures import make, noise, whole


def test_a_zip_made_of_the_folder_opens(tmp_path: Path) -> None:
    pixels = noise(40, 50)
    made = make(tmp_path / "movie.zarr", pixels, "yx")
    for name, outer in (("one.zip", ""), ("two.zip", "data/")):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for path in Path(made.url).rglob("*"):
                archive.write(path, outer + str(path.relative_to(tmp_path)))
            archive.writestr("notes.txt", "")
    for name, inner in (("one.zip", "movie.zarr"), ("two.zip", "data/movie.zarr")):
        image = open_image(str(tmp_path / name))
        assert (image.read(whole(image))[0] == pixels).all()
        assert image.url.endswith(f"{name}/{inner}")
    with zipfile.ZipFile(tmp_path / "one.zip", "a") as archive:
        archive.writestr("other.zarr/zarr.json", "{}")
    with pytest.raises(MissingError, match=r"one.zip is no"):
        open_image(str(tmp_path / "one.zip"))


def test_the_version_of_spatialdata_opens(tmp_path: Path) -> None:
    make(tmp_path / "i.zarr", noise(40, 50), "yx")
    path = tmp_path / "i.zarr" / "zarr.json"
    path.write_text(path.read_text().replace('"version": "0.5"', '"version": "0.5-dev-spatialdata"'))
    assert open_image(str(tmp_path / "i.zarr")).version == "0.5"


def test_a_codec_that_is_not_installed_is_named(tmp_path: Path) -> None:
    make(tmp_path / "i.zarr", noise(40, 50), "yx", version="0.4")
    path = tmp_path / "i.zarr" / "0" / ".zarray"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"compressor": {"id": "nobodys"}}))
    with pytest.raises(StoreError, match=r"nobodys.*Install the package that provides it"):
        open_image(str(tmp_path / "i.zarr"))


def test_a_label_layer_of_several_channels_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "i.zarr", noise(2, 40, 50), "cyx")
    make(tmp_path / "i.zarr" / "labels" / "cells", noise(2, 40, 50), "cyx")
    listed = {"ome": {"version": "0.5", "labels": ["cells"]}}
    document = {"zarr_format": 3, "node_type": "group", "attributes": listed}
    (tmp_path / "i.zarr" / "labels" / "zarr.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match=r"labels/cells has 2 channels of labels; a layer has one"):
        open_labels(str(tmp_path / "i.zarr"), "cells")


def test_boolean_images_are_shown(tmp_path: Path) -> None:
    make(tmp_path / "i.zarr", np.eye(64, dtype=bool)[None], "tyx")
    image = open_image(str(tmp_path / "i.zarr"))
    preview(image.url, output=str(tmp_path / "p.png"))
    assert (tmp_path / "p.png").stat().st_size > 0
    assert contrast(image) == [(0.0, 1.0)]

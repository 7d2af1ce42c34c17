"""Collections: several images of one source, each a group of its own, listed as bioformats2raw does."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaozarrs

import cellscale
from cellscale.errors import ExistsError, InputError, StoreError
from cellscale.ngff import collections
from cellscale.ngff.image import list_images, open_image
from cellscale.ngff.labels import open_labels
from cellscale.ngff.metadata import update_group
from cellscale.ngff.stores import Store
from cellscale.types import Box
from tests.faults.moments import dies
from tests.ngff.pictures import noise, validate, whole


def _positions(path: Path) -> str:
    with tifffile.TiffWriter(path, ome=True) as file:
        for position, side in enumerate((40, 60)):
            pixels = np.full((2, side, 50), position + 1, "u2")
            metadata = {"axes": "TYX", "Name": f"well {position}", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
            file.write(pixels, metadata=metadata)
    return str(path)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_series_become_a_collection(tmp_path: Path, version: str) -> None:
    source, url = _positions(tmp_path / "p.ome.tif"), str(tmp_path / "p.zarr")
    seen: list[tuple[str, int, int]] = []
    made = cellscale.import_images(
        source, url, series="all", ome_zarr_version=version, on_progress=lambda *step: seen.append(step)
    )
    assert [image.url for image in made] == list(list_images(url)) == [f"{url}/0", f"{url}/1"]
    assert seen == [("import", 1, 2), ("import", 2, 2)]
    assert [image.size("y") for image in made] == [40, 60]
    assert made[1].pixel_size_um() == (0.5, 0.5)
    assert [int(image.read(whole(image), t=1).max()) for image in made] == [1, 2]
    assert validate(made[0].url) == "Image"
    yaozarrs.validate_zarr_store(url)
    assert list_images(made[1].url) == (made[1].url,)
    with pytest.raises(InputError, match=rf"is a collection of images, not one image.*{url}/0, {url}/1"):
        open_image(url)
    with pytest.raises(ExistsError, match="exists already"):
        cellscale.import_images(source, url, series="all")
    again = cellscale.import_images(source, url, series="all", overwrite=True, ome_zarr_version=version)
    assert [image.url for image in again] == list(list_images(url))
    assert [int(image.read(whole(image), t=1).max()) for image in again] == [1, 2]
    assert not any(Path(image.url).exists() for image in made)
    assert [validate(image.url) for image in again] == ["Image", "Image"]
    if version == "0.5":
        # Of 0.4, the validator looks for the version in the group 0.
        yaozarrs.validate_zarr_store(url)
    other = {"0.4": "0.5", "0.5": "0.4"}[version]
    with pytest.raises(ExistsError, match="is not a collection of OME-Zarr"):
        cellscale.import_images(source, url, series="all", overwrite=True, ome_zarr_version=other)


def test_a_collection_is_replaced_by_one_write_of_its_list(tmp_path: Path) -> None:
    """The import dies at many of its changes: what is listed is the old collection or the new one, whole."""
    url, values = str(tmp_path / "p.zarr"), {"old": [1, 2], "new": [3]}
    for name, found in values.items():
        (tmp_path / name).mkdir()
        for i, value in enumerate(found):
            tifffile.imwrite(tmp_path / name / f"{i}.tif", np.full((16, 16), value, "u2"))

    def imported(name: str) -> None:
        cellscale.import_images(tmp_path / name, url, series="all", overwrite=True)

    died, moment = True, 0
    while died:
        shutil.rmtree(url, ignore_errors=True)
        imported("old")
        died = dies(partial(imported, "new"), moment)
        listed = [int(open_image(image).read(Box(0, 0, 16, 16)).max()) for image in list_images(url)]
        assert listed in values.values(), moment
        assert died or listed == values["new"]
        moment += 4
    assert moment > 20


def test_one_series_is_an_image(tmp_path: Path) -> None:
    source, url = _positions(tmp_path / "p.ome.tif"), str(tmp_path / "p.zarr")
    with pytest.raises(InputError, match=r"holds 2 images .*0 'well 0' .*1 'well 1' .*--series N .*--series all"):
        cellscale.import_images(source, url)
    image = cellscale.import_images(source, url, series=1)
    assert (image.url, image.size("y"), int(image.read(whole(image)).max())) == (url, 60, 2)


def test_a_folder_of_sizes_with_masks(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for i, side in enumerate((40, 60, 50)):
        tifffile.imwrite(source / f"w{i}_img.tif", noise(side, 50))
        if i != 1:
            mask = np.zeros((side, 50), "u2")
            mask[3:9, 3:9], mask[20:30, 20:30] = i + 1, i + 2
            tifffile.imwrite(source / f"w{i}_masks.tif", mask)
    made = cellscale.import_images(str(source), str(tmp_path / "c.zarr"), masks=str(source), series="all")
    assert [image.size("y") for image in made] == [40, 60, 50]
    last = open_labels(made[2].url, "truth")
    assert np.unique(last.read(whole(last))).tolist() == [0, 3, 4]
    with pytest.raises(cellscale.CellscaleError, match="truth"):
        open_labels(made[1].url, "truth")


def test_a_collection_that_fails_leaves_nothing(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for name, side in (("a", 40), ("b", 60)):
        tifffile.imwrite(source / f"{name}.tif", noise(side, 50))
        tifffile.imwrite(source / f"{name}_mask.tif", np.zeros((40, 50), "u2"))
    with pytest.raises(InputError, match="expected the same slices, rows and columns"):
        cellscale.import_images(str(source), str(tmp_path / "c.zarr"), masks=str(source), series="all")
    assert not (tmp_path / "c.zarr").exists()


@pytest.mark.parametrize("again", [False, True])
def test_images_that_the_list_names_are_not_discarded(
    tmp_path: Path, again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The group's own document, the last write, fails."""
    source, url = _positions(tmp_path / "p.ome.tif"), str(tmp_path / "p.zarr")
    if again:
        cellscale.import_images(source, url, series="all")

    def met(store: Store, *args: Any) -> None:
        if not store.url.endswith("OME"):
            raise StoreError("the connection is gone")
        update_group(store, *args)

    monkeypatch.setattr(collections, "update_group", met)
    with pytest.raises(StoreError, match="connection"):
        cellscale.import_images(source, url, series="all", overwrite=again)
    listed = json.loads(Path(url, "OME", "zarr.json").read_text())["attributes"]["ome"]["series"]
    assert [open_image(f"{url}/{path}").size("y") for path in listed] == [40, 60]
    assert len(list_images(url)) == 2 if again else listed == ["0", "1"]

"""Documents of plates: what a plate lists is added to what it listed, and nothing else is replaced by one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaozarrs
import zarr

import cellscale
from cellscale.errors import CellscaleError, ExistsError, InputError, MissingError
from cellscale.ngff.plates import plate_images, write_plate
from cellscale.ngff.writer import create_image

VERSIONS = pytest.mark.parametrize("version", ["0.4", "0.5"])


def images(plate: Path, *names: str, version: str = "0.5") -> str:
    for name in names:
        place = str(plate / name if name else plate)
        with create_image(place, shape_tczyx=(1, 1, 1, 8, 8), dtype="u1", axes=("y", "x"), version=version) as writer:
            writer.write(np.ones((8, 8), np.uint8))
    return str(plate)


def documents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def plate_of(url: str, version: str) -> dict[str, Any]:
    attributes: dict[str, Any] = zarr.open_group(url, mode="r").attrs.asdict()
    found: dict[str, Any] = (attributes if version == "0.4" else attributes["ome"])["plate"]
    return found


@VERSIONS
def test_a_plate_that_is_written_again_keeps_its_wells(tmp_path: Path, version: str) -> None:
    url = images(tmp_path / "p.zarr", "A/10/0", "A/2/0", "A/2/1", "B/1/0", version=version)
    write_plate(url, {"A/10": ["0"], "A/2": ["0"]}, version=version)
    group = zarr.open_group(url, mode="r+")
    plate = {**plate_of(url, version), "name": "mine", "acquisitions": [{"id": 3}]}
    group.attrs["plate" if version == "0.4" else "ome"] = (
        plate if version == "0.4" else {"version": "0.5", "plate": plate}
    )
    group.attrs["other"] = 1
    write_plate(url, {"B/1": ["0"], "A/2": ["1", "1"]}, version=version)
    assert list(plate_images(url)) == ["A/10/0", "A/2/0", "A/2/1", "B/1/0"]
    found = plate_of(url, version)
    assert [side["name"] for side in found["columns"]] == ["1", "2", "10"]
    assert [side["name"] for side in found["rows"]] == ["A", "B"]
    assert found["wells"][0] == {"path": "A/10", "rowIndex": 0, "columnIndex": 2}
    assert (found["name"], found["acquisitions"]) == ("mine", [{"id": 3}])
    assert zarr.open_group(url, mode="r").attrs["other"] == 1
    if version == "0.5":
        yaozarrs.validate_zarr_store(url)


@VERSIONS
@pytest.mark.parametrize("place", ["", "A", "A/1"])
def test_a_plate_replaces_nothing(tmp_path: Path, version: str, place: str) -> None:
    """Neither an image in the place of the plate, of a row or of a well."""
    url = images(tmp_path / "p.zarr", place, "A/1/f", "A/2/f", version=version)
    before = documents(tmp_path)
    with pytest.raises(ExistsError, match=r"is an image; .* does not replace it"):
        write_plate(url, {"A/2": ["f"], "A/1": ["f"]}, version=version)
    assert documents(tmp_path) == before
    assert cellscale.open_image(f"{url}/{place}".rstrip("/")).shape[-1] == 8


@pytest.mark.parametrize(
    ("fields", "kind", "told"),
    [
        ({"A/1": ["1"]}, MissingError, "no image A/1/1; expected images that exist"),
        ({"A/1": ["../../x"]}, InputError, "not a valid name of a field"),
        ({"A/1": "00"}, InputError, "expected a list of their names"),
        ({"A/1": [0]}, InputError, "expected its name as text"),
        ({"A/1": []}, InputError, "expected a list of their names"),
        ({"con/1": ["0"]}, InputError, "not a valid name of a well"),
        ({1: ["0"]}, InputError, "not a valid name of a well"),
        ({}, InputError, "lists no wells"),
        (["A/1"], InputError, "lists no wells"),
    ],
)
def test_what_a_plate_cannot_list_is_refused_before_anything_is_written(
    tmp_path: Path, fields: Any, kind: type[CellscaleError], told: str
) -> None:
    url = images(tmp_path / "p.zarr", "A/1/0")
    before = documents(tmp_path)
    with pytest.raises(kind, match=told):
        write_plate(url, fields)
    assert documents(tmp_path) == before


def test_a_plate_has_images_of_one_version(tmp_path: Path) -> None:
    url = images(tmp_path / "p.zarr", "A/1/0", version="0.4")
    with pytest.raises(InputError, match=r"A/1/0 is OME-Zarr 0\.4; .* Give the version 0\.4"):
        write_plate(url, {"A/1": ["0"]})
    write_plate(url, {"A/1": ["0"]}, version="0.4")
    with pytest.raises(InputError, match=r"expected 0\.5"):
        write_plate(images(tmp_path / "p.zarr", "B/1/0"), {"B/1": ["0"]})


def test_a_plate_that_lists_wells_of_other_forms_is_left_as_it_is(tmp_path: Path) -> None:
    url = images(tmp_path / "p.zarr", "A/1/0", "A/2/0")
    write_plate(url, {"A/1": ["0"]})
    document = tmp_path / "p.zarr" / "zarr.json"
    found = json.loads(document.read_text())
    found["attributes"]["ome"]["plate"]["wells"][0]["path"] = "../x"
    document.write_text(json.dumps(found))
    before = documents(tmp_path)
    with pytest.raises(InputError, match="Correct the plate first"):
        write_plate(url, {"A/2": ["0"]})
    assert documents(tmp_path) == before

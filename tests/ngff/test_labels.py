"""Label layers: as the image has them, invisible until published, whole objects only."""

from __future__ import annotations

import json
import pickle
import shutil
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import zarr

import cellscale
from cellscale.errors import CellscaleError, ExistsError, InputError, MissingError, StoreError
from cellscale.ngff import array_io
from cellscale.ngff.image import NgffImage, open_image
from cellscale.ngff.import_planes import write_frame
from cellscale.ngff.labels import (
    LabelLayer,
    discard_labels,
    list_labels,
    open_labels,
    publish_labels,
    remove_labels,
    stage_labels,
)
from cellscale.storage.folder import Folder
from cellscale.testing.geometry import check_geometry
from cellscale.types import Box
from tests.faults.moments import dies
from tests.ngff.pictures import make, noise, validate, whole


def _published(image: NgffImage, name: str = "cells", **options: Any) -> LabelLayer:
    layer = stage_labels(image, name, planes_z=options.pop("planes_z", image.size("z")), **options)
    for t in range(image.size("t")):
        for z in range(layer.size("z")):
            write_frame(layer, _labels(image, t, z), t=t, z=z)
    publish_labels(layer)
    return layer


def _labels(image: NgffImage, t: int = 0, z: int = 0) -> Any:
    shape = image.size("y"), image.size("x")
    return (np.arange(shape[0] * shape[1], dtype=np.uint32).reshape(shape) + 7 * t + 1000 * z) * 1000


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("axes", ["yx", "tyx", "tczyx"])
@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_layer_is_valid_and_lies_on_its_image(tmp_path: Path, version: str, axes: str, elsewhere: bool) -> None:
    shape = [{"t": 2, "c": 2, "z": 2, "y": 600, "x": 511}[axis] for axis in axes]
    image = make(tmp_path / "i.zarr", noise(*shape), axes, version=version, pixel_size_um=(0.5, 0.5))
    output = str(tmp_path / "o.zarr") if elsewhere else None
    home = output or image.url
    layer = pickle.loads(pickle.dumps(_published(image, output=output, metadata={"digest": "abc"})))
    opened = open_labels(home, "cells")
    assert opened == layer
    assert opened.source == (image.url if elsewhere else "../../")
    assert check_geometry(image, opened) == []
    t, z = image.size("t") - 1, image.size("z") - 1
    assert (opened.read(whole(opened), t=t, z=z) == _labels(image, t, z)).all()
    assert (opened.read(whole(opened, 1), t=t, z=z, level=1) == _labels(image, t, z)[::2, ::2]).all()
    assert [validate(url) for url in (layer.url, f"{home}/labels", image.url)] == ["ImageLabel", "Labels", "Image"]


@pytest.mark.parametrize(("image_version", "version"), [("0.4", "0.5"), ("0.5", "0.4")])
def test_another_store_may_have_another_version(tmp_path: Path, image_version: str, version: str) -> None:
    image = make(tmp_path / "i.zarr", noise(600, 40), "yx", version=image_version)
    layer = _published(image, output=str(tmp_path / "o.zarr"), version=version)
    opened = open_labels(str(tmp_path / "o.zarr"), "cells")
    assert (opened.version, opened.source) == (version, image.url)
    assert check_geometry(image, layer) == []
    assert validate(layer.url) == "ImageLabel"
    with pytest.raises(InputError, match=f"is OME-Zarr {image_version}; a layer in version {version} does not fit"):
        stage_labels(image, "cells", planes_z=1, version=version)


def test_a_layer_is_invisible_until_it_is_published(tmp_path: Path) -> None:
    image = make(tmp_path / "i.zarr", noise(40, 40), "yx")
    layer = stage_labels(image, "cells", planes_z=1)
    assert list_labels(image.url) == ()
    with pytest.raises(MissingError, match="has no label layers; 'cells' was asked for"):
        open_labels(image.url, "cells")
    publish_labels(layer)
    publish_labels(layer)
    _published(image, "nuclei")
    assert list_labels(image.url) == ("cells", "nuclei")
    with pytest.raises(MissingError, match="Did you mean 'cells'"):
        open_labels(image.url, "cell")


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_removed_layer_is_gone_and_the_others_stay(tmp_path: Path, version: str) -> None:
    image = make(tmp_path / "i.zarr", noise(40, 40), "yx", version=version)
    _published(image, "a")
    _published(image, "b")
    remove_labels(image.url, "a")
    assert list_labels(image.url) == ("b",)
    assert not (tmp_path / "i.zarr" / "labels" / "a").exists()
    assert validate(f"{image.url}/labels") == "Labels"
    remove_labels(image.url, "b")
    remove_labels(image.url, "b")
    assert list_labels(image.url) == ()
    assert validate(image.url) == "Image"


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_removal_that_dies_at_any_of_its_changes_is_completed_by_the_next(tmp_path: Path, version: str) -> None:
    image = make(tmp_path / "i.zarr", noise(40, 40), "yx", version=version)
    place, died, moment = tmp_path / "i.zarr" / "labels" / "a", True, 0
    while died:
        _published(image, "a")
        died = dies(partial(remove_labels, image.url, "a"), moment)
        moment += died
        if "a" in list_labels(image.url):
            assert open_labels(image.url, "a").read(whole(image)).any()
        remove_labels(image.url, "a")
        assert list_labels(image.url) == ()
        # At its last changes, a lock that nobody holds or the mark of an empty group may be left.
        left = {path.name for path in place.rglob("*") if path.is_file()}
        assert all(name == ".zgroup" or name.endswith((".part", ".lock")) for name in left)
        shutil.rmtree(tmp_path / "i.zarr" / "labels", ignore_errors=True)
    assert moment > 5


def test_a_layer_of_a_run_that_has_not_published_yet_is_not_removed(tmp_path: Path) -> None:
    """Not even where the layer of that name was being removed."""
    image = make(tmp_path / "i.zarr", noise(40, 40), "yx")
    _published(image, "a")
    assert dies(partial(remove_labels, image.url, "a"), 4)
    layer = stage_labels(image, "a", planes_z=1, attempt="b", overwrite=True)
    layer.write(_labels(image), whole(layer))
    remove_labels(image.url, "a")
    publish_labels(layer, overwrite=True)
    assert (open_labels(image.url, "a").read(whole(image)) == _labels(image)).all()
    remove_labels(image.url, "a")
    assert list_labels(image.url) == ()


def test_an_attempt_finds_what_it_has_written_and_others_change_nothing(tmp_path: Path) -> None:
    image = make(tmp_path / "i.zarr", noise(40, 40), "yx")
    layer = stage_labels(image, "cells", planes_z=1, attempt="a", metadata={"digest": "a", "frames": (0, 1)})
    layer.write(_labels(image), whole(layer))
    with pytest.raises(ExistsError, match=r"holds data which the list of label layers does not name.*--overwrite"):
        stage_labels(image, "cells", planes_z=1, attempt="b")
    other = stage_labels(image, "cells", planes_z=1, attempt="b", overwrite=True)
    other.write(_labels(image) + 1, whole(layer))
    again = stage_labels(image, "cells", planes_z=1, attempt="a", metadata={"digest": "a", "frames": (0, 1)})
    assert again == layer
    assert (again.read(whole(again)) == _labels(image)).all()
    assert list_labels(image.url) == ()


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_layer_is_replaced_by_one_write_and_the_old_one_goes_after_it(tmp_path: Path, version: str) -> None:
    image = make(tmp_path / "i.zarr", noise(600, 40), "yx", version=version)
    _published(image)
    old = open_labels(image.url, "cells")
    with pytest.raises(ExistsError, match="already has a label layer 'cells'"):
        stage_labels(image, "cells", planes_z=1)
    new = stage_labels(image, "cells", planes_z=1, overwrite=True, metadata={"digest": "new"})
    write_frame(new, _labels(image) + 1, t=0)
    assert open_labels(image.url, "cells") == old
    assert (old.read(whole(old)) == _labels(image)).all()
    with pytest.raises(ExistsError, match="was published by another run meanwhile"):
        publish_labels(new)
    publish_labels(new, overwrite=True)
    publish_labels(new)
    opened = open_labels(image.url, "cells")
    assert opened == new
    assert (opened.read(whole(opened)) == _labels(image) + 1).all()
    assert [validate(url) for url in (new.url, f"{image.url}/labels", image.url)] == ["ImageLabel", "Labels", "Image"]
    assert check_geometry(image, opened) == []
    left = {path.name for path in Path(new.url).iterdir() if not path.name.startswith((".z", "zarr.json"))}
    assert left == {level.path for level in new.levels}
    with pytest.raises(MissingError, match="was replaced or removed"):
        old.read(whole(old))
    # A name that is free again may be somebody else's.
    zarr.create_array(f"{new.url}/0", data=np.ones((9, 9), "u4"), zarr_format=2 if version == "0.4" else 3)
    publish_labels(stage_labels(image, "cells", planes_z=1, overwrite=True), overwrite=True)
    assert np.asarray(zarr.open_array(f"{new.url}/0", mode="r")[:]).all()


def test_a_reader_of_a_layer_that_is_replaced_meanwhile_gets_no_zeros(tmp_path: Path) -> None:
    image = make(tmp_path / "i.zarr", noise(600, 40), "yx")
    _published(image)
    old = open_labels(image.url, "cells")
    # The moment after a reader has opened the array: its document goes, then its chunks.
    (Path(old.url) / "0" / "zarr.json").unlink()
    with pytest.raises(MissingError, match="was replaced or removed while it was read"):
        array_io.check_still_there(old.store, "0")


@pytest.mark.parametrize("replaces", [None, "an earlier one"])
def test_a_layer_that_another_program_lists_meanwhile_stays(tmp_path: Path, replaces: str | None) -> None:
    """It names no attempt."""
    image = make(tmp_path / "i.zarr", noise(40, 40), "yx")
    layer = stage_labels(image, "cells", planes_z=1)
    layer.write(_labels(image), whole(layer))
    document = tmp_path / "i.zarr" / "labels" / "cells" / "zarr.json"
    theirs = json.loads((tmp_path / "i.zarr" / "zarr.json").read_text())
    del theirs["attributes"]["cellscale"]
    document.write_text(json.dumps(theirs))
    with pytest.raises(ExistsError, match="was published by another run meanwhile"):
        publish_labels(layer, overwrite=replaces is not None, replaces=replaces)
    assert json.loads(document.read_text()) == theirs


def test_only_what_a_layer_replaces_is_deleted(tmp_path: Path) -> None:
    image = make(tmp_path / "i.zarr", noise(40, 40), "yx")
    foreign = zarr.create_array(str(tmp_path / "i.zarr" / "labels" / "cells" / "0"), data=np.ones((40, 40), "u4"))
    notes = tmp_path / "i.zarr" / "labels" / "cells" / "notes.txt"
    notes.write_text("by hand")
    with pytest.raises(ExistsError, match=r"cells holds data which the list .* another program's"):
        _published(image)
    layer = stage_labels(image, "cells", planes_z=1, overwrite=True)
    layer.write(_labels(image), whole(layer))
    publish_labels(layer, overwrite=True)
    assert (open_labels(image.url, "cells").read(whole(layer)) == _labels(image)).all()
    assert notes.read_text() == "by hand"
    assert np.asarray(foreign[:]).all()


HOSTILE = ["../../outside", "..", ".", "", "/", "labels", "OME", "zarr.json", ".zattrs", ".hidden", "0", None, 5]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("own", ["new-0", "new-objects.parquet", "new-report"])
def test_a_document_that_lists_what_is_not_replaced_takes_nothing_with_it(
    tmp_path: Path, version: str, own: str
) -> None:
    """The list of old data may name places of the format, hidden files, other folders, or the new layer's own data."""
    image = make(tmp_path / "i.zarr", noise(40, 40), "yx", version=version)
    _published(image)
    others = [tmp_path / "outside" / "x", tmp_path / "i.zarr" / "labels" / "cells" / ".hidden" / "x"]
    for other in others:
        other.parent.mkdir()
        other.touch()
    document = tmp_path / "i.zarr" / "labels" / "cells" / ("zarr.json" if version == "0.5" else ".zattrs")
    stored = json.loads(document.read_text())
    (stored["attributes"] if version == "0.5" else stored)["cellscale"]["replaced"] = [*HOSTILE, own]
    document.write_text(json.dumps(stored))
    layer = stage_labels(image, "cells", planes_z=1, attempt="new", overwrite=True)
    layer.write(_labels(image), whole(layer))
    for name in ("objects.parquet", "report"):
        Folder(url=layer.place(name)).write("x", b"1")
    publish_labels(layer, overwrite=True)
    assert (open_labels(image.url, "cells").read(whole(layer)) == _labels(image)).all()
    assert all((document.parent / f"new-{name}" / "x").exists() for name in ("objects.parquet", "report"))
    assert all(other.exists() for other in others)
    assert not (document.parent / "0").exists()


@pytest.mark.parametrize(
    "multiscales",
    [
        None,
        [],
        5,
        ["x"],
        [{"datasets": 5}],
        [{"datasets": [{"path": "../outside"}, {"path": "labels/truth/0"}, {}, 5]}],
    ],
)
def test_a_replaced_image_takes_nothing_else_with_it_whatever_its_document_says(
    tmp_path: Path, multiscales: Any
) -> None:
    place = tmp_path / "i.zarr"
    cellscale.synthesize(str(place), shape=(1, 64, 64), cells=3)
    (tmp_path / "outside").mkdir()
    (place / "labels" / "theirs").mkdir()
    stored = json.loads((place / "zarr.json").read_text())
    stored["attributes"]["cellscale"]["replaced"] = HOSTILE
    if multiscales is not None:
        stored["attributes"]["ome"]["multiscales"] = multiscales
    (place / "zarr.json").write_text(json.dumps(stored))
    cellscale.synthesize(str(place), shape=(1, 64, 64), cells=5, overwrite=True)
    assert cellscale.open_labels(place, "truth").values.max() == 5
    assert (place / "labels" / "theirs").exists()
    assert (tmp_path / "outside").exists()


@pytest.mark.parametrize("published", [False, True])
def test_a_discarded_attempt_leaves_the_published_layer(tmp_path: Path, published: bool) -> None:
    image = make(tmp_path / "i.zarr", noise(40, 40), "yx")
    if published:
        _published(image)
    before = sorted((tmp_path / "i.zarr").rglob("*"))
    stage_labels(image, "cells", planes_z=1, attempt="mine", overwrite=True)
    discard_labels(image.url, "cells", "mine")
    after = sorted((tmp_path / "i.zarr").rglob("*"))
    assert [path for path in after if path.name not in ("labels", "cells")] == [
        path for path in before if path.name not in ("labels", "cells")
    ]
    discard_labels(image.url, "cells", open_labels(image.url, "cells").attempt or "" if published else "mine")
    assert list_labels(image.url) == (("cells",) if published else ())


def _publish_at(url: str, options: dict[str, Any] | None, name: str, start: Any) -> None:
    layer = stage_labels(open_image(url, storage_options=options), name, planes_z=1)
    start.wait()
    publish_labels(layer)


def _together(work: Any, arguments: list[tuple[Any, ...]]) -> list[BaseException | None]:
    """Do work in threads that go on at the same moment; the error of each."""
    start = threading.Barrier(len(arguments))

    def one(words: tuple[Any, ...]) -> BaseException | None:
        try:
            work(*words, start)
        except CellscaleError as error:
            return error
        return None

    with ThreadPoolExecutor(len(arguments)) as pool:
        return list(pool.map(one, arguments))


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("where", ["file", "memory", "s3"])
def test_all_layers_that_are_published_at_once_are_listed(
    tmp_path: Path, version: str, where: str, request: pytest.FixtureRequest
) -> None:
    options = request.getfixturevalue("s3") if where == "s3" else None
    url = {"file": str(tmp_path / "i.zarr"), "memory": f"memory://at-once/{version}.zarr"}.get(
        where, f"s3://cells/at-once/{version}.zarr"
    )
    make(url, noise(40, 40), "yx", version=version, storage_options=options)
    names = [f"layer-{i}" for i in range(5)]
    assert _together(_publish_at, [(url, options, name) for name in names]) == [None] * len(names)
    assert sorted(list_labels(url, storage_options=options)) == names


def test_two_attempts_of_one_name_at_once_publish_one_whole_layer(tmp_path: Path) -> None:
    image = make(tmp_path / "i.zarr", noise(40, 40), "yx")

    def published(value: int, start: Any) -> None:
        start.wait()
        layer = stage_labels(image, "cells", planes_z=1, overwrite=True)
        layer.write(np.full((40, 40), value, np.uint32), whole(layer))
        publish_labels(layer, overwrite=True)

    assert _together(published, [(value,) for value in range(1, 6)]) == [None] * 5
    layer = open_labels(image.url, "cells")
    assert np.unique(layer.read(whole(layer))).size == 1
    assert layer.read(whole(layer)).min() > 0
    left = {path.name for path in Path(layer.url).iterdir()}
    assert left == {"zarr.json", layer.levels[0].path}


def test_only_whole_objects_and_true_labels_are_written(tmp_path: Path) -> None:
    image = make(tmp_path / "i.zarr", noise(600, 600), "yx")
    layer = stage_labels(image, "cells", planes_z=1)
    box = Box(0, 512, 512, 600)
    layer.write(np.ones(box.shape, np.int64), box)
    with pytest.raises(InputError, match=r"x 100:600 of .* is not made of whole chunks"):
        layer.write(np.ones((512, 500), np.uint32), Box(0, 100, 512, 600))
    with pytest.raises(InputError, match="holds -3 to -3; labels are 0 to 4294967295"):
        layer.write(np.full(box.shape, -3), box)
    with pytest.raises(InputError, match="holds 4294967296 to 4294967296; labels are"):
        layer.write(np.full(box.shape, 2**32), box)
    with pytest.raises(InputError, match="is of float64; expected integers"):
        layer.write(np.ones(box.shape), box)
    with pytest.raises(InputError, match=r"Labels of \(3, 3\) px"):
        layer.write(np.ones((3, 3), np.uint32), box)
    with pytest.raises(MissingError, match="Frame 1"):
        layer.write(np.ones(box.shape, np.uint32), box, t=1)


def test_shards_are_fixed_by_the_shape_and_cover_it(tmp_path: Path) -> None:
    layers = []
    for version in ("0.4", "0.5"):
        image = make(tmp_path / version, np.zeros((2100, 4200), np.uint8), "yx", version=version, levels=2)
        layers.append(stage_labels(image, "cells", planes_z=1))
    assert layers[0].shards(0) == layers[1].shards(0)
    assert [layer.shards(1) for layer in layers] == [[Box(0, 0, 1050, 2048), Box(0, 2048, 1050, 2100)]] * 2
    covered = np.zeros((2100, 4200), int)
    for box in layers[1].shards():
        covered[box.slices] += 1
        layers[1].write(np.full(box.shape, box.y0 + box.x0, np.uint32), box)
    assert covered.min() == covered.max() == 1
    assert layers[1].read(Box(2050, 4100, 2051, 4101)).tolist() == [[2048 + 4096]]
    assert zarr.open_array(f"{layers[1].url}/0").shards == (2048, 2048)
    assert zarr.open_array(f"{layers[0].url}/0").shards is None


def test_a_projection_has_one_slice(tmp_path: Path) -> None:
    image = make(tmp_path / "i.zarr", noise(3, 600, 40), "zyx")
    layer = _published(image, planes_z=1)
    assert [level.shape for level in layer.levels] == [(1, 600, 40), (1, 300, 20)]
    assert layer.read(Box(0, 0, 9, 9), z="max").shape == (9, 9)
    assert check_geometry(image, layer) == []
    with pytest.raises(InputError, match="expected that or 1"):
        stage_labels(image, "other", planes_z=2)


@pytest.mark.parametrize("name", ["", "../outside", "a/../b", "truth/0", "zarr.json"])
def test_names_stay_inside_the_store(tmp_path: Path, name: str) -> None:
    image = make(tmp_path / "i.zarr", noise(40, 40), "yx")
    before = sorted((tmp_path / "i.zarr").rglob("*"))
    with pytest.raises(InputError, match="is not a valid name of a label layer"):
        stage_labels(image, name, planes_z=1)
    assert sorted((tmp_path / "i.zarr").rglob("*")) == before


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_new_layer_is_in_the_consolidated_metadata_of_its_image_and_plate(tmp_path: Path, version: str) -> None:
    number: Literal[2, 3] = 2 if version == "0.4" else 3
    zarr.create_group(str(tmp_path / "plate.zarr" / "A"), zarr_format=number)
    zarr.create_group(str(tmp_path / "plate.zarr"), zarr_format=number)
    image = make(tmp_path / "plate.zarr" / "A" / "0", noise(40, 40), "yx", version=version)
    _published(image, "a")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for url in (tmp_path / "plate.zarr", image.url):
            zarr.consolidate_metadata(str(url), zarr_format=number)
    _published(image, "b")
    new = stage_labels(image, "a", planes_z=1, overwrite=True)
    publish_labels(new, overwrite=True)
    for url, inner in ((tmp_path / "plate.zarr", "A/0/"), (image.url, "")):
        group = zarr.open_consolidated(str(url), zarr_format=number)
        listed: Any = group[f"{inner}labels"].attrs.asdict()
        assert (listed.get("ome") or listed)["labels"] == ["a", "b"]
        assert {f"{inner}labels/b/0", f"{inner}labels/a/{new.levels[0].path}", f"{inner}0"} <= {
            name for name, _ in group.members(max_depth=None)
        }
        assert f"{inner}labels/a/0" not in group


def test_a_listed_path_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    image = make(tmp_path / "i.zarr", noise(40, 40), "yx")
    listed = {"ome": {"version": "0.5", "labels": ["../../victim.zarr"]}}
    zarr.create_group(str(tmp_path / "i.zarr" / "labels"), zarr_format=3, attributes=listed)
    with pytest.raises(InputError, match="which does not lead to a place below it"):
        list_labels(image.url)


def test_a_layer_that_is_not_listed_is_named_with_what_to_do(tmp_path: Path) -> None:
    image = make(tmp_path / "i.zarr", noise(40, 40), "yx")
    _published(image, "a")
    shutil.copytree(tmp_path / "i.zarr" / "labels" / "a", tmp_path / "i.zarr" / "labels" / "b")
    with pytest.raises(MissingError, match=r"holds a layer 'b' that its list .* put its name into `labels` of .*json"):
        open_labels(image.url, "b")


def test_an_unwritable_output_is_a_store_error(tmp_path: Path) -> None:
    image = make(tmp_path / "i.zarr", noise(40, 40), "yx")
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"Cannot .*file/o.zarr"):
        stage_labels(image, "cells", planes_z=1, output=str(tmp_path / "file" / "o.zarr"))


def test_labels_of_a_zip_file_go_elsewhere(tmp_path: Path) -> None:
    made = make(tmp_path / "i.zarr", noise(40, 40), "yx")
    image = open_image(shutil.make_archive(str(tmp_path / "i"), "zip", made.url))
    with pytest.raises(StoreError, match=r"zip files are read only. Give another store with --output"):
        stage_labels(image, "cells", planes_z=1)
    layer = _published(image, output=str(tmp_path / "o.zarr"))
    assert check_geometry(image, open_labels(str(tmp_path / "o.zarr"), "cells")) == []
    assert validate(layer.url) == "ImageLabel"


def test_labels_of_a_collection_of_one_image_are_found(tmp_path: Path) -> None:
    root = tmp_path / "c.zarr"
    zarr.create_group(str(root), zarr_format=3, attributes={"ome": {"version": "0.5", "bioformats2raw.layout": 3}})
    make(root / "0", noise(40, 40), "yx")
    _published(open_image(str(root)))
    assert list_labels(str(root)) == ("cells",)
    assert open_labels(str(root), "cells").url == f"{root}/0/labels/cells"


def test_on_s3(s3: dict[str, Any], tmp_path: Path) -> None:
    local = make(tmp_path / "i.zarr", noise(2, 600, 600), "tyx")
    make("s3://cells/labels/i.zarr", noise(2, 600, 600), "tyx", storage_options=s3)
    image = open_image("s3://cells/labels/i.zarr", storage_options=s3)
    _published(image)
    layer = open_labels(image.url, "cells", storage_options=s3)
    assert (layer.read(whole(layer), t=1) == _labels(local, 1)).all()
    assert (layer.read(whole(layer, 1), t=1, level=1) == _labels(local, 1)[::2, ::2]).all()
    remove_labels(image.url, "cells", storage_options=s3)
    assert list_labels(image.url, storage_options=s3) == ()

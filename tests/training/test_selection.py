from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import tifffile
import zarr

import cellscale
from cellscale.errors import InputError, MissingError
from cellscale.ngff.image import NgffImage
from cellscale.ngff.labels import LabelLayer
from cellscale.training.frames import TrainingData
from cellscale.training.selection import held_out_images, labelled_images, subsample, training_data
from tests.ngff.pictures import layer, make, noise


@dataclass(frozen=True)
class Image:
    url: str


def data(*counts: Any) -> list[TrainingData]:
    """Sequences of so many frames of one slice."""
    return [
        TrainingData(
            image=cast(NgffImage, Image(str(i))), labels=cast(LabelLayer, None), planes=tuple((t, 0) for t in range(n))
        )
        for i, n in enumerate(counts)
    ]


@pytest.mark.parametrize(
    ("count", "kept"), [(1, [20]), (2, [10, 30]), (4, [5, 15, 25, 35]), (11, [1, 5, 9, 12, 16, 20, 23, 27, 30, 34, 38])]
)
def test_chosen_frames_are_evenly_spaced(count: int, kept: Any) -> None:
    (found,) = subsample(data(40), count)
    assert [t for t, _ in found.planes] == kept


def test_all_frames_are_all_frames() -> None:
    assert subsample(data(7), 7) == data(7)


def test_frames_of_several_images_are_one_sequence() -> None:
    found = subsample(data(10, 2, 30), 3)
    assert [(part.image.url, part.planes) for part in found] == [("0", ((7, 0),)), ("2", ((9, 0), (23, 0)))]


@pytest.mark.parametrize("count", [0, 8])
def test_more_frames_than_there_are_and_none_are_refused(count: int) -> None:
    with pytest.raises(InputError, match=rf"{count} training frames were asked for .* 7 have labels .* Choose 1 to 7"):
        subsample(data(7), count)


def _layered(folder: Path, shape: tuple[int, ...], **geometry: Any) -> NgffImage:
    """An image of 1 × 20 × 30 px, and a layer of another geometry."""
    image = make(folder / "i.zarr", noise(1, 20, 30), "tyx", pixel_size_um=(0.5, 0.5))
    group = zarr.create_group(str(folder / "i.zarr" / "labels" / "truth"), zarr_format=3)
    group.create_array("0", data=np.ones(shape, np.uint32))
    transforms = [{"type": kind, kind: values} for kind, values in geometry.items()]
    dataset: Any = {"path": "0", "coordinateTransformations": transforms}
    axes = [{"name": axis} for axis in "tyx"]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": [dataset]}]}
    zarr.create_group(
        str(folder / "i.zarr" / "labels"), zarr_format=3, attributes={"ome": {"version": "0.5", "labels": ["truth"]}}
    )
    return image


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [((1, 10, 15), "1 × 10 × 15 px .* 1 × 20 × 30 px"), ((1, 40, 60), "1 × 40 × 60 px .* 1 × 20 × 30 px")],
)
def test_a_layer_of_another_size_than_its_image_is_refused(tmp_path: Path, shape: tuple[int, ...], sizes: Any) -> None:
    image = _layered(tmp_path, shape, scale=[1, 20 / shape[1] / 2, 30 / shape[2] / 2])
    with pytest.raises(InputError, match=rf"Layer 'truth' is {sizes}.*`cellscale upsample-labels`"):
        training_data(image, "truth", 1, None)


def test_a_layer_that_begins_elsewhere_is_refused(tmp_path: Path) -> None:
    image = _layered(tmp_path, (1, 20, 30), scale=[1, 0.5, 0.5], translation=[0, 5, -1])
    with pytest.raises(InputError, match=r"begins 10 px below and -2 px right of its image"):
        training_data(image, "truth", 1, None)


def test_a_layer_that_says_nothing_of_its_place_is_taken(tmp_path: Path) -> None:
    image = _layered(tmp_path, (1, 20, 30))
    assert training_data(image, "truth", 1, None).planes == ((0, 0),)


def test_a_layer_without_the_frame_that_is_asked_for_is_refused(tmp_path: Path) -> None:
    image = make(tmp_path / "two.zarr", noise(2, 20, 30), "tyx")
    _layered(tmp_path, (1, 20, 30))
    shutil.copytree(tmp_path / "i.zarr" / "labels", tmp_path / "two.zarr" / "labels")
    assert training_data(image, "truth", 1, (0, 1)).planes == ((0, 0),)
    with pytest.raises(InputError, match="has 1 frames; frame 1 was asked for"):
        training_data(image, "truth", 1, None)


def labelled(path: Any, *cells: Any, dtype: str = "uint8", side: int = 16) -> NgffImage:
    """An image with a layer that does not name its annotated frames; a frame for each of these labels."""
    image = make(path, np.zeros((len(cells), side, side), dtype), "tyx")
    layer(image, "truth", np.stack([np.full((side, side), cell, np.uint32) for cell in cells]))
    return image


def test_empty_frames_of_a_layer_that_names_none_are_left_out_with_a_warning(tmp_path: Path, caplog: Any) -> None:
    image = labelled(tmp_path / "i.zarr", 0, 1, 0, 0, 7)
    found = training_data(image, "truth", 1)
    assert found.planes == ((1, 0), (4, 0))
    assert "frames 0:1, 2:4 without a label are skipped" in caplog.text
    caplog.clear()
    assert training_data(image, "truth", 1, (1, 2)).planes == ((1, 0),)
    assert not caplog.text


def test_empty_frames_that_a_layer_names_are_trained_on(tmp_path: Path, caplog: Any) -> None:
    image = make(tmp_path / "i.zarr", np.zeros((3, 16, 16), np.uint8), "tyx")
    layer(image, "truth", np.zeros((3, 16, 16), np.uint32), metadata={"frames": [0, 2]})
    assert training_data(image, "truth", 1).planes == ((0, 0), (2, 0))
    assert not caplog.text


def test_images_of_a_collection_that_have_the_layer(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for name, side in (("a", 40), ("b", 50), ("c", 60)):
        tifffile.imwrite(folder / f"{name}.tif", noise(side, side))
    for name, side in (("a", 40), ("c", 60)):
        tifffile.imwrite(folder / f"{name}_mask.tif", np.pad(np.ones((9, 9), "u2"), ((0, side - 9), (0, side - 9))))
    url = str(tmp_path / "all.zarr")
    cellscale.import_images(str(folder), url, masks=str(folder), series="all")
    single = labelled(tmp_path / "d.zarr", 1)
    found = labelled_images([single.url, url], "truth")
    assert [image.url for image in found] == [single.url, f"{url}/0", f"{url}/2"]
    assert [len(training_data(image, "truth", 1, None)) for image in found] == [1, 1, 1]
    with pytest.raises(MissingError, match=r"None of the 3 images of .*all.zarr has the label layer 'cells'"):
        labelled_images([url], "cells")


def test_whole_images_of_other_sizes_and_types_are_held_out(tmp_path: Path) -> None:
    learn = labelled(tmp_path / "a.zarr", 1, 1)
    others = [labelled(tmp_path / "b.zarr", 1, dtype="uint16", side=20), labelled(tmp_path / "c.zarr", 2, 3, side=40)]
    found = held_out_images(others, [learn], "truth", 1)
    assert [(part.image.url, len(part), part.shape(0)) for part in found] == [
        (others[0].url, 1, (20, 20)),
        (others[1].url, 2, (40, 40)),
    ]
    with pytest.raises(InputError, match=r"a\.zarr is both trained on and held out"):
        held_out_images([*others, learn], [learn], "truth", 1)

"""Imports: images with their labels, matched by number, by name or in order; nothing is left of a failed one."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from numpy.typing import NDArray

from cellscale.api.data import synthesize
from cellscale.errors import CellscaleError, ExistsError, InputError
from cellscale.ngff.image import open_image
from cellscale.ngff.import_planes import import_planes
from cellscale.ngff.label_list import change_names
from cellscale.ngff.labels import list_labels, open_labels, publish_labels, stage_labels
from cellscale.ngff.replacing import Replaced
from cellscale.sources import open_source
from cellscale.testing.geometry import check_geometry
from cellscale.types import Box
from tests.ngff.pictures import missing, noise, validate, whole


def _stack(path: Path, pixels: NDArray[Any], frames: str = "") -> str:
    tifffile.imwrite(path, pixels, compression="zlib", photometric="minisblack")
    if frames:
        path.with_suffix(".frames.txt").write_text(frames)
    return str(path)


def test_a_size_whose_unit_is_not_known_is_named_unless_an_option_states_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    metadata = {"axes": "TYX", "unit": "furlong", "finterval": 2.0, "tunit": "sec"}
    tifffile.imwrite(tmp_path / "a.tif", noise(2, 32, 40), imagej=True, resolution=(4, 2), metadata=metadata)
    images = open_source(str(tmp_path / "a.tif"))
    image = import_planes(images, str(tmp_path / "a.zarr"))
    assert (image.pixel_size_um(), image.frame_interval_s()) == (None, 2.0)
    assert caplog.messages == [
        f"{tmp_path}/a.tif states its pixel size in 'furlong', which is not a known unit; the image has none. State it "
        "with --pixel-size."
    ]
    caplog.clear()
    assert import_planes(images, str(tmp_path / "b.zarr"), pixel_size_um=0.5).pixel_size_um() == (0.5, 0.5)
    assert caplog.messages == []
    for option in ("pixel_size_um", "z_step_um", "frame_interval_s"):
        with pytest.raises(InputError, match="must be positive"):
            import_planes(images, str(tmp_path / "c.zarr"), **{option: 0.0})  # type: ignore[arg-type]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_stack_with_labels_of_some_frames(tmp_path: Path, version: str) -> None:
    pixels, masks = noise(4, 600, 41), noise(2, 600, 41, dtype="int16")
    images = open_source(_stack(tmp_path / "i.tif", pixels))
    labels = open_source(_stack(tmp_path / "l.tif", masks, "3\n1\n"), labels=True)
    seen: list[tuple[str, int, int]] = []
    image = import_planes(
        images,
        str(tmp_path / "i.zarr"),
        labels=labels,
        ome_zarr_version=version,
        classes="keep",
        pixel_size_um=0.5,
        frame_interval_s=300,
        on_progress=lambda *progress: seen.append(progress),
    )
    assert (image.axes, image.version) == (("t", "y", "x"), version)
    assert image.dtype == np.uint16
    assert (image.pixel_size_um(), image.frame_interval_s()) == ((0.5, 0.5), 300)
    assert [(image.read(whole(image), t=t)[0] == pixels[t]).all() for t in range(4)] == [True] * 4
    truth = open_labels(image.url, "truth")
    assert truth.metadata == {"frames": [1, 3]}
    assert (truth.read(whole(truth), t=3) == masks[0]).all()
    assert (truth.read(whole(truth, 1), t=1, level=1) == masks[1, ::2, ::2]).all()
    assert truth.read(whole(truth), t=0).max() == 0
    assert check_geometry(image, truth) == []
    assert [validate(url) for url in (image.url, truth.url)] == ["Image", "ImageLabel"]
    assert seen[3::2] == [("import", 4, 4), ("import labels", 2, 2)]


def test_frames_without_a_page_stay_empty(tmp_path: Path) -> None:
    pixels = noise(2, 40, 40) + 1
    image = import_planes(open_source(_stack(tmp_path / "i.tif", pixels, "1\n4\n")), str(tmp_path / "i.zarr"))
    assert image.size("t") == 5
    assert [int(image.read(whole(image), t=t).max() > 0) for t in range(5)] == [0, 1, 0, 0, 1]
    assert [missing(image, t) for t in range(5)] == [1, 0, 1, 1, 0]


def test_masks_find_their_images_by_name(tmp_path: Path) -> None:
    pixels, masks = noise(3, 40, 40), noise(2, 40, 40, dtype="uint8")
    for folder, names, planes in (
        ("images", ["a.tif", "b.tif", "c.tif"], pixels),
        ("masks", ["c.tif", "b_mask.tif"], masks),
    ):
        (tmp_path / folder).mkdir()
        for name, plane in zip(names, planes, strict=True):
            tifffile.imwrite(tmp_path / folder / name, plane)
    folders = [str(tmp_path / "images"), str(tmp_path / "masks")]
    masks_of = open_source(folders[1], labels=True)
    image = import_planes(open_source(folders[0]), str(tmp_path / "i.zarr"), labels=masks_of, classes="keep")
    truth = open_labels(image.url, "truth")
    assert truth.metadata == {"frames": [1, 2]}
    assert (truth.read(whole(truth), t=2) == masks[0]).all()
    assert (truth.read(whole(truth), t=1) == masks[1]).all()
    part = open_source(folders[0], frames=(2, 3))
    masks_of = open_source(folders[1], labels=True, frames=(2, 3))
    image = import_planes(part, str(tmp_path / "p.zarr"), labels=masks_of, classes="keep")
    truth = open_labels(image.url, "truth")
    assert (truth.read(whole(truth)) == masks[0]).all()
    tifffile.imwrite(tmp_path / "masks" / "d.tif", masks[0])
    with pytest.raises(InputError, match=r"Mask 'd' of .* has no image of this name"):
        import_planes(open_source(folders[0]), str(tmp_path / "x.zarr"), labels=open_source(folders[1], labels=True))


def test_channels_and_slices_are_kept(tmp_path: Path) -> None:
    pixels = noise(2, 3, 4, 40, 41)
    np.save(tmp_path / "i.npy", pixels)
    image = import_planes(open_source(str(tmp_path / "i.npy")), str(tmp_path / "i.zarr"))
    assert image.axes == ("t", "c", "z", "y", "x")
    assert (image.read(whole(image), t=1, z=3) == pixels[1, :, 3]).all()


def _masks(value: float, dtype: str) -> NDArray[Any]:
    masks = np.zeros((2, 40, 40), dtype)
    masks[1, 3, 4] = value
    return masks


@pytest.mark.parametrize(
    ("masks", "reason"),
    [
        (_masks(-2, "int16"), r"Frame 1 of .*l.npy holds -2 to 0; labels are 0 to 4294967295"),
        (_masks(2**40, "int64"), r"Frame 1 of .*l.npy holds 0 to 1099511627776; labels are 0 to 4294967295"),
        (_masks(0.5, "float32"), r"Frame 0 of .*l.npy: value 0.0 is float32; labels are integers"),
        (np.full((2, 40, 40), 1.5), r"Frame 0 of .*l.npy: value 1.5 is float64"),
        (np.zeros((3, 40, 40), "u2"), r"has 3 frames, .* has 2; expected the same number"),
        (np.zeros((2, 40, 20), "u2"), r"expected the same slices, rows and columns"),
    ],
)
def test_what_are_no_labels_is_refused_and_leaves_nothing(tmp_path: Path, masks: NDArray[Any], reason: str) -> None:
    np.save(tmp_path / "i.npy", noise(2, 40, 40))
    np.save(tmp_path / "l.npy", masks)
    images, labels = open_source(str(tmp_path / "i.npy")), open_source(str(tmp_path / "l.npy"), labels=True)
    with pytest.raises(InputError, match=reason):
        import_planes(images, str(tmp_path / "i.zarr"), labels=labels)
    assert not (tmp_path / "i.zarr").exists()


def test_labels_without_an_image_are_refused(tmp_path: Path) -> None:
    images = open_source(_stack(tmp_path / "i.tif", noise(2, 40, 40)))
    labels = open_source(_stack(tmp_path / "l.tif", noise(2, 40, 40), "1\n7\n"), labels=True)
    with pytest.raises(InputError, match=r"Frame 7 of .*l.tif has no image in .*i.tif"):
        import_planes(images, str(tmp_path / "i.zarr"), labels=labels)


def _blocks(values: list[int], dtype: str = "uint8") -> NDArray[Any]:
    """Two frames with blocks of 8 × 8 px, one for each value."""
    masks = np.zeros((2, 40, 40), dtype)
    for i, value in enumerate(values):
        masks[:, 10 * (i // 4) : 10 * (i // 4) + 8, 10 * (i % 4) : 10 * (i % 4) + 8] = value
    return masks


@pytest.mark.parametrize(("values", "dtype"), [([255] * 5, "uint8"), ([1] * 3, "bool"), ([1, 2, 1, 2, 3], "uint8")])
def test_masks_of_classes_are_refused_or_numbered(tmp_path: Path, values: list[int], dtype: str) -> None:
    np.save(tmp_path / "i.npy", noise(2, 40, 40))
    np.save(tmp_path / "l.npy", _blocks(values, dtype))
    images, labels = open_source(str(tmp_path / "i.npy")), open_source(str(tmp_path / "l.npy"), labels=True)
    with pytest.raises(InputError, match=r"frame \d has \d separate pieces of label \d+. Use --classes number"):
        import_planes(images, str(tmp_path / "i.zarr"), labels=labels)
    assert not (tmp_path / "i.zarr").exists()
    for choice, expected in (("number", range(1, len(values) + 1)), ("keep", sorted(set(values)))):
        import_planes(images, str(tmp_path / "i.zarr"), labels=labels, classes=choice, overwrite=True)  # type: ignore[arg-type]
        truth = open_labels(str(tmp_path / "i.zarr"), "truth")
        assert np.unique(truth.read(whole(truth), t=1)).tolist() == [0, *expected]


def test_a_cell_in_two_pieces_among_others_is_kept(tmp_path: Path) -> None:
    np.save(tmp_path / "i.npy", noise(2, 40, 40))
    np.save(tmp_path / "l.npy", _blocks([1, 2, 3, 1]))
    images, labels = open_source(str(tmp_path / "i.npy")), open_source(str(tmp_path / "l.npy"), labels=True)
    import_planes(images, str(tmp_path / "i.zarr"), labels=labels)
    truth = open_labels(str(tmp_path / "i.zarr"), "truth")
    assert np.unique(truth.read(whole(truth))).tolist() == [0, 1, 2, 3]


def test_booleans_keep_their_values(tmp_path: Path) -> None:
    np.save(tmp_path / "i.npy", noise(2, 40, 40))
    np.save(tmp_path / "l.npy", _blocks([1], "bool"))
    image = import_planes(
        open_source(str(tmp_path / "i.npy")),
        str(tmp_path / "i.zarr"),
        labels=open_source(str(tmp_path / "l.npy"), labels=True),
        layer="mask",
    )
    assert list_labels(image.url) == ("mask",)
    truth = open_labels(image.url, "mask")
    assert np.unique(truth.read(whole(truth))).tolist() == [0, 1]


def test_an_existing_image_is_kept_or_replaced(tmp_path: Path) -> None:
    np.save(tmp_path / "i.npy", noise(2, 40, 40))
    source, url = open_source(str(tmp_path / "i.npy")), str(tmp_path / "i.zarr")
    import_planes(source, url)
    with pytest.raises(ExistsError, match="exists already"):
        import_planes(source, url)
    assert open_image(url).size("t") == 2
    assert import_planes(open_source(str(tmp_path / "i.npy"), frames=(0, 1)), url, overwrite=True).size("t") == 1


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_an_image_is_there_until_the_one_that_replaces_it_is_complete(tmp_path: Path, version: str) -> None:
    """The old image and its layers, then the new ones; the files of others stay."""
    url = str(tmp_path / "m.zarr")
    synthesize(url, shape=(1, 64, 64), cells=3, ome_zarr_version=version)
    notes = tmp_path / "m.zarr" / "notes.txt"
    notes.write_text("mine")
    before = {path: path.read_bytes() for path in (tmp_path / "m.zarr").rglob("*") if path.is_file()}

    def broken(step: str, done: int, total: int) -> None:
        if step == "labels":
            raise InterruptedError

    with pytest.raises(InterruptedError):
        synthesize(
            url, shape=(2, 64, 80), cells=3, ome_zarr_version=version, overwrite=True, seed=1, on_progress=broken
        )
    assert {path: path.read_bytes() for path in (tmp_path / "m.zarr").rglob("*") if path.is_file()} == before
    image = synthesize(url, shape=(2, 64, 80), cells=3, ome_zarr_version=version, overwrite=True, seed=1)
    twin = synthesize(str(tmp_path / "twin.zarr"), shape=(2, 64, 80), cells=3, ome_zarr_version=version, seed=1)
    assert (image.read(whole(image), t=1) == twin.read(whole(twin), t=1)).all()
    layers = [open_labels(found.url, "truth") for found in (image, twin)]
    assert (layers[0].read(whole(image), t=1) == layers[1].read(whole(image), t=1)).all()
    assert [validate(place) for place in (url, f"{url}/labels/truth")] == ["Image", "ImageLabel"]
    assert notes.read_text() == "mine"
    folders = {path.name for path in (tmp_path / "m.zarr").iterdir() if path.is_dir()}
    assert folders == {"labels", image.levels[0].path}
    assert {path.name for path in (tmp_path / "m.zarr" / "labels" / "truth").iterdir() if path.is_dir()} == {
        layers[0].levels[0].path
    }


def test_layers_of_the_old_image_are_not_the_new_ones(tmp_path: Path) -> None:
    url = str(tmp_path / "m.zarr")
    old = synthesize(url, shape=(1, 64, 64), cells=3)
    publish_labels(stage_labels(old, "cells", planes_z=1))
    np.save(tmp_path / "i.npy", noise(1, 64, 64))
    import_planes(open_source(str(tmp_path / "i.npy")), url, overwrite=True)
    assert list_labels(url) == ()
    assert not (tmp_path / "m.zarr" / "labels" / "cells" / "0").exists()
    assert validate(url) == "Image"


def test_of_two_imports_at_once_one_is_refused_or_both_are_whole(tmp_path: Path) -> None:
    for i in range(2):
        np.save(tmp_path / f"{i}.npy", np.full((1, 40, 40), i + 1, np.uint16))
    start = threading.Barrier(2)

    def imported(number: int, overwrite: bool) -> CellscaleError | None:
        start.wait()
        try:
            import_planes(open_source(str(tmp_path / f"{number}.npy")), str(tmp_path / "m.zarr"), overwrite=overwrite)
        except CellscaleError as error:
            return error
        return None

    with ThreadPoolExecutor(2) as pool:
        ended = list(pool.map(imported, (0, 1), (False, False)))
        assert sorted(type(error).__name__ for error in ended) == ["ExistsError", "NoneType"]
        image = open_image(str(tmp_path / "m.zarr"))
        assert np.unique(image.read(whole(image))).tolist() == [ended.index(None) + 1]
        assert list(pool.map(imported, (0, 1), (True, True))) == [None, None]
    image = open_image(str(tmp_path / "m.zarr"))
    assert np.unique(image.read(whole(image))).size == 1
    assert {path.name for path in (tmp_path / "m.zarr").iterdir() if path.is_dir()} == {image.levels[0].path}


def test_a_late_deletion_leaves_the_layer_of_a_newer_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first import deletes the oldest layer when the second has written its own and not yet listed it."""
    url, late = str(tmp_path / "m.zarr"), list[Replaced]()
    delete = Replaced.delete

    def put_off(replaced: Replaced) -> None:
        late.append(replaced)

    make = partial(synthesize, shape=(1, 64, 80), cells=3)
    expected = open_labels(make(str(tmp_path / "e.zarr"), seed=2).url, "truth").read(Box(0, 0, 64, 80))
    make(url, seed=0)
    with monkeypatch.context() as patch:
        patch.setattr(Replaced, "delete", put_off)
        make(url, seed=1, overwrite=True)
    assert len(late) == 1

    def listed(*args: Any, **options: Any) -> None:
        for replaced in late:
            delete(replaced)
        change_names(*args, **options)

    monkeypatch.setattr("cellscale.ngff.labels.change_names", listed)
    make(url, seed=2, overwrite=True)
    assert np.array_equal(open_labels(url, "truth").read(Box(0, 0, 64, 80)), expected)
    assert {path.name for path in (tmp_path / "m.zarr" / "labels").iterdir()} == {"truth", "zarr.json"}


def test_a_plate_and_another_version_are_not_overwritten(tmp_path: Path) -> None:
    np.save(tmp_path / "i.npy", noise(1, 40, 40))
    source = open_source(str(tmp_path / "i.npy"))
    zarr.create_group(str(tmp_path / "p.zarr"), zarr_format=3, attributes={"ome": {"version": "0.5", "plate": {}}})
    with pytest.raises(ExistsError, match="is a plate; it is not overwritten by an image"):
        import_planes(source, str(tmp_path / "p.zarr"), overwrite=True)
    import_planes(source, str(tmp_path / "m.zarr"))
    with pytest.raises(InputError, match=r"is OME-Zarr 0.5; an image of version 0.4 cannot replace it"):
        import_planes(source, str(tmp_path / "m.zarr"), overwrite=True, ome_zarr_version="0.4")


def test_a_source_that_breaks_leaves_nothing(tmp_path: Path) -> None:
    path = Path(_stack(tmp_path / "i.tif", noise(3, 70, 90)))
    source = open_source(str(path))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(CellscaleError):
        import_planes(source, str(tmp_path / "i.zarr"))
    assert not (tmp_path / "i.zarr").exists()

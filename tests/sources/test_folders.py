"""Folders: images and masks are told apart by their names, and each mask finds its image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
import zarr

from cellscale.errors import InputError, MissingError, StoreError
from cellscale.ngff.import_labels import pairs
from cellscale.sources import matched, open_source, open_sources


def _write(folder: Path, name: str, value: int, shape: tuple[int, ...] = (32, 40), dtype: str = "u2") -> None:
    folder.mkdir(exist_ok=True)
    tifffile.imwrite(folder / name, np.full(shape, value, dtype), photometric="minisblack")


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("w{}.tif", "w{}_mask.tif"),
        ("w{}_img.tif", "w{}_masks.tif"),
        ("w{}_img.tif", "w{}_img_cp_masks.tif"),
        ("img{}.tif", "msk{}.tif"),
        ("w{}.tif", "w{}_lbl.tif"),
        ("w{}.ome.tif", "w{}_mask.ome.tif"),
        ("w{}.tif", "mask_w{}.tif"),
        ("w{}.tif", "w{}_gt.tif"),
        ("w{}.tif", "w{}_annotation.tif"),
        ("w{}.TIF", "w{}-Labels.tif"),
        ("img{}.tif", "mask{}.tif"),
        ("image_{}_well.tif", "label_{}_well.tif"),
        ("w{}_raw.tif", "w{}_ground_truth.tif"),
        ("a w{}.tif", "a w{} seg.tif"),
        ("t00{}.tif", "man_seg00{}.tif"),
    ],
)
def test_images_and_masks_in_one_folder(tmp_path: Path, image: str, mask: str) -> None:
    folder = tmp_path / "f"
    for i in range(3):
        _write(folder, image.format(i), 100 + i)
        if i != 1:
            _write(folder, mask.format(i), i + 1, dtype="u1" if i else "u2")
    images, masks = open_source(str(folder)), open_source(str(folder), labels=True)
    assert [int(images.plane(t)[0, 0]) for t in range(images.shape[0])] == [100, 101, 102]
    found = {t: int(masks.plane(of)[0, 0]) for t, of in pairs(images, masks).items()}
    assert found == {0: 1, 2: 3}


@pytest.mark.parametrize(
    ("images", "masks"),
    [(("a.tif", "b.tif"), ("a.tif", "b.tif")), (("img_1.tif", "img_2.tif"), ("label_1.tif", "label_2.tif"))],
)
def test_images_and_masks_in_two_folders(tmp_path: Path, images: tuple[str, ...], masks: tuple[str, ...]) -> None:
    for i, names in enumerate(zip(images, masks, strict=True)):
        _write(tmp_path / "i", names[0], 100 + i)
        _write(tmp_path / "m", names[1], i + 1)
    one, two = open_source(str(tmp_path / "i")), open_source(str(tmp_path / "m"), labels=True)
    assert pairs(one, two) == {0: 0, 1: 1}


def test_names_that_do_not_tell_are_refused(tmp_path: Path) -> None:
    for name in ("w0_a.tif", "w0_b.tif"):
        _write(tmp_path / "f", name, 1)
    folder = str(tmp_path / "f")
    with pytest.raises(InputError, match=r"w0_a.tif is both image and mask.*a_mask.tif"):
        pairs(open_source(folder), open_source(folder, labels=True))
    _write(tmp_path / "f", "mask_x.tif", 1)
    with pytest.raises(InputError, match=r"mask_x.tif, which is named like a mask, but no mask has the name"):
        open_source(folder)


def test_files_with_one_word_more_than_others_are_no_frames(tmp_path: Path) -> None:
    folder = tmp_path / "f"
    for i in range(2):
        _write(folder, f"w{i}.tif", 100 + i)
        _write(folder, f"w{i}_outlines.tif", 1)
    with pytest.raises(InputError, match=r"w0.tif and w0_outlines.tif, and so on: .*'outlines'.*--series all"):
        open_source(str(folder))
    assert len(open_sources(str(folder), series="all")) == 4
    for i in range(2):
        (folder / f"w{i}_outlines.tif").rename(folder / f"v{i}_late.tif")
    assert open_source(str(folder)).shape[0] == 4


def test_a_link_to_nowhere_is_not_passed_over(tmp_path: Path) -> None:
    _write(tmp_path / "f", "a0.tif", 1)
    (tmp_path / "f" / "a1.tif").symlink_to("nowhere.tif")
    with pytest.raises(StoreError, match=r"a1\.tif"):
        open_source(str(tmp_path / "f"))


def test_a_folder_without_images_says_where_they_are(tmp_path: Path) -> None:
    _write(tmp_path / "day2", "a0.tif", 1)
    (tmp_path / "notes").mkdir()
    with pytest.raises(MissingError, match=r"holds no images .* The folders day2 in it do"):
        open_source(str(tmp_path))
    zarr.open_group(tmp_path / "i.zarr", mode="w")
    with pytest.raises(InputError, match="is a Zarr store already and needs no import"):
        open_source(str(tmp_path / "i.zarr"))


def test_names_that_differ_only_in_such_words_stay_apart(tmp_path: Path) -> None:
    for value, name in enumerate(("a.tif", "a_raw.tif", "b.tif")):
        _write(tmp_path / "f", name, value)
    assert dict(open_source(str(tmp_path / "f")).names) == {"a": 0, "a_raw": 1, "b": 2}


@pytest.mark.parametrize(
    ("shape", "dtype", "reason"),
    [
        ((3, 32, 40), "u2", r"a.tif has 3 pages, but in a folder each file is one frame.*--axes zyx.*--series all"),
        ((32, 41), "u2", r"holds images of 2 sizes: a.tif has 32 × 41 px, b.tif has 32 × 40 px.*--series all"),
        ((32, 40), "u1", r"b.tif is uint16, .*a.tif is uint8; the frames of one image have one type.*--series all"),
    ],
)
def test_files_that_are_not_alike_are_refused(tmp_path: Path, shape: Any, dtype: str, reason: str) -> None:
    _write(tmp_path / "f", "a.tif", 1, shape, dtype)
    _write(tmp_path / "f", "b.tif", 2)
    with pytest.raises(InputError, match=reason):
        open_source(str(tmp_path / "f"))
    first, second = open_sources(str(tmp_path / "f"), series="all")
    assert (int(first.plane(0)[0, 0]), int(second.plane(0)[0, 0])) == (1, 2)
    assert (first.dtype, second.dtype) == (np.dtype(dtype), np.dtype("u2"))


@pytest.mark.parametrize(("axes", "of"), [("zyx", "slices"), ("cyx", "channels")])
def test_unequal_slices_and_channels_are_refused(tmp_path: Path, axes: str, of: str) -> None:
    for name, count in (("a.tif", 2), ("b.tif", 5)):
        _write(tmp_path / "f", name, 1, (count, 32, 40))
    with pytest.raises(InputError, match=rf"b.tif has 5 {of}, .*a.tif has 2"):
        open_source(str(tmp_path / "f"), axes=axes)


def test_pictures_and_their_masks(tmp_path: Path) -> None:
    """PNG images with PNG masks; TIFFs with masks in PNG, as Cellpose writes them, and a picture that is neither."""
    for i in range(2):
        pixels = np.full((32, 40), 100 + i, "u1")
        imagecodecs.imwrite(tmp_path / f"{i}.png", np.repeat(pixels[..., None], 3, axis=-1))
        imagecodecs.imwrite(tmp_path / f"{i}_mask.png", np.full((32, 40), 300 + i, "u2"))
        _write(tmp_path / "t", f"{i}.tif", 100 + i)
        imagecodecs.imwrite(tmp_path / "t" / f"{i}_cp_masks.png", np.full((32, 40), i + 1, "u2"))
    imagecodecs.imwrite(tmp_path / "t" / "overview.png", np.zeros((9, 9), "u1"))
    images, masks = open_source(str(tmp_path)), open_source(str(tmp_path), labels=True)
    assert images.shape == (2, 3, 1, 32, 40)
    assert [int(images.plane(t, 2)[0, 0]) for t in range(2)] == [100, 101]
    assert [int(masks.plane(t)[0, 0]) for t in range(2)] == [300, 301]
    images, masks = open_source(str(tmp_path / "t")), open_source(str(tmp_path / "t"), labels=True)
    assert (images.shape[0], pairs(images, masks), int(masks.plane(1)[0, 0])) == (2, {0: 0, 1: 1}, 2)


def test_masks_may_differ_in_type(tmp_path: Path) -> None:
    _write(tmp_path / "f", "a.tif", 7, dtype="u1")
    _write(tmp_path / "f", "b.tif", 700, dtype="u2")
    masks = open_source(str(tmp_path / "f"), labels=True)
    assert [int(masks.plane(t)[0, 0]) for t in range(2)] == [7, 700]


def test_volumes_of_the_challenge(tmp_path: Path) -> None:
    for t in range(2):
        _write(tmp_path / "01", f"t{t:03d}.tif", t, (4, 32, 40))
        _write(tmp_path / "01_ST", f"man_seg{t:03d}.tif", t + 1, (4, 32, 40))
    images, masks = open_source(str(tmp_path / "01")), open_source(str(tmp_path / "01_ST"), labels=True)
    assert images.shape == masks.shape == (2, 1, 4, 32, 40)
    assert pairs(images, masks) == {0: 0, 1: 1}
    _write(tmp_path / "01_GT", "man_seg_005_014.tif", 1)
    with pytest.raises(InputError, match=r"slice 14 of frame 5; a label layer holds whole frames. Import the silver"):
        open_source(str(tmp_path / "01_GT"), labels=True)


def test_masks_of_a_collection_find_their_images(tmp_path: Path) -> None:
    for i, side in enumerate((30, 20, 40)):
        _write(tmp_path / "f", f"w{i}_img.tif", i, (side, side))
        if i:
            _write(tmp_path / "f", f"w{i}_masks.tif", i, (side, side))
    images = open_sources(str(tmp_path / "f"), series="all")
    masks = open_sources(str(tmp_path / "f"), series="all", labels=True)
    found = matched(images, masks, range(3))
    assert [mask and int(mask.plane(0)[0, 0]) for mask in found] == [None, 1, 2]
    with pytest.raises(InputError, match=r"Mask 'w_2' of .* has no image of this name"):
        matched(images[:2], masks, range(2))


def test_pictures_next_to_tiffs_are_named_if_they_are_not_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _write(tmp_path / "f", "f1.tif", 1)
    imagecodecs.imwrite(tmp_path / "f" / "f2.png", np.zeros((32, 40), "u2"))
    imagecodecs.imwrite(tmp_path / "f" / "f1_mask.png", np.zeros((32, 40), "u2"))
    assert open_source(str(tmp_path / "f")).frames == (0,)
    assert "f holds TIFFs, so that 1 of its PNG and JPEG files, such as f2.png, are not read" in caplog.text
    caplog.clear()
    (tmp_path / "f" / "f2.png").unlink()
    assert open_source(str(tmp_path / "f"), labels=True).frames == (0,)
    assert not caplog.records

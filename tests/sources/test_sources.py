"""Sources: each kind of file gives the planes that were written, at the frames they belong to."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

import cellscale
from cellscale.errors import CellscaleError, InputError, MissingError, StoreError
from cellscale.sources import Source, open_source


def noise(*shape: int, dtype: str = "uint16") -> NDArray[Any]:
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


def all_planes(source: Source) -> NDArray[Any]:
    t, c, z, _, _ = source.shape
    planes = [[[source.plane(i, j, k) for k in range(z)] for j in range(c)] for i in range(t)]
    return np.array(planes)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", ">u2", "float32"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_pages_are_frames(tmp_path: Path, dtype: str, compression: str | None) -> None:
    pixels = noise(3, 7, 9, dtype=dtype)
    tifffile.imwrite(tmp_path / "s.tif", pixels, compression=compression, photometric="minisblack", byteorder=">")
    source = pickle.loads(pickle.dumps(open_source(str(tmp_path / "s.tif"))))
    assert source.shape == (3, 1, 1, 7, 9)
    assert source.dtype == np.dtype(dtype).newbyteorder("=")
    assert (all_planes(source)[:, 0, 0] == pixels).all()
    assert source.frames == (0, 1, 2)
    with pytest.raises(MissingError, match=r"Frame 3 of .*s.tif does not exist; it has 3"):
        source.plane(3)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("kind", ["imagej", "ome"])
def test_axes_in_the_file_are_kept(tmp_path: Path, kind: str, compression: str | None) -> None:
    pixels = noise(2, 3, 4, 7, 9)
    path = tmp_path / ("s.ome.tif" if kind == "ome" else "s.tif")
    stored = pixels.swapaxes(1, 2) if kind == "imagej" else pixels
    axes = "TZCYX" if kind == "imagej" else "TCZYX"
    metadata = {"axes": axes, "unit": "um"} if kind == "imagej" else {"axes": axes}
    if kind == "ome":
        metadata |= {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5}  # type: ignore[dict-item]
    tifffile.imwrite(path, stored, **{kind: True}, metadata=metadata, compression=compression, resolution=(4, 2))  # type: ignore[arg-type]
    source = open_source(str(path))
    assert (all_planes(source) == pixels).all()
    assert source.calibration.pixel_size_um == (0.5, 0.25)


def test_colours_are_channels(tmp_path: Path) -> None:
    pixels = noise(7, 9, 3, dtype="uint8")
    tifffile.imwrite(tmp_path / "s.tif", pixels, photometric="rgb")
    assert (all_planes(open_source(str(tmp_path / "s.tif")))[0, :, 0] == pixels.transpose(2, 0, 1)).all()


def test_axes_may_be_given(tmp_path: Path) -> None:
    pixels = noise(3, 7, 9)
    tifffile.imwrite(tmp_path / "s.tif", pixels, compression="zlib", photometric="minisblack")
    np.save(tmp_path / "s.npy", pixels)
    for name in ("s.tif", "s.npy"):
        assert (all_planes(open_source(str(tmp_path / name), axes="ZYX"))[0, 0] == pixels).all()
        assert (open_source(str(tmp_path / name), axes="yxt").plane(2) == pixels[:, :, 2]).all()
        assert (open_source(str(tmp_path / name), axes="txy").plane(2) == pixels[2].T).all()
        with pytest.raises(InputError, match="Axes 'yx' name 2 dimensions"):
            open_source(str(tmp_path / name), axes="yx")
        with pytest.raises(InputError, match="expected letters of tczyx"):
            open_source(str(tmp_path / name), axes="qyx")
    np.save(tmp_path / "four.npy", noise(2, 3, 7, 9))
    with pytest.raises(InputError, match="name its axes with --axes"):
        open_source(str(tmp_path / "four.npy"))


def test_numpy_files(tmp_path: Path) -> None:
    images, masks = noise(3, 7, 9), noise(3, 7, 9, dtype="int32")
    np.savez(tmp_path / "p.npz", ids=np.arange(3), images=images, masks=masks)
    path = str(tmp_path / "p.npz")
    assert (all_planes(open_source(path))[:, 0, 0] == images).all()
    assert (all_planes(open_source(path, labels=True))[:, 0, 0] == masks).all()
    assert (all_planes(open_source(f"{path}::masks"))[:, 0, 0] == masks).all()
    with pytest.raises(MissingError, match="Did you mean 'masks'"):
        open_source(f"{path}::mask")
    np.savez(tmp_path / "q.npz", names=np.array(["a"]), pictures=images)
    assert (open_source(str(tmp_path / "q.npz")).plane(1) == images[1]).all()
    np.savez(tmp_path / "d.npz", X=images, y=masks)
    assert (open_source(str(tmp_path / "d.npz"), labels=True).plane(1) == masks[1]).all()
    np.savez(tmp_path / "r.npz", train=images, val=masks)
    with pytest.raises(InputError, match=r"holds the arrays train, val\. Name the one .*r\.npz::train"):
        open_source(str(tmp_path / "r.npz"))
    np.save(tmp_path / "p.npy", images[0])
    assert (open_source(str(tmp_path / "p.npy")).plane(0) == images[0]).all()


def _folder(folder: Path, names: list[str], pixels: NDArray[Any]) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    for name, plane in zip(names, pixels, strict=True):
        tifffile.imwrite(folder / name, plane)
    return str(folder)


def test_a_folder_is_sorted_as_people_count(tmp_path: Path) -> None:
    pixels = noise(3, 7, 9)
    source = open_source(_folder(tmp_path / "f", ["img10.tif", "img2.tif", "img1.tiff"], pixels))
    assert (all_planes(source)[:, 0, 0] == pixels[::-1]).all()
    assert dict(source.names) == {"1": 0, "2": 1, "10": 2}


@pytest.mark.parametrize("ending", ["_mask", "_masks", "_label", "_labels", "_cp_masks", "-mask"])
def test_images_and_masks_in_one_folder(tmp_path: Path, ending: str) -> None:
    folder = _folder(tmp_path / "f", ["a.tif", "b.tif"], noise(2, 7, 9))
    masks = noise(1, 7, 9, dtype="uint8")
    _folder(tmp_path / "f", [f"b{ending}.tif"], masks)
    assert open_source(folder).shape == (2, 1, 1, 7, 9)
    assert (open_source(folder, labels=True).plane(0) == masks[0]).all()
    assert dict(open_source(folder, labels=True).names) == {"b": 0}
    _folder(tmp_path / "f", [f"a{ending}.tif"], masks)
    assert set(open_source(folder, labels=True).names) == {"a", "b"}


@pytest.mark.parametrize("digits", [3, 4])
def test_challenge_folders_are_numbered(tmp_path: Path, digits: int) -> None:
    pixels = noise(3, 7, 9)
    _folder(tmp_path / "01", [f"t{n:0{digits}d}.tif" for n in (0, 1, 2)], pixels)
    _folder(tmp_path / "01_ST" / "SEG", [f"man_seg{n:0{digits}d}.tif" for n in (0, 2)], pixels[[0, 2]])
    images = open_source(str(tmp_path / "01"))
    assert (images.numbered, images.frames) == (True, (0, 1, 2))
    for path in (tmp_path / "01_ST" / "SEG", tmp_path / "01_ST"):
        labels = open_source(str(path), labels=True)
        assert (labels.numbered, labels.frames, labels.shape[0]) == (True, (0, 2), 3)
        assert (labels.plane(2) == pixels[2]).all()
        assert labels.plane(1).max() == 0
    cropped = open_source(str(tmp_path / "01_ST"), labels=True, frames=(1, None))
    assert (cropped.frames, cropped.shape[0]) == ((1,), 2)
    assert (cropped.plane(1) == pixels[2]).all()


def test_pages_lie_at_their_frames(tmp_path: Path) -> None:
    pixels = noise(3, 7, 9)
    tifffile.imwrite(tmp_path / "s.tif", pixels, compression="zlib", photometric="minisblack")
    (tmp_path / "s.frames.txt").write_text("5\n2\n7\n")
    source = open_source(str(tmp_path / "s.tif"))
    assert (source.numbered, source.frames, source.shape[0]) == (True, (2, 5, 7), 8)
    assert [(source.plane(t) == pixels[i]).all() for t, i in ((5, 0), (2, 1), (7, 2))] == [True] * 3
    assert source.plane(3).max() == 0
    later = open_source(str(tmp_path / "s.tif"), frames=(3, 6))
    assert (later.frames, later.shape[0]) == ((2,), 3)
    assert (later.plane(2) == pixels[0]).all()
    for text, reason in (
        ("1\n2\n", "names 2 frames"),
        ("1\nb\n3", "one frame number"),
        ("1\n1\n2", "number 1 is a duplicate"),
    ):
        (tmp_path / "s.frames.txt").write_text(text)
        with pytest.raises(InputError, match=reason):
            open_source(str(tmp_path / "s.tif"))


def test_frames_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "s.npy", noise(3, 7, 9))
    assert open_source(str(tmp_path / "s.npy"), frames=(None, 2)).shape[0] == 2
    for frames in ((0, 4), (2, 2), (-1, 2)):
        with pytest.raises(MissingError, match=r"it has frames 0:3. Frame ranges are half-open"):
            open_source(str(tmp_path / "s.npy"), frames=frames)


def test_what_is_no_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="does not exist"):
        open_source(str(tmp_path / "none.tif"))
    with pytest.raises(MissingError, match="holds no images"):
        open_source(str(tmp_path))
    (tmp_path / "a.txt").touch()
    with pytest.raises(InputError, match=r"expected .tif, .tiff, .png, .jpg, .npz, .npy, a folder"):
        open_source(str(tmp_path / "a.txt"))
    for name in ("a.tif", "a.npz", "a.npy", "a.png", "a.jpg"):
        (tmp_path / name).write_bytes(b"nothing")
        with pytest.raises(StoreError, match=name):
            open_source(str(tmp_path / name))
    np.save(tmp_path / "e.npy", noise(0, 7, 9))
    with pytest.raises(InputError, match=r"e\.npy has no pixels"):
        open_source(str(tmp_path / "e.npy"))
    np.save(tmp_path / "c.npy", noise(3, 3).astype(complex))
    with pytest.raises(InputError, match="complex128"):
        open_source(str(tmp_path / "c.npy"))
    np.savez(tmp_path / "n.npz", ids=np.arange(3))
    with pytest.raises(InputError, match="holds no images; its arrays are ids"):
        open_source(str(tmp_path / "n.npz"))


@pytest.mark.parametrize("kind", ["npy", "npz", "compressed"])
def test_an_array_of_which_any_byte_is_changed_is_read_or_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind[:3].replace('com', 'npz')}"
    save = {"npy": np.save, "npz": np.savez, "compressed": np.savez_compressed}[kind]
    save(path, noise(3, 16, 20))
    whole, refused = path.read_bytes(), 0
    for at in [*range(0, 400, 5), *range(len(whole) - 200, len(whole), 5)]:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :])
        try:
            open_source(str(path)).plane(0)
        except CellscaleError:
            refused += 1
    assert refused > 10


@pytest.mark.parametrize("shape", ["(10**15,)", "(1000000000000000,)", "(" * 5000, "(-1, 4)"])
def test_an_array_that_no_memory_holds_is_refused(tmp_path: Path, shape: str) -> None:
    header = f"{{'descr': '<u2', 'fortran_order': False, 'shape': {shape}, }}".encode()
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(64)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("images.npy", data)
    (tmp_path / "a.npy").write_bytes(data)
    for name in ("a.npz", "a.npy"):
        with pytest.raises(StoreError, match=f"Cannot read .*{name}"):
            open_source(str(tmp_path / name))


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_truncated_page_is_a_store_error(tmp_path: Path, compression: str | None) -> None:
    path = tmp_path / "s.tif"
    tifffile.imwrite(path, noise(2, 70, 90), compression=compression, photometric="minisblack")
    source = open_source(str(path))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(StoreError, match=r"s.tif"):
        source.plane(1)


def test_frames_of_a_folder_are_equally_large(tmp_path: Path) -> None:
    _folder(tmp_path / "f", ["a.tif"], noise(1, 7, 9))
    folder = _folder(tmp_path / "f", ["b.tif"], noise(1, 7, 8))
    with pytest.raises(InputError, match=r"2 sizes: a.tif has 7 × 9 px, b.tif has 7 × 8 px. Use --series all"):
        open_source(folder)
    (tmp_path / "f" / "b.tif").write_bytes((tmp_path / "f" / "a.tif").read_bytes())
    source = open_source(folder)
    tifffile.imwrite(tmp_path / "f" / "b.tif", noise(7, 8))
    with pytest.raises((InputError, StoreError), match=r"b.tif"):
        source.plane(1)
    tifffile.imwrite(tmp_path / "f" / "a.tif", noise(2, 7, 9), photometric="minisblack")
    with pytest.raises(InputError, match=r"each file is one frame.*--axes zyx"):
        open_source(str(tmp_path / "f"))
    tifffile.imwrite(tmp_path / "f" / "b.tif", noise(2, 7, 9), photometric="minisblack")
    assert open_source(str(tmp_path / "f"), axes="zyx").shape == (2, 1, 2, 7, 9)


def test_masks_in_the_npz_of_their_images(tmp_path: Path) -> None:
    images, masks = noise(3, 7, 9), np.tile(np.arange(63).reshape(7, 9), (3, 1, 1))
    np.savez(tmp_path / "both.npz", images=images, masks=masks)
    path, made = str(tmp_path / "both.npz"), tmp_path / "made.zarr"
    cellscale.import_images(path, made, masks=path)
    assert (cellscale.open_labels(made, "truth").values == masks).all()
    with pytest.raises(InputError, match=r"both\.npz::images is both image and mask"):
        cellscale.import_images(path, tmp_path / "twice.zarr", masks=f"{path}::images")


@pytest.mark.parametrize("name", ["~frames.tif", "~no-one/frames.tif", "a::b.tif", "a#b?[1] %20µ.tif"])
def test_names_that_other_programs_would_expand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).parent.mkdir(exist_ok=True)
    tifffile.imwrite(name, noise(7, 9))
    assert open_source(name).shape == (1, 1, 1, 7, 9)
    cellscale.import_images(name, "made.zarr")
    attributes = json.loads(Path("made.zarr/zarr.json").read_text())["attributes"]
    assert attributes["cellscale"]["origin"]["name"] == Path(name).name
    with pytest.raises(InputError, match=r"chooses an array of an npz file, and .* is not one\. Omit '::images'"):
        open_source(f"{name}::images")


@pytest.mark.parametrize("kind", [np.int64, np.uint64, np.longlong, np.ulonglong, ">i8", ">u2", np.float16, np.float64])
def test_every_type_of_number_becomes_an_image(tmp_path: Path, kind: Any) -> None:
    pixels = np.arange(3 * 32 * 40).reshape(3, 32, 40).astype(kind)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="minisblack")
    np.save(tmp_path / "a.npy", pixels)
    for source in (str(tmp_path / "a.tif"), str(tmp_path / "a.npy")):
        made = cellscale.import_images(source, tmp_path / "made.zarr", overwrite=True)
        assert (cellscale.open_image(made.url).values == pixels).all()
    assert (cellscale.open_image(cellscale.save_image(pixels, tmp_path / "saved.zarr").url).values == pixels).all()


@pytest.mark.skipif(np.dtype(np.longdouble).itemsize == 8, reason="long double is a double here")
def test_numbers_that_no_image_can_have_are_refused(tmp_path: Path) -> None:
    pixels = noise(3, 32, 40).astype(np.longdouble)
    np.save(tmp_path / "a.npy", pixels)
    with pytest.raises(InputError, match=r"a\.npy has pixels of type float\d+; expected .* at most 64 bits"):
        cellscale.import_images(tmp_path / "a.npy", tmp_path / "made.zarr")
    with pytest.raises(InputError, match="at most 64 bits"):
        cellscale.save_image(pixels, tmp_path / "made.zarr")


def test_a_file_that_is_named_like_a_picture_is_not_read_by_halves(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", noise(3, 32, 40), photometric="minisblack")
    (tmp_path / "a.tif").rename(tmp_path / "a.png")
    with pytest.raises(StoreError, match=r"Cannot read .*a\.png as PNG or JPEG: .* named after its format\.$"):
        open_source(str(tmp_path / "a.png"))


def test_urls_of_this_machine_are_read_and_others_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=noise(3, 7, 9))
    assert open_source(f"file://{tmp_path}/a.npz::images").shape == (3, 1, 1, 7, 9)
    for url in ("s3://bucket/a.tif", "https://example.org/a.tif"):
        with pytest.raises(InputError, match=rf"{url} is not on this machine"):
            open_source(url)
    with pytest.raises(InputError, match="The source is empty; expected a URL or a path"):
        cellscale.import_images("", tmp_path / "made.zarr")


def test_a_range_in_which_no_frame_exists_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "raw.tif", noise(3, 7, 9), photometric="minisblack")
    (tmp_path / "raw.frames.txt").write_text("4\n5\n8\n")
    told = r"None of the chosen frames of .*raw\.tif exists; those that exist are 4–5, 8\. Choose frames among these"
    for chosen in ((0, 3), (6, 8)):
        with pytest.raises(MissingError, match=told):
            cellscale.import_images(tmp_path / "raw.tif", tmp_path / "made.zarr", frames=chosen)
    assert not (tmp_path / "made.zarr").exists()
    made = cellscale.import_images(tmp_path / "raw.tif", tmp_path / "made.zarr", frames=(3, 6))
    assert made.size("t") == 3


def test_real_stacks(data: Path) -> None:
    truth = open_source(str(data / "Fluo-N2DL-HeLa" / "01_gt_seg.tif"), labels=True)
    pages = tifffile.imread(data / "Fluo-N2DL-HeLa" / "01_gt_seg.tif", key=[0, 27])
    assert len(truth.frames) == 28
    assert (truth.plane(truth.frames[0]) == pages[0]).all()
    assert (truth.plane(truth.frames[27]) == pages[1]).all()
    nuclei = str(data / "DSB2018-fluo" / "dsb2018_fluo_256x320.npz")
    assert open_source(nuclei).shape == open_source(nuclei, labels=True).shape

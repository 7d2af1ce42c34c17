"""Files of microscope makers: all images, sizes and names, through bioio; and what to install without it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import cellscale
from cellscale.errors import InputError, MissingError, StoreError
from cellscale.ngff.image import list_images, open_image
from cellscale.sources import Source, open_source, open_sources
from tests.ngff.pictures import whole
from tests.sources.microscope_writers import write_lif, write_nd2

STEPS = {"x": 0.3, "z": 1.5, "t": 20.0}
PIXELS = np.random.default_rng(0).integers(0, 999, (2, 3, 2, 4, 32, 40)).astype(np.uint16)
"""(p, t, c, z, y, x)"""


def planes(source: Source) -> NDArray[Any]:
    t, c, z, _, _ = source.shape
    return np.array([[[source.plane(i, j, k) for k in range(z)] for j in range(c)] for i in range(t)])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("microscope")
    metres = {"x": 0.3e-6, "y": 0.3e-6, "z": 1.5e-6, "t": 20.0}
    write_lif(folder / "a.lif", {"pos0": PIXELS[0], "pos1": PIXELS[1]}, channels=["DAPI", "GFP"], steps=metres)
    write_nd2(folder / "a.nd2", PIXELS, channels=["DAPI", "GFP"], steps=STEPS)
    write_lif(folder / "one.LIF", {"pos0": PIXELS[0]}, channels=["DAPI", "GFP"], steps=metres)
    return folder


@pytest.mark.parametrize("name", ["a.lif", "a.nd2"])
def test_all_images_with_sizes_and_names(files: Path, name: str) -> None:
    found = open_sources(str(files / name), series="all")
    assert [source.name for source in found] == ["pos0", "pos1"]
    for source, pixels in zip(found, PIXELS, strict=True):
        assert (planes(source) == pixels).all()
        known = source.calibration
        assert known.pixel_size_um == pytest.approx((0.3, 0.3))
        assert (known.z_step_um, known.frame_interval_s) == pytest.approx((1.5, 20.0))
        assert known.channels == ("DAPI", "GFP")


@pytest.mark.parametrize("name", ["a.lif", "a.nd2"])
def test_no_image_is_taken_silently(files: Path, name: str) -> None:
    with pytest.raises(
        InputError, match=r"holds 2 images .*0 'pos0' \(3 × 2 × 4 × 32 × 40\).*--series N .*--series all"
    ):
        open_source(str(files / name))
    assert (open_source(str(files / name), series=1, frames=(2, 3)).plane(0, 1, 3) == PIXELS[1, 2, 1, 3]).all()
    with pytest.raises(MissingError, match=r"Series 2 of .* does not exist"):
        open_source(str(files / name), series=2)
    with pytest.raises(InputError, match="names its axes itself"):
        open_source(str(files / name), axes="tczyx", series=0)


def test_an_import_keeps_what_the_file_says(files: Path, tmp_path: Path) -> None:
    made = cellscale.import_images(str(files / "a.nd2"), str(tmp_path / "c.zarr"), series="all")
    assert [image.url for image in made] == list(list_images(str(tmp_path / "c.zarr")))
    image = open_image(made[1].url)
    assert (image.axes, image.channels) == (("t", "c", "z", "y", "x"), ("DAPI", "GFP"))
    assert (image.z_step_um(), image.frame_interval_s(), image.pixel_size_um()) == (1.5, 20.0, (0.3, 0.3))
    assert (image.read(whole(image), t=2, z=3) == PIXELS[1, 2, :, 3]).all()
    single = cellscale.import_images(str(files / "one.LIF"), str(tmp_path / "i.zarr"), pixel_size_um=0.5)
    assert (single.size("t"), single.pixel_size_um()) == (3, (0.5, 0.5))


def test_frames_that_were_never_recorded_are_refused(tmp_path: Path) -> None:
    write_nd2(tmp_path / "a.nd2", PIXELS[:1], channels=["DAPI", "GFP"], steps=STEPS, lost=6)
    with pytest.raises(InputError, match=r"Frame 1 of .* is incomplete: it lacks slice 2.*--frames A:B"):
        open_source(str(tmp_path / "a.nd2"))
    first = open_source(str(tmp_path / "a.nd2"), frames=(0, 1))
    assert (planes(first) == PIXELS[0, :1]).all()


@pytest.mark.parametrize("name", ["a.lif", "a.nd2"])
def test_damaged_files_are_store_errors(files: Path, tmp_path: Path, name: str) -> None:
    whole_file = (files / name).read_bytes()
    (tmp_path / name).write_bytes(whole_file[: len(whole_file) // 40])
    with pytest.raises(StoreError, match=rf"Cannot read .*{name}"):
        open_source(str(tmp_path / name), series=0)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("a.nd2", r"pip install 'cellscale\[bioio\]'\. Or export"),
        ("a.czi", r"pip install 'cellscale\[bioio\]' bioio-czi \(bioio-czi is GPL-3.0\)"),
        ("a.dv", r"pip install 'cellscale\[bioio\]' bioio-dv\. Or export"),
    ],
)
def test_without_the_plug_in_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, advice: str
) -> None:
    (tmp_path / name).write_bytes(b"something")
    if name == "a.nd2":
        monkeypatch.setitem(sys.modules, "bioio", None)
    with pytest.raises(InputError, match=advice):
        open_source(str(tmp_path / name))

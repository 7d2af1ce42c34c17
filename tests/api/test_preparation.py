"""Preparation: equal bytes for every chunking; shading, background and drift that were put in are taken out."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from scipy import ndimage

import cellscale
from cellscale.errors import InputError
from cellscale.ngff.image import open_image
from cellscale.ngff.metadata import read_node
from cellscale.ngff.writer import ImageWriter, create_image
from cellscale.preparation.filters import SHIFT_STEPS
from cellscale.types import Box
from tests.blobs import blurred_noise

SHAPE = (60, 76)
WHOLE = Box(0, 0, *SHAPE)
ALL: dict[str, Any] = {
    "flat_field_um": 8.0,
    "dark": 10.0,
    "background_um": 2.0,
    "median_px": 3,
    "gaussian_px": 1.5,
    "drift": True,
}
SERIAL: dict[str, Any] = {"backend": "serial"}


def movie(path: Path, frames: np.ndarray, version: str = "0.5") -> str:
    """A time-lapse of pixels 0.5 µm high and 0.25 µm wide."""
    url = str(path)
    shape = (len(frames), 1, 1, *SHAPE)
    with create_image(
        url, shape_tczyx=shape, dtype=frames.dtype, axes=("t", "y", "x"), version=version, pixel_size_um=(0.5, 0.25)
    ) as writer:
        for t, frame in enumerate(frames):
            writer.write(frame, t=t)
    return url


def frames_of(url: str) -> np.ndarray:
    image = open_image(url)
    return np.stack([image.read(WHOLE, t=t)[0] for t in range(image.size("t"))])


def drifting() -> np.ndarray:
    """Three frames of one scene, each moved by whole pixels."""
    scene = blurred_noise((1, 90, 110))[0]
    return np.stack([scene[10 + 3 * t : 70 + 3 * t, 12 - 2 * t : 88 - 2 * t] for t in range(3)]).astype(np.uint16)


def test_every_chunking_gives_the_same_bytes(tmp_path: Path) -> None:
    url = movie(tmp_path / "m.zarr", drifting(), "0.4")
    sides = (19, 32, 500)
    found = [frames_of(cellscale.prepare(url, str(tmp_path / f"{i}.zarr"), chunk_px=i, **ALL, **SERIAL)) for i in sides]
    assert np.ptp(found[0]) > 0
    for other in found[1:]:
        assert other.tobytes() == found[0].tobytes()
    made = open_image(str(tmp_path / "19.zarr"))
    assert (made.version, made.axes, made.pixel_size_um()) == ("0.4", ("t", "y", "x"), (0.5, 0.25))
    node = read_node(made.store)
    assert node is not None
    assert node.notes["preparation"]["median_px"] == 3


def steepest(plane: np.ndarray) -> np.ndarray:
    """Largest difference of neighbours along y and along x next to each pixel, added."""
    found = np.zeros(plane.shape)
    for axis in (0, 1):
        steps = np.abs(np.diff(plane, axis=axis))
        pads = [(1, 0), (0, 1)]
        sides = [np.pad(steps, [pad if at == axis else (0, 0) for at in (0, 1)]) for pad in pads]
        found += ndimage.maximum_filter(np.maximum(*sides), size=3)
    return found


def test_drift_is_taken_out(tmp_path: Path) -> None:
    """The drift between two frames is known to one step of the search, 1/8 px, and such errors add up over frames.

    A plane interpolated linearly e px away from where it should be, e < 1, differs from itself by at most e times the
    differences of the neighbours there. That bounds each pixel.
    """
    frames = drifting()
    found = frames_of(
        cellscale.prepare(movie(tmp_path / "m.zarr", frames), str(tmp_path / "p.zarr"), drift=True, **SERIAL)
    )
    inner = (slice(12, -12), slice(12, -12))
    first = frames[0].astype(np.float64)
    for t in (1, 2):
        bound = (t / SHIFT_STEPS * steepest(first) + 0.01)[inner]  # float32 holds these pixels to 0.004
        assert (np.abs(found[t] - first)[inner] <= bound).all()
        assert (np.abs(frames[t] - first)[inner] > bound).mean() > 0.5


def test_shading_is_taken_out(tmp_path: Path) -> None:
    shade = np.linspace(0.4, 1.6, SHAPE[1])[None]
    frames = np.stack([np.full(SHAPE, 1000.0) * shade + 100 for _ in range(3)]).astype(np.float32)
    url = movie(tmp_path / "m.zarr", frames)
    found = frames_of(cellscale.prepare(url, str(tmp_path / "p.zarr"), flat_field_um=0.25, dark=100.0, **SERIAL))
    assert np.ptp(frames) > 1000
    np.testing.assert_allclose(found, 1000.0, rtol=0.03)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*")
def test_ray_gives_the_same_bytes(tmp_path: Path, cluster: None) -> None:
    url = movie(tmp_path / "m.zarr", drifting()[:2])
    options = {**ALL, "chunk_px": 32, "background_filter": "median"}
    serial, ray = (
        frames_of(cellscale.prepare(url, str(tmp_path / f"{backend}.zarr"), backend=backend, **options))
        for backend in ("serial", "ray")
    )
    assert np.ptp(serial) > 0
    assert ray.tobytes() == serial.tobytes()


def test_a_given_field_and_dark_frame_are_taken_out(tmp_path: Path) -> None:
    shade, dark = np.linspace(0.4, 1.6, SHAPE[1])[None] * np.ones(SHAPE), np.arange(SHAPE[0])[:, None] * np.ones(SHAPE)
    frames = np.stack([np.full(SHAPE, 1000.0) * shade + dark for _ in range(2)]).astype(np.float32)
    url = movie(tmp_path / "m.zarr", frames)
    tifffile.imwrite(tmp_path / "dark.tif", dark.astype(np.uint16))
    # Three exposures of the field, one of them with a speck: their median counts.
    field = np.stack([500 * shade + dark] * 3).astype(np.float32)
    field[1, :20, :20] = 0
    flat = movie(tmp_path / "flat.zarr", field)
    for given in (flat, 500 * shade + dark):
        found = frames_of(
            cellscale.prepare(
                url, tmp_path / "p.zarr", flat_field=given, dark=tmp_path / "dark.tif", overwrite=True, **SERIAL
            )
        )
        np.testing.assert_allclose(found, 1000.0, rtol=1e-5)
    with pytest.raises(InputError, match=r"flat_field has 1 channels of .*; expected 1 or 1 channels of"):
        cellscale.prepare(url, tmp_path / "q.zarr", flat_field=np.ones((5, 5)), **SERIAL)


def test_a_median_background_is_taken_out_under_spots(tmp_path: Path) -> None:
    ramp = np.linspace(100, 400, SHAPE[1])[None] * np.ones(SHAPE)
    spots = np.zeros(SHAPE)
    spots[10::20, 10::20] = 50
    url = movie(tmp_path / "m.zarr", (ramp + spots)[None].astype(np.float32))
    options: dict[str, Any] = {"background_um": 4.0, "background_filter": "median"}
    found = frames_of(cellscale.prepare(url, tmp_path / "p.zarr", **options, **SERIAL))[0]
    inner = (slice(8, -8), slice(12, -12))
    np.testing.assert_allclose(found[inner], spots[inner], atol=1e-3)


@pytest.mark.parametrize("how", ["max", "mean", "min", "median"])
def test_slices_are_projected(tmp_path: Path, how: Any) -> None:
    slices = np.random.default_rng(0).integers(0, 1000, (3, *SHAPE), np.uint16)
    url = str(tmp_path / "m.zarr")
    with create_image(url, shape_tczyx=(1, 1, 3, *SHAPE), dtype=slices.dtype, axes=("z", "y", "x")) as writer:
        for z, plane in enumerate(slices):
            writer.write(plane, z=z)
    made = open_image(cellscale.prepare(url, tmp_path / "p.zarr", z_projection=how, **SERIAL))
    assert made.axes == ("y", "x")
    expected = getattr(np, how)(slices.astype(np.float64), axis=0).astype(np.float32)
    assert np.array_equal(made.read(WHOLE)[0], expected)


def test_a_stopped_preparation_resumes_with_its_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = drifting()
    url, output = movie(tmp_path / "m.zarr", frames), tmp_path / "p.zarr"
    whole = frames_of(cellscale.prepare(url, tmp_path / "whole.zarr", drift=True, **SERIAL))

    def stop(step: str, done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cellscale.prepare(url, output, drift=True, on_progress=stop, **SERIAL)
    with pytest.raises(cellscale.CellscaleError, match="exists already"):
        cellscale.prepare(url, output, drift=False, **SERIAL)
    written = []
    write = ImageWriter.write

    def noted(writer: ImageWriter, array: Any, **place: Any) -> None:
        written.append(place["t"])
        write(writer, array, **place)

    monkeypatch.setattr(ImageWriter, "write", noted)
    cellscale.prepare(url, output, drift=True, **SERIAL)
    assert written == [2]
    assert frames_of(str(output)).tobytes() == whole.tobytes()
    assert sorted(path.name for path in output.iterdir()) == ["0", "zarr.json"]


def test_frames_that_have_changed_are_computed_again(tmp_path: Path) -> None:
    frames = drifting()
    url, output = movie(tmp_path / "m.zarr", frames), tmp_path / "p.zarr"

    def stop(step: str, done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cellscale.prepare(url, output, gaussian_px=1.0, on_progress=stop, **SERIAL)
    other = np.stack([frames[1], frames[1], frames[0]])
    shutil.rmtree(url)
    movie(tmp_path / "m.zarr", other)
    found = frames_of(cellscale.prepare(url, output, gaussian_px=1.0, **SERIAL))
    fresh = frames_of(cellscale.prepare(url, tmp_path / "fresh.zarr", gaussian_px=1.0, **SERIAL))
    assert found.tobytes() == fresh.tobytes()


def test_an_equal_preparation_replaces_its_own_result(tmp_path: Path) -> None:
    url, output = movie(tmp_path / "m.zarr", drifting()), tmp_path / "p.zarr"
    first = frames_of(cellscale.prepare(url, output, median_px=3, **SERIAL))
    with pytest.raises(cellscale.CellscaleError, match="exists already"):
        cellscale.prepare(url, output, median_px=3, **SERIAL)
    for _ in range(2):
        again = frames_of(cellscale.prepare(url, output, median_px=3, overwrite=True, **SERIAL))
        assert again.tobytes() == first.tobytes()
        assert len([path for path in output.iterdir() if path.is_dir()]) == 1


@pytest.mark.parametrize("options", [{}, {"drift": True}, {"z_projection": "max"}])
@pytest.mark.parametrize("value", [np.nan, np.inf, -1e300])
def test_a_pixel_that_is_no_number_is_named(tmp_path: Path, value: float, options: dict[str, Any]) -> None:
    frames = drifting().astype(np.float64)
    frames[1, 5, 7] = value
    url = movie(tmp_path / "m.zarr", frames)
    with pytest.raises(
        InputError, match=r"Pixel \(y 5, x 7\) of frame 1, channel 0, slice 0 of .*m\.zarr is .*float32"
    ):
        cellscale.prepare(url, tmp_path / "p.zarr", **options, **SERIAL)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"median_px": 2001}, "median_px = 2001 is 2001 px; .* 60 × 76 px. Give at most 60 px"),
        ({"gaussian_px": 1e9}, "gaussian_px = 1000000000.0 is 1e"),
        ({"background_um": 1e9}, "background_um = 1000000000.0 is 4e"),
        ({"flat_field_um": 20.0}, "flat_field_um = 20.0 is 80 px; .* Give at most 76 px"),
        ({"median_px": 4}, "median_px = 4 is not valid; expected 0 or an odd whole number"),
        ({"median_px": 2.5}, "'median_px' expects a whole number, got 2.5"),
        ({"flat_field_um": float("nan")}, "'flat_field_um' expects a finite number"),
    ],
)
def test_filters_fit_into_the_image(tmp_path: Path, options: dict[str, Any], told: str) -> None:
    url = movie(tmp_path / "m.zarr", drifting())
    with pytest.raises(InputError, match=told):
        cellscale.prepare(url, tmp_path / "p.zarr", **options, **SERIAL)
    assert not (tmp_path / "p.zarr").exists()


def test_the_largest_filters_of_an_image(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "median_px": 59,
        "gaussian_px": 76.0,
        "background_um": 1e6,
        "background_filter": "median",
    }
    url = movie(tmp_path / "m.zarr", drifting()[:1])
    found = frames_of(cellscale.prepare(url, tmp_path / "p.zarr", chunk_px=32, **options, **SERIAL))
    assert np.isfinite(found).all()


def test_what_is_not_valid_leaves_nothing(tmp_path: Path) -> None:
    url = movie(tmp_path / "m.zarr", drifting())
    wrong: list[dict[str, Any]] = [
        {"background_um": -1.0},
        {"gaussian_px": -2.0},
        {"chunk_px": 0},
    ]
    for options in wrong:
        with pytest.raises(InputError, match=r"is not valid; expected (0 or )?a positive number"):
            cellscale.prepare(url, str(tmp_path / "p.zarr"), **options)
    for dark in (float("nan"), np.full(SHAPE, np.inf)):
        with pytest.raises(InputError, match="The dark frame must have finite values"):
            cellscale.prepare(url, str(tmp_path / "p.zarr"), dark=dark)
    misspelt: dict[str, Any] = {"flatfield": 3}
    with pytest.raises(cellscale.CellscaleError, match="flat_field"):
        cellscale.prepare(url, str(tmp_path / "p.zarr"), **misspelt)
    with pytest.raises(cellscale.CellscaleError):
        cellscale.prepare(url, url)
    assert not (tmp_path / "p.zarr").exists()

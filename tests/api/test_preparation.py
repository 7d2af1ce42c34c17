"""Preparation: equal bytes for every chunking; shading, background and drift that were put in are taken out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

import cellscale
from cellscale.errors import InputError
from cellscale.ngff.image import open_image
from cellscale.ngff.metadata import read_node
from cellscale.ngff.writer import create_image
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
    found = [frames_of(cellscale.prepare(url, str(tmp_path / f"{i}.zarr"), chunk_px=i, **ALL)) for i in sides]
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
    found = frames_of(cellscale.prepare(movie(tmp_path / "m.zarr", frames), str(tmp_path / "p.zarr"), drift=True))
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
    found = frames_of(cellscale.prepare(url, str(tmp_path / "p.zarr"), flat_field_um=0.25, dark=100.0))
    assert np.ptp(frames) > 1000
    np.testing.assert_allclose(found, 1000.0, rtol=0.03)


def test_what_is_not_valid_leaves_nothing(tmp_path: Path) -> None:
    url = movie(tmp_path / "m.zarr", drifting())
    wrong: list[dict[str, Any]] = [
        {"background_um": -1.0},
        {"flat_field_um": float("nan")},
        {"gaussian_px": -2.0},
        {"chunk_px": 0},
    ]
    for options in wrong:
        with pytest.raises(InputError, match="is not valid; expected a positive number"):
            cellscale.prepare(url, str(tmp_path / "p.zarr"), **options)
    with pytest.raises(InputError, match="dark = nan is not valid; expected a finite number"):
        cellscale.prepare(url, str(tmp_path / "p.zarr"), dark=float("nan"))
    with pytest.raises(cellscale.CellscaleError):
        cellscale.prepare(url, url)
    assert not (tmp_path / "p.zarr").exists()

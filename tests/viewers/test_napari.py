"""Napari on a virtual display: our layers, and what napari-ome-zarr makes of our stores."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from cellscale.ngff.labels import open_labels
from cellscale.tracking.lineage import tracks_of
from cellscale.types import Box
from tests.viewers import stores
from tests.viewers.pages import at_cells, changed, display, keep

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
PYTHON = os.environ.get("NAPARI_PYTHON", sys.executable)
"""The interpreter of an environment that has napari; this one's where it is not set."""


@pytest.fixture(scope="module")
def screen() -> Iterator[str]:
    if subprocess.run([PYTHON, "-c", "import napari, qtpy"], capture_output=True, check=False).returncode:
        pytest.skip("no napari: pip install 'cellscale[napari]', or name the python that has it in NAPARI_PYTHON")
    if not shutil.which("Xvfb"):
        pytest.skip("no Xvfb on the path (Debian: xvfb, libegl1, libgl1, libxcb-cursor0)")
    with display() as name:
        yield name


def test_tools_of_napari_correct_frames(tmp_path: Path) -> None:
    if subprocess.run([PYTHON, "-c", "import napari"], capture_output=True, check=False).returncode:
        pytest.skip("no napari: pip install 'cellscale[napari]', or name the python that has it in NAPARI_PYTHON")
    image = stores.movie(tmp_path)
    before = open_labels(image.url, "truth")
    subprocess.run(
        [PYTHON, "-m", "tests.viewers.napari_correction", image.url],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}:{os.environ.get('PYTHONPATH', '')}"},
        check=True,
        timeout=300,
    )
    after, box = open_labels(image.url, "by-hand"), Box(0, 0, *stores.SMALL)
    assert after.metadata["frames"] == [1, 2]
    changed_at = {t: before.read(box, t=t) != after.read(box, t=t) for t in (1, 2)}
    assert set(after.read(box, t=1)[changed_at[1]].tolist()) == {777}
    assert 9 <= changed_at[1].sum() <= 25
    assert set(after.read(box, t=2)[changed_at[2]].tolist()) == {778}


def test_paths_of_tracks(screen: str, tmp_path: Path) -> None:
    """Each point of a path lies at the centroid of its cell, and daughters are joined to their mother."""
    image = stores.tracked_movie(tmp_path)
    out = tmp_path / "shot.npz"
    subprocess.run(
        [PYTHON, "-m", "tests.viewers.napari_window", image.url, str(out), "cellscale", "2"],
        cwd=ROOT,
        env={**os.environ, "DISPLAY": screen, "QT_QPA_PLATFORM": "xcb", "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        check=True,
        timeout=300,
    )
    with np.load(out) as found:
        assert [entry.split()[0] for entry in found["layers"]] == ["Image", "Labels", "Labels", "Tracks"]
        assert found["layers"][-1] == "Tracks cells-tracks paths True"
        points, daughters = found["points"], found["graph"]
        shot, bare, zoom, centre = found["canvas"], found["bare"], float(found["zoom"]), found["centre_um"]
        keep(found["window"], "napari-tracks.png")
    layer = open_labels(image.url, "cells-tracks")
    for t in range(layer.size("t")):
        labels = layer.read(Box(0, 0, *stores.SMALL), t=t)
        here = points[points[:, 1] == t]
        assert set(here[:, 0]) == {*np.unique(labels)} - {0}
        middle = ndimage.center_of_mass(labels > 0, labels, here[:, 0])
        np.testing.assert_allclose(here[:, 2:], middle)
    assert daughters.tolist() == tracks_of(layer)["parent"][tracks_of(layer)["parent"] > 0].tolist()
    assert len(daughters) >= 2
    # The tail of a cell that moved is drawn between its places in two frames.
    scale = zoom * 0.5
    origin = np.array(shot.shape[:2]) / 2 - zoom * centre - scale / 2
    drawn = ndimage.binary_dilation(changed(shot, bare), iterations=2)
    before, after = ({int(p[0]): p[2:] for p in points[points[:, 1] == t]} for t in (1, 2))
    middles = np.array([(before[track] + after[track]) / 2 for track in before.keys() & after.keys()])
    at = np.round(origin + scale * (middles + 0.5)).astype(int)
    assert drawn[at[:, 0], at[:, 1]].mean() > 0.95


def test_the_command_shows_a_well_of_a_plate(screen: str, tmp_path: Path) -> None:
    plate, out = stores.plate(tmp_path), tmp_path / "shot.npz"
    subprocess.run(
        [PYTHON, "-m", "tests.viewers.napari_command", str(out), "view", plate, "--wells", "B/*", "--napari"],
        cwd=ROOT,
        env={**os.environ, "DISPLAY": screen, "QT_QPA_PLATFORM": "xcb", "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        check=True,
        timeout=300,
    )
    with np.load(out) as found:
        shot, bare, zoom, centre = found["canvas"], found["bare"], float(found["zoom"]), found["centre_um"]
    scale = zoom * 0.5
    origin = np.array(shot.shape[:2]) / 2 - zoom * centre - scale / 2
    labels = open_labels(f"{plate}/B/1/0", "truth").read(Box(0, 0, *stores.SMALL))
    at_cells(shot, changed(shot, bare), labels, (origin[0], origin[1]), scale)


@pytest.mark.parametrize("reader", ["plugin", "cellscale"])
@pytest.mark.parametrize("ngff", ["0.4", "0.5"])
def test_a_window(screen: str, tmp_path: Path, ngff: str, reader: str) -> None:
    image = stores.movie(tmp_path, ngff=ngff)
    out = tmp_path / "shot.npz"
    subprocess.run(
        [PYTHON, "-m", "tests.viewers.napari_window", image.url, str(out), reader, "1"],
        cwd=ROOT,
        env={**os.environ, "DISPLAY": screen, "QT_QPA_PLATFORM": "xcb", "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        check=True,
        timeout=300,
    )
    with np.load(out) as found:
        shot, bare, zoom, centre = found["canvas"], found["bare"], float(found["zoom"]), found["centre_um"]
        assert [entry.split()[0] for entry in found["layers"]] == ["Image", "Labels"]
        if reader == "cellscale":
            assert found["layers"][-1] == "Labels truth True"
            keep(found["window"], "napari.png")
    scale = zoom * 0.5
    origin = np.array(shot.shape[:2]) / 2 - zoom * centre - scale / 2
    labels = open_labels(image.url, "truth").read(Box(0, 0, *stores.SMALL), t=1)
    at_cells(shot, changed(shot, bare), labels, (origin[0], origin[1]), scale)

"""Neuroglancer in a real browser: the colours of the labels lie where the cells are."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from cellscale.ngff.image import NgffImage, open_image
from cellscale.ngff.labels import open_labels
from cellscale.types import Box
from cellscale.viewers.http_server import serving
from cellscale.viewers.neuroglancer import view
from cellscale.viewers.neuroglancer_state import scale_on_screen
from cellscale.viewers.scenes import scene
from tests.viewers import stores
from tests.viewers.pages import at_cells, chromium, drawn, keep, saturated
from tests.viewers.stores import foreign

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    pytest.importorskip("selenium", reason="selenium is not installed: pip install selenium")
    if not shutil.which("chromium") or not shutil.which("chromedriver"):
        pytest.skip("no chromium and chromedriver on the path (Debian: chromium, chromium-driver)")
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


def check(driver: Any, url: str, image: NgffImage, name: str, t: int) -> np.ndarray:
    """Open a page and hold its pixels against a frame of a layer."""
    picture, panel = drawn(driver, url)
    height, width = image.size("y"), image.size("x")
    zoom = 1 / scale_on_screen(image)
    origin = (
        panel["top"] + (panel["height"] - zoom * height) / 2,
        panel["left"] + (panel["width"] - zoom * width) / 2,
    )
    inside = picture[: int(panel["bottom"])]
    labels = open_labels(image.url, name).read(Box(0, 0, height, width), t=t)
    at_cells(inside, saturated(inside), labels, origin, zoom)
    return picture


@pytest.mark.parametrize("ngff", ["0.4", "0.5"])
@pytest.mark.parametrize("frame", [0, 2])
def test_a_time_lapse(browser: Any, tmp_path: Path, ngff: str, frame: int) -> None:
    image = stores.movie(tmp_path, ngff=ngff)
    with view(scene(image.url, frame=frame)) as page:
        check(browser, page.url, image, "truth", frame)


def colours_of_cells(picture: np.ndarray, image: NgffImage, labels: np.ndarray) -> dict[int, np.ndarray]:
    """Median colour of each cell in a picture of the middle of the page, without its border pixels."""
    zoom, centre = 1 / scale_on_screen(image), np.array(picture.shape[:2]) / 2
    rows, columns = np.indices(labels.shape)
    y = np.floor(centre[0] + zoom * (rows + 0.5 - labels.shape[0] / 2)).astype(int)
    x = np.floor(centre[1] + zoom * (columns + 0.5 - labels.shape[1] / 2)).astype(int)
    inner = ndimage.minimum_filter(labels, 5) == ndimage.maximum_filter(labels, 5)
    return {
        int(number): np.median(picture[y[at], x[at]], axis=0).astype(int)
        for number in np.unique(labels)[1:]
        if (at := inner & (labels == number)).any()
    }


def test_a_track_keeps_its_colour_in_two_frames(browser: Any, tmp_path: Path) -> None:
    image, box = stores.tracked_movie(tmp_path), Box(0, 0, *stores.SMALL)
    truth = stores.walking(frames=5)
    apart, shown = {}, []
    for name in ("cells", "cells-tracks"):
        found = []
        for t in (1, 4):
            with view(scene(image.url, layers=[name], frame=t)) as page:
                picture, panel = drawn(browser, page.url)
            sides = (slice(int(panel[a]), int(panel[b])) for a, b in (("top", "bottom"), ("left", "right")))
            inside = picture[tuple(sides)]
            labels = open_labels(image.url, name).read(box, t=t)
            # The cells by their true numbers, which are the same in both frames.
            numbers = {int(labels[truth[t] == true].max()): true for true in np.unique(truth[t])[1:].tolist()}
            found.append({numbers[n]: c for n, c in colours_of_cells(inside, image, labels).items()})
            shown += [inside] if name == "cells-tracks" else []
        both = found[0].keys() & found[1].keys() - {5, 20}
        assert len(both) > 30
        apart[name] = np.array([np.abs(found[0][true] - found[1][true]).max() for true in both])
    assert apart["cells-tracks"].max() <= 12
    assert np.median(apart["cells"]) > 40
    keep(np.concatenate(shown, axis=1), "neuroglancer-tracks.png")


def test_a_plate(browser: Any, tmp_path: Path) -> None:
    """The command shows the first image of the chosen wells."""
    plate = stores.plate(tmp_path)
    command = [sys.executable, "-m", "cellscale", "view", plate, "--wells", "B/*", "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ}) as shown:
        assert shown.stdout is not None
        try:
            check(browser, shown.stdout.readline().strip(), open_image(f"{plate}/B/1/0"), "truth", 0)
        finally:
            shown.terminate()


def test_numbers_of_32_bits(browser: Any, tmp_path: Path) -> None:
    image = stores.movie(tmp_path)
    name = stores.great_numbers(image)
    with view(scene(image.url, layers=[name])) as page:
        check(browser, page.url, image, name, 0)


def test_a_sharded_pyramid(browser: Any, tmp_path: Path) -> None:
    image = stores.movie(tmp_path, frames=1, shape=stores.LARGE)
    with open_labels(image.url, "truth").store.array("0") as array:
        assert array.shards is not None
    with view(image.url) as page:
        check(browser, page.url, image, "truth", 0)


def test_channels_are_layers(browser: Any, tmp_path: Path) -> None:
    image = stores.two_channels(tmp_path)
    with view(image.url) as page:
        picture, _ = drawn(browser, page.url)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 100


@pytest.mark.parametrize(("ngff", "dtype"), [("0.4", "uint8"), ("0.5", "int32")])
def test_labels_of_another_program(browser: Any, tmp_path: Path, ngff: str, dtype: str) -> None:
    source = stores.movie(tmp_path, frames=2)
    box = Box(0, 0, source.size("y"), source.size("x"))
    pixels = np.stack([source.read(box, t=t)[0] for t in range(2)])
    labels = np.stack([open_labels(source.url, "truth").read(box, t=t) for t in range(2)])
    foreign(tmp_path / "other.zarr", pixels, labels.astype(dtype), ngff)
    image = open_image(str(tmp_path / "other.zarr"))
    with view(scene(image.url, frame=1)) as page:
        check(browser, page.url, image, "nuclei", 1)


def test_a_zip_file(browser: Any, tmp_path: Path) -> None:
    image = stores.movie(tmp_path, frames=1)
    shutil.make_archive(f"{tmp_path}/packed.zarr", "zip", image.url)
    with view(f"{tmp_path}/packed.zarr.zip") as page:
        check(browser, page.url, image, "truth", 0)


def test_a_link_carries_the_view(browser: Any, tmp_path: Path) -> None:
    """The page on the web is out of reach here: the same client on this machine gets what the link says."""
    import neuroglancer

    image, page = stores.movie(tmp_path), neuroglancer.Viewer()
    origin = page.get_viewer_url().partition("/v/")[0]
    with serving({"web": image.store}, origins=[origin]) as server:
        link = view(scene(f"{server}/web", frame=1)).url
        check(browser, f"{page.get_viewer_url()}#{link.partition('#')[2]}", image, "truth", 1)
        neuroglancer.stop()


def test_the_command(browser: Any, tmp_path: Path) -> None:
    image = stores.movie(tmp_path)
    command = [sys.executable, "-m", "cellscale", "view", image.url, "--frame", "1", "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ}) as shown:
        assert shown.stdout is not None
        try:
            picture = check(browser, shown.stdout.readline().strip(), image, "truth", 1)
        finally:
            shown.terminate()
    keep(picture, "neuroglancer.png")

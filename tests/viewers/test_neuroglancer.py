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

from cellscale.ngff.image import NgffImage, open_image
from cellscale.ngff.labels import open_labels
from cellscale.types import Box
from cellscale.viewers.http_server import serving
from cellscale.viewers.neuroglancer import view
from cellscale.viewers.neuroglancer_state import scale_on_screen
from cellscale.viewers.scenes import scene
from tests.viewers import stores
from tests.viewers.pages import at_cells, chromium, drawn, keep, saturated
from tests.viewers.test_third_party import foreign

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
    image = stores.movie(tmp_path, ome_zarr_version=ngff)
    with view(scene(image.url, frame=frame)) as page:
        check(browser, page.url, image, "truth", frame)


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

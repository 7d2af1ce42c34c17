"""Real screens for the tests: a headless Chromium, a virtual X display, and what their pixels must be."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

PICTURES = Path(__file__).parents[2] / "docs" / "images"
CHROMIUM = (
    "--headless=new",
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1000,800",
)


@contextlib.contextmanager
def chromium(profile: Path) -> Iterator[Any]:
    """A Chromium without a screen, driven by selenium."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for word in (*CHROMIUM, f"--user-data-dir={profile}"):
        options.add_argument(word)
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    driver.set_page_load_timeout(60)
    try:
        yield driver
    finally:
        driver.quit()


@contextlib.contextmanager
def display() -> Iterator[str]:
    """An X display that nobody sees."""
    read, write = os.pipe()
    words = ["Xvfb", "-displayfd", str(write), "-screen", "0", "1280x1024x24", "-nolisten", "tcp"]
    server = subprocess.Popen(words, pass_fds=(write,), stderr=subprocess.DEVNULL)
    os.close(write)
    try:
        with os.fdopen(read) as stream:
            yield f":{stream.readline().strip()}"
    finally:
        server.terminate()
        server.wait()


def drawn(driver: Any, url: str, seconds: float = 60) -> tuple[NDArray[np.uint8], dict[str, float]]:
    """Open a neuroglancer page; its pixels (y, x, 3) once all chunks are drawn, and the rectangle of its data panel."""
    driver.get(url)
    last, end = b"", time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.5)
        now = driver.get_screenshot_as_png()
        if now == last and driver.execute_script("return window.viewer !== undefined && viewer.isReady()"):
            place = driver.execute_script(
                "return document.querySelector('.neuroglancer-rendered-data-panel').getBoundingClientRect().toJSON()"
            )
            return np.asarray(Image.open(io.BytesIO(now)).convert("RGB")), place
        last = now
    raise TimeoutError(f"{url} did not draw all chunks in {seconds} s")


def saturated(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Pixels that are not grey, (y, x)."""
    wide = picture.astype(int)
    return np.asarray(wide.max(axis=-1) - wide.min(axis=-1) > 24)


def changed(picture: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Pixels that differ between two pictures, (y, x)."""
    return np.asarray(np.abs(picture.astype(int) - other).max(axis=-1) > 8)


def at_cells(
    picture: NDArray[np.uint8],
    coloured: NDArray[np.bool_],
    labels: NDArray[Any],
    origin: tuple[float, float],
    zoom: float,
) -> None:
    """Assert that the coloured pixels of a picture lie where the cells are, and nowhere else.

    Pixel (y, x) of the frame lies on the screen at origin + zoom · (y + ½, x + ½). Pixels within 2 px of the border of
    a cell or the frame, or 1 px on the screen, are not judged.
    """
    margin = int(np.ceil(max(2, 1 / zoom)))
    size = 2 * margin + 1
    same = ndimage.minimum_filter(labels, size) == ndimage.maximum_filter(labels, size)
    same &= np.pad(np.ones([side - 2 * margin for side in labels.shape], bool), margin)
    rows, columns = np.nonzero(same)
    y = np.floor(origin[0] + zoom * (rows + 0.5)).astype(int)
    x = np.floor(origin[1] + zoom * (columns + 0.5)).astype(int)
    seen = (y >= 0) & (x >= 0) & (y < picture.shape[0]) & (x < picture.shape[1])
    assert seen.mean() > 0.95
    pixels, there, numbers = picture[y[seen], x[seen]], coloured[y[seen], x[seen]], labels[rows[seen], columns[seen]]
    assert there[numbers > 0].mean() > 0.97
    assert there[numbers == 0].mean() < 0.01
    hues = {number: tuple(np.median(pixels[numbers == number], axis=0) // 16) for number in np.unique(numbers)[1:]}
    assert len(set(hues.values())) > min(0.7 * len(hues), 30) > 3


def keep(picture: NDArray[np.uint8], name: str) -> None:
    """Put a screenshot into the documentation, with few colours: some 50 kB."""
    Image.fromarray(picture).quantize(128).save(PICTURES / name, optimize=True)

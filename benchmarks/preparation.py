"""What `cellscale prepare` is worth: nuclei found on a time-lapse with shading, drift and noise, before and after.

    python benchmarks/preparation.py --frames 6 --size 768 --folder work

A synthetic time-lapse with known cells gets a lamp that lights one corner most, a dark level, noise of camera and
photons, and a stage that drifts. `nuclei` segments it undisturbed, disturbed and prepared. The truth of the disturbed
time-lapse drifts with it; the truth of the prepared one does not.

    python benchmarks/preparation.py --memory
    python benchmarks/preparation.py --flat-field 01_raw.tif --folder work

The first prints the peak memory of a process that prepares time-lapses of several lengths and sizes. The second
estimates the flat-field of a real time-lapse (TIFF), and draws the mean intensity of rows and columns before and after.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

import cellscale
from cellscale.ngff.writer import create_image
from peak import peak_mb

DARK = 200.0


def disturbed(frame: NDArray[np.uint16], t: int, rng: np.random.Generator) -> NDArray[np.uint16]:
    """A frame under an uneven lamp, with noise, moved by (3, −2) px for each time point."""
    moved = np.roll(frame.astype(np.float64), (3 * t, -2 * t), axis=(0, 1))
    y, x = (np.linspace(0, 1, side) for side in frame.shape)
    lamp = 0.15 + 0.85 * np.exp(-2.5 * (y[:, None] ** 2 + x[None] ** 2))
    light = rng.poisson(np.maximum(moved * lamp, 0) / 8) * 8.0
    return np.clip(light + DARK + rng.normal(0, 12, frame.shape), 0, 65535).astype(np.uint16)


def f1(image: str, truth: str, layer: str, **options: Any) -> dict[str, float]:
    """Segment with `nuclei` and score all frames together."""
    cellscale.segment(image, model="nuclei", layer=layer, backend="serial", overwrite=True, **options)
    found = cellscale.evaluate(image, layer=layer, ground_truth=truth).to_dict()
    return {name: round(float(found[name]), 4) for name in ("f1", "precision", "recall", "ap_50")}


SIZES = ((512, 4), (512, 16), (1024, 4), (1024, 16), (2048, 4))
"""Sides of frames, and numbers of frames, whose preparation is measured."""


def measure_one(size: int, frames: int, folder: Path) -> None:
    """Prepare a time-lapse of noise in this process, and print its peak before and after."""
    source, rng = str(folder / f"{size}-{frames}.zarr"), np.random.default_rng(0)
    with create_image(
        source,
        shape_tczyx=(frames, 1, 1, size, size),
        dtype=np.dtype("u2"),
        axes=tuple("tyx"),
        pixel_size_um=(0.5, 0.5),
    ) as writer:
        for t in range(frames):
            writer.write(rng.integers(100, 1000, (size, size), np.uint16), t=t)
    before = peak_mb()
    cellscale.prepare(source, f"{source}.out.zarr", background_um=10, median_px=3, drift=True, backend="serial")
    print(f"| {size}² | {frames} | {before:.0f} | {peak_mb():.0f} |")


def memory(folder: Path) -> None:
    """Print the peak memory of processes that prepare one time-lapse each."""
    print("| frame, px | frames | peak before, MB | peak, MB |\n|---|---|---|---|", flush=True)
    for size, frames in SIZES:
        words = ["--measure-one", str(size), str(frames), "--folder", str(folder)]
        subprocess.run([sys.executable, __file__, *words], check=True)


def flat_field(movie: Path, folder: Path, output: Path) -> None:
    """Draw the mean intensity of rows and columns over all frames, before and after division by the flat-field."""
    pixels = tifffile.imread(movie)
    source = cellscale.save_image(pixels, f"{folder}/movie.zarr", axes="tyx", pixel_size_um=0.19, overwrite=True)
    url = cellscale.prepare(source.url, f"{folder}/flat.zarr", flat_field_um=10, backend="serial", overwrite=True)
    after = np.asarray(cellscale.open_image(url)).reshape(pixels.shape)
    figure = Figure(figsize=(8, 2.8), layout="constrained")
    FigureCanvasAgg(figure)
    for panel, axes, name in zip(figure.subplots(1, 2, sharey=True), ((0, 2), (0, 1)), ("row", "column"), strict=True):
        for values, label in ((pixels, "before"), (after, "after")):
            means = values.mean(axis=axes)
            panel.plot(means / means.mean(), label=label, linewidth=1)
            print(f"{name}s {label}: standard deviation {np.std(means / means.mean()):.4f} of the mean")
        panel.set_xlabel(f"{name}, px")
        panel.legend()
    figure.supylabel("mean over all frames", fontsize=9)
    figure.savefig(output, dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=6)
    parser.add_argument("--size", type=int, default=768)
    parser.add_argument("--folder", type=Path, default=Path("preparation-work"))
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--measure-one", type=int, nargs=2, metavar=("SIZE", "FRAMES"), help=argparse.SUPPRESS)
    parser.add_argument("--flat-field", type=Path, metavar="TIFF")
    parser.add_argument("--output", type=Path, default=Path("docs/images/flat-field.png"))
    given = parser.parse_args()
    if given.memory:
        memory(given.folder)
    elif given.measure_one:
        size, frames = given.measure_one
        measure_one(size, frames, given.folder)
    elif given.flat_field:
        flat_field(given.flat_field, given.folder, given.output)
    else:
        synthetic(given)


def synthetic(given: argparse.Namespace) -> None:
    """Print the scores of `nuclei` on a synthetic time-lapse, undisturbed, disturbed and prepared."""
    clean, rng = str(given.folder / "clean.zarr"), np.random.default_rng(0)
    shape = (given.frames, given.size, given.size)
    cellscale.synthesize(clean, shape=shape, cells=given.size**2 // 2500, seed=1, overwrite=True)
    pixels = np.asarray(cellscale.open_image(clean)).reshape(shape)
    truth = np.asarray(cellscale.open_labels(clean, "truth")).reshape(shape)
    frames = [disturbed(frame, t, rng) for t, frame in enumerate(pixels)]
    moved = [np.roll(frame, (3 * t, -2 * t), axis=(0, 1)) for t, frame in enumerate(truth)]
    bad, good = str(given.folder / "disturbed.zarr"), str(given.folder / "prepared.zarr")
    cellscale.save_image(np.stack(frames), bad, pixel_size_um=0.5, overwrite=True)
    cellscale.save_labels(np.stack(moved), bad, "truth", overwrite=True)
    cellscale.prepare(
        bad,
        good,
        flat_field_um=40,
        dark=DARK,
        background_um=30,
        median_px=3,
        drift=True,
        overwrite=True,
        backend="serial",
    )
    cellscale.save_labels(truth, good, "truth", overwrite=True)
    rows = {
        "undisturbed": f1(clean, "truth", "cells"),
        "disturbed": f1(bad, "truth", "cells"),
        "prepared": f1(good, "truth", "cells"),
    }
    print(json.dumps({"peak_mb": peak_mb(), **rows}, indent=1))


if __name__ == "__main__":
    main()

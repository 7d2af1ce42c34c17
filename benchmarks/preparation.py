"""What `cellscale prepare` is worth: nuclei found on a time-lapse with shading, drift and noise, before and after.

    python benchmarks/preparation.py --frames 6 --size 768 --folder work

A synthetic time-lapse with known cells gets a lamp that lights one corner most, a dark level, noise of camera and
photons, and a stage that drifts. `nuclei` segments it undisturbed, disturbed and prepared. The truth of the disturbed
time-lapse drifts with it; the truth of the prepared one does not.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import cellscale
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=6)
    parser.add_argument("--size", type=int, default=768)
    parser.add_argument("--folder", type=Path, default=Path("preparation-work"))
    given = parser.parse_args()
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

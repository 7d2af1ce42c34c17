"""The correction loop on real DIC frames: a model, ten corrected frames, the fine-tuned model.

    CELLSCALE_DATA=… python benchmarks/corrections.py --steps 1000 --width 16 --crop 192 --batch-size 4

A model is trained on four frames of DIC-C2DH-HeLa and applied to frames 44:84. The silver truth stands in for a person
who corrects ten frames of the result, evenly spaced over 44:72; the corrected layer is made by the same code as in
napari. Eight of these frames are learned from, two choose thresholds. Frames 72:84 are scored and never used.
As many further steps on the first four frames show what the steps do without corrections.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import cellscale
from cellscale.ngff.image import open_image
from cellscale.ngff.labels import open_labels
from cellscale.types import Box
from cellscale.viewers.corrections import correction_of

CORRECTED = tuple(int(t) for t in np.linspace(44, 71, 10).round())
HELD_OUT = (72, 84)
SCORES = ("seg", "det", "f1")


def correct(url: str, frames: tuple[int, ...]) -> dict[str, Any]:
    """Correct frames of the layer `before` by the truth; return how much there was to correct."""
    image = open_image(url)
    correction = correction_of(image, open_labels(url, "before"), "corrected")
    truth, box = open_labels(url, "truth"), Box(0, 0, image.size("y"), image.size("x"))
    changed = []
    for t in frames:
        found, true = correction[t], truth.read(box, t=t)
        changed.append(float(np.mean((found > 0) != (true > 0))))
        correction[t] = true
    correction.save()
    return {"frames": list(frames), "pixels_changed": round(float(np.mean(changed)), 4)}


def scored(url: str, model: cellscale.Model, layer: str) -> dict[str, float]:
    """Segment the held-out frames, and for the first layer those to correct; score the held-out ones."""
    frames = (CORRECTED[0], HELD_OUT[1]) if layer == "before" else HELD_OUT
    cellscale.segment(url, model=model, layer=layer, frames=frames, backend="serial")
    found = cellscale.evaluate(url, layer=layer, frames=HELD_OUT).to_dict()
    return {name: round(found[name], 3) for name in SCORES}


def of_training(given: argparse.Namespace, steps: int, width: int | None = None) -> dict[str, Any]:
    """Arguments of a training on one thread that is validated at its end; the width is that of a new network."""
    settings = {"crop": given.crop, "margin": 16, "batch_size": given.batch_size, "validate_every": steps, "threads": 1}
    new = {} if width is None else {"unet.width": width}
    return {"steps": steps, "backend": "serial", "settings": settings | new}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="saw")
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--first-steps", type=int, help="steps of the first training, if others than of the second")
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=2)
    given = parser.parse_args()
    data = Path(os.environ["CELLSCALE_DATA"]) / "DIC-C2DH-HeLa"
    with tempfile.TemporaryDirectory() as folder:
        url = f"{folder}/dic.zarr"
        cellscale.import_images(data / "01_raw.tif", url, masks=data / "01_st_seg.tif", pixel_size_um=0.19)
        first = cellscale.train(
            given.method,
            [url],
            output=f"{folder}/first",
            frames=(0, 4),
            validation_frames=(4, 6),
            **of_training(given, given.first_steps or given.steps, width=given.width),
        )
        results: dict[str, Any] = {"before": scored(url, first, "before")}
        results |= correct(url, CORRECTED)
        tuned = cellscale.train(
            given.method,
            [url],
            layer="corrected",
            init_from=first,
            output=f"{folder}/tuned",
            frames=(0, CORRECTED[-2]),
            validation_frames=(CORRECTED[-2], None),
            **of_training(given, given.steps),
        )
        results["after"] = scored(url, tuned, "after")
        longer = cellscale.train(
            given.method,
            [url],
            init_from=first,
            output=f"{folder}/longer",
            frames=(0, 4),
            validation_frames=(4, 6),
            **of_training(given, given.steps),
        )
        results["without corrections"] = scored(url, longer, "longer")
    print(json.dumps({**vars(given), **results}))


if __name__ == "__main__":
    main()

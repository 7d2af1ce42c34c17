"""The table of the Multi-CellNet paper and an ablation on DIC-C2DH-HeLa 01: frames 0:64, 64:72, 72:84, one line a run.

    CELLSCALE_DATA=… python benchmarks/multicellnet_table.py --steps 1000 --work models --output table.jsonl

Models are kept in --work; existing ones are not trained again. λ* over the training is drawn as well.
"""

import argparse
import csv
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from annotated import DATA, parts
from cellscale.methods import load_method
from cellscale.methods.protocol import Method
from cellscale.settings.fields import replaced
from cellscale.training.run import TrainingSettings, train
from cellscale.training.task import TrainingTask
from cellscale.training.validation import predicted, scored

SCORES = ("dice", "pixel_error", "cell_dice", "cell_pixel_error", "seg", "f1", "splits", "merges")
TRAININGS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "unet-ronneberger": ("unet-ronneberger", {}),
    "multicellnet": ("multicellnet", {}),
    "multicellnet-equal": ("multicellnet", {"weights": "equal"}),
    "l2s": ("l2s", {}),
    "l2s-dark": ("l2s", {"bright": False}),
}
DECODINGS = {"multicellnet": ("difference", "region")}
"""Decodings of a trained model that are calibrated and scored in addition to its own."""


def lambda_plot(history: Path, file: Path) -> None:
    """λ* over the steps: the logged terms are E1²/n and E2²/n, n = √(E1² + E2²); their shares are λ*² and 1 − λ*²."""
    terms: dict[str, dict[int, float]] = {"region": {}, "edge": {}}
    with history.open() as lines:
        for row in csv.DictReader(lines):
            if row["name"] in terms:
                terms[row["name"]][int(row["step"])] = float(row["value"])
    weights = [(r / (r + e)) ** 0.5 for r, e in zip(terms["region"].values(), terms["edge"].values(), strict=True)]
    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.subplots()
    axes.plot(list(terms["region"]), weights)
    axes.axhline(0.5**0.5, color="gray", linestyle="--", linewidth=1)
    axes.set(xlabel="step", ylabel="λ*", ylim=(0, 1), title="Weight of the region loss (dashed: 1/√2)")
    figure.savefig(file, dpi=100)


def variants(title: str, method: Method, chosen: Any) -> dict[str, Method]:
    """The trained method, and itself with other decodings, each tuned on the validation frames."""
    others = {
        f"{title}, {name}": replaced(method, {"decoding": name}).calibrate(chosen) for name in DECODINGS.get(title, ())
    }
    return {title: method, **others}


def main() -> None:
    """Train what is missing and score all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--crop", type=int, default=192)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--runs", nargs="*", default=list(TRAININGS), choices=list(TRAININGS))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path("multicellnet_table.jsonl"))
    given = parser.parse_args()
    learn, choose, test = parts(DATA["dic"].read(Path(os.environ["CELLSCALE_DATA"])), DATA["dic"].split)
    settings = TrainingSettings(
        steps=given.steps, crop=given.crop, threads=1, loader_workers=0, validate_every=10**6, device="cpu"
    )
    for title in given.runs:
        name, changes = TRAININGS[title]
        shape = {} if name == "l2s" else {"width": given.width}
        folder = given.work / title
        started = time.process_time()
        model = train(
            TrainingTask(
                method=load_method(name, **changes, **shape),
                data=[learn],
                validation=[choose],
                output=str(folder),
                settings=settings,
                resume=True,
            )
        )
        seconds = time.process_time() - started
        chosen, pairs = (
            predicted(model.method, model.networks, frames, device="cpu", precision="auto") for frames in (choose, test)
        )
        for variant, method in variants(title, model.method, chosen).items():
            found = scored(method, pairs)
            line = {"run": variant, "cpu_s": round(seconds), **{key: round(found[key], 4) for key in SCORES}}
            with given.output.open("a") as output:
                output.write(json.dumps(line) + "\n")
            print(line, flush=True)
        if name == "multicellnet":
            lambda_plot(folder / "history.csv", folder / "lambda.png")


if __name__ == "__main__":
    main()

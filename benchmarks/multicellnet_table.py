"""The table of the Multi-CellNet paper and an ablation on DIC-C2DH-HeLa 01: frames 0:64, 64:72, 72:84, one line a run.

    CELLSCALE_DATA=… python benchmarks/multicellnet_table.py --seeds 0,1,2 --work models --output table.jsonl

Models are kept in --work; existing ones are not trained again. λ* over the training is drawn as well.
"""

import argparse
import csv
import json
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from annotated import DATA, Pairs, parts, table_training
from cellscale.methods import load_method
from cellscale.methods.protocol import Method
from cellscale.settings.fields import replaced
from cellscale.training.run import train
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


def measured(
    title: str, seed: int, given: argparse.Namespace, data: tuple[Pairs, Pairs, Pairs]
) -> list[dict[str, Any]]:
    """Train a run with a seed, unless that was done before; the scores of each of its decodings."""
    learn, choose, test = data
    name, changes = TRAININGS[title]
    shape = {} if name == "l2s" else {"width": given.width}
    folder = given.work / f"{title}-{seed}"
    started = time.process_time()
    model = train(
        TrainingTask(
            method=load_method(name, **changes, **shape),
            data=[learn],
            validation=[choose],
            output=str(folder),
            settings=table_training(given.steps, seed, given.crop),
            resume=True,
        )
    )
    seconds = time.process_time() - started
    chosen, pairs = (
        predicted(model.method, model.networks, frames, device="cpu", precision="auto") for frames in (choose, test)
    )
    if name == "multicellnet":
        lambda_plot(folder / "history.csv", folder / "lambda.png")
    return [
        {"run": variant, "seed": seed, "cpu_s": round(seconds)}
        | {key: round(value, 4) for key, value in scored(method, pairs).items() if key in SCORES}
        for variant, method in variants(title, model.method, chosen).items()
    ]


def cell(values: Sequence[float]) -> str:
    """A mean, and the range of several values."""
    mean = f"{statistics.fmean(values):.3f}"
    return f"{mean} ({min(values):.3f} … {max(values):.3f})" if len(values) > 1 else mean


def table(lines: Sequence[Mapping[str, Any]]) -> None:
    """Print a row for each run: means over its seeds, and their ranges."""
    print("| run | " + " | ".join(SCORES) + " |\n" + "|---" * (len(SCORES) + 1) + "|")
    for run in dict.fromkeys(line["run"] for line in lines):
        same = [line for line in lines if line["run"] == run]
        print(f"| {run} | " + " | ".join(cell([line[key] for line in same]) for key in SCORES) + " |")


def main() -> None:
    """Train what is missing, score all and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--crop", type=int, default=192)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--runs", nargs="*", default=list(TRAININGS), choices=list(TRAININGS))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path("multicellnet_table.jsonl"))
    given = parser.parse_args()
    data = parts(DATA["dic"].read(Path(os.environ["CELLSCALE_DATA"])), DATA["dic"].split)
    lines = [json.loads(line) for line in given.output.read_text().splitlines()] if given.output.exists() else []
    for seed in map(int, given.seeds.split(",")):
        for title in given.runs:
            if any((line["run"], line["seed"]) == (title, seed) for line in lines):
                continue
            found = measured(title, seed, given, data)
            with given.output.open("a") as output:
                output.writelines(json.dumps(line) + "\n" for line in found)
            lines += found
            print(*found, sep="\n", flush=True)
    table(lines)


if __name__ == "__main__":
    main()

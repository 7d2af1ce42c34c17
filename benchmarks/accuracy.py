"""Any method on any annotated data set by one line: train, predict the test frames, score them, append a JSON line.

    CELLSCALE_DATA=… python benchmarks/accuracy.py saw dic --steps 2500 --set width=32 --seeds 0,1,2 --output all.jsonl
    python benchmarks/accuracy.py --table all.jsonl

Frames are predicted and decoded whole with the settings that validation fitted, as `cellscale segment` does for frames
of one window. Test frames are not looked at before. AP is TP / (TP + FP + FN), pooled over the frames.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from annotated import DATA, Pairs, parts
from cellscale.api.calibration import CalibrationSettings, fit_thresholds
from cellscale.methods import load_method
from cellscale.methods.inference import device_of
from cellscale.methods.presets import Preset, preset
from cellscale.methods.protocol import Method
from cellscale.models.model import Model, load_model, save_model
from cellscale.settings.fields import flat, replaced
from cellscale.settings.files import assignments, read_config
from cellscale.training.run import TrainingSettings, train
from cellscale.training.task import TrainingTask
from cellscale.training.validation import predicted, scored

AP = tuple(f"ap_{percent}" for percent in range(50, 95, 5))
"""The thresholds of the published tables, 0.5 to 0.9."""
SCORES = ("seg", "det", "f1", "precision", "recall", "mean_matched_iou", "mean_iou", "aji", *AP)
COLUMNS = {"seg": "SEG", "det": "DET", "f1": "F1", "ap_50": "AP 0.5", "ap_70": "0.7", "ap_90": "0.9", "ap_mean": "mean"}
KEY = ("data", "split", "method", "set", "start", "steps", "validation_frames")
"""Runs that differ in the seed alone are one row of the table."""


def settings_of(given: argparse.Namespace, start: Model | None) -> tuple[Method, TrainingSettings]:
    """Method and training settings as the words say; a file and single settings win over a preset."""
    method = start.method if start else load_method(given.method)
    fields = {"method": flat(method), "training": flat(TrainingSettings())}
    read = read_config(given.config, assignments(given.settings), fields)
    chosen = preset(given.method, given.preset) if given.preset else Preset()
    counted = {"steps": given.steps} if given.steps else {}
    return (
        replaced(replaced(method, chosen.method), read.section("method")),
        TrainingSettings().updated(chosen.training, read.section("training"), counted),
    )


def by_size(pairs: Pairs) -> tuple[list[Pairs], tuple[float, ...]]:
    """Images of one size as one data set each, and their weights: an image's is the root of its number of cells.

    Scores count cells, and few images of crowded tissue hold a tenth of them.
    """
    groups: dict[tuple[int, ...], Pairs] = {}
    for pair in pairs:
        groups.setdefault(pair[1].shape, []).append(pair)
    weights = (sum(len(np.unique(labels)) ** 0.5 for _, labels in group) for group in groups.values())
    return list(groups.values()), tuple(round(weight, 3) for weight in weights)


def run(given: argparse.Namespace, seed: int, kept: str) -> dict[str, Any]:
    """Train with a seed into the folder `kept` and score the test frames."""
    split = given.split or DATA[given.data].split
    learn, choose, test = parts(DATA[given.data].read(Path(os.environ["CELLSCALE_DATA"])), split)
    start = load_model(given.init_from) if given.init_from else None
    method, settings = settings_of(given, start)
    settings = replaced(settings, {"seed": seed})
    sets = [learn]
    if given.by_size:
        sets, weights = by_size(learn)
        settings = replaced(settings, {"dataset_weights": weights})
    if start and given.steps == 0:
        how = replaced(CalibrationSettings(), {name: getattr(settings, name) for name in flat(CalibrationSettings())})
        model = fit_thresholds(replace(start, method=method), [choose], how)
        save_model(model, kept)
    else:
        model = train(
            TrainingTask(
                method=method,
                data=sets,
                validation=[choose] if choose else [],
                output=kept,
                settings=settings,
                init_from=start,
                resume=True,
            )
        )
    device, began = str(device_of(settings.device)), time.monotonic()
    pairs = predicted(
        model.method, model.networks, test, device=device, precision=settings.precision, flips=settings.test_time_flips
    )
    found = scored(model.method, pairs)
    return {
        "data": given.data,
        "split": split,
        "method": given.method,
        "set": " ".join([*([f"preset={given.preset}"] if given.preset else []), *given.settings]),
        "start": given.init_from or "",
        "steps": 0 if given.steps == 0 else settings.steps,
        "batch_size": settings.batch_size,
        "crop": settings.crop,
        "width": flat(model.method).get("unet.width", flat(model.method).get("width")),
        "parameters": sum(p.numel() for network in model.networks.values() for p in network.parameters()),
        "seed": seed,
        "steps_done": model.training["steps"],
        "learn_frames": len(learn),
        "validation_frames": len(choose),
        "test_frames": len(test),
        "device": device,
        "seconds": model.training["seconds"],
        "test_seconds": round(time.monotonic() - began, 1),
        "scores": {name: round(found[name], 4) for name in SCORES}
        | {"ap_mean": round(statistics.fmean(found[name] for name in AP), 4)},
        "validation": {name: round(value, 4) for name, value in model.training["validation"].items() if name in SCORES},
    }


def row_of(runs: list[dict[str, Any]]) -> str:
    """One row of the table: means over runs that differ in the seed."""
    first, scores = runs[0], {name: [line["scores"][name] for line in runs] for name in COLUMNS}
    cells = {name: f"{statistics.fmean(values):.3f}" for name, values in scores.items()}
    if len(runs) > 1:
        cells["seg"] += f" ({min(scores['seg']):.3f} … {max(scores['seg']):.3f})"
    words = f"from {first['start']} {first['set']}" if first["start"] else first["set"]
    seeds = ", ".join(str(line["seed"]) for line in runs)
    minutes = f"{statistics.fmean(line['seconds'] for line in runs) / 60:.0f}"
    return (
        "| " + " | ".join([f"`{first['method']}`", words, str(first["steps"]), seeds, *cells.values(), minutes]) + " |"
    )


def table(path: Path) -> str:
    """A Markdown table for each data set and split of a JSONL file; with the range of SEG over several seeds."""
    found = [json.loads(line) for line in path.read_text().splitlines()]
    blocks = []
    for data, split in dict.fromkeys((line["data"], line["split"]) for line in found):
        groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        for line in found:
            if (line["data"], line["split"]) == (data, split):
                groups.setdefault(tuple(line[name] for name in KEY), []).append(line)
        head = ["method", "settings", "steps", "seeds", *COLUMNS.values(), "min"]
        lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *map(row_of, groups.values())]
        blocks.append("\n".join([f"**{data}** ({split})", "", *lines]))
    return "\n\n".join(blocks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", nargs="?")
    parser.add_argument("data", nargs="?", choices=list(DATA))
    parser.add_argument("--steps", type=int, help="0 with --init-from: only choose its thresholds again")
    parser.add_argument("--split", help="TRAIN/VALIDATION/TEST, e.g. 0:72//72:84 or 0:72/4:72:9/72:84")
    parser.add_argument("--preset", help="the method's preset: paper, default or fast; none: the bare defaults")
    parser.add_argument("--config", help="TOML file with [method] and [training]")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--init-from", help="start from this model")
    parser.add_argument("--by-size", action="store_true", help="draw images by the root of their number of cells")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--models", type=Path, help="keep the models here; a run that was stopped goes on")
    parser.add_argument("--output", type=Path, default=Path("results.jsonl"))
    parser.add_argument("--table", type=Path, help="print the results in this file as Markdown")
    given = parser.parse_args()
    if given.table:
        print(table(given.table))
        return
    if given.method is None or given.data is None:
        parser.error("name a method and a data set, or a --table")
    if given.steps == 0 and not given.init_from:
        parser.error("--steps 0 only chooses the thresholds of a model: name it with --init-from")
    for seed in map(int, given.seeds.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            words = (given.method, given.data, given.split or DATA[given.data].split, str(seed))
            name = "-".join(words).translate(str.maketrans("/:", "_."))
            line = run(given, seed, str((given.models or Path(folder)) / name))
        with given.output.open("a") as output:
            output.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()

"""Tables 1 and 2 of Torr et al. (2020) on public images: DSC and CDS before and after post-processing, several seeds.

    CELLSCALE_DATA=… python benchmarks/deepsplit_tables.py dsb --steps 600 --seeds 0,1,2 --output dsb.jsonl

All networks have the same loss of the mask, and a full share of the steps for each stage: a cumulative schedule takes
twice as many in all. The threshold of the separation is chosen on the validation images, with post-processing also the
length of a neck; the threshold of the mask is 0.5. Lines of the output are not computed again. The table has the mean
over the seeds, and the range of CDS.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from annotated import DATA, Pairs, parts, table_training
from cellscale.methods import load_method
from cellscale.methods.parts.tuning import searched
from cellscale.methods.protocol import Method
from cellscale.settings.fields import replaced
from cellscale.training.run import TrainingSettings, train
from cellscale.training.task import TrainingTask
from cellscale.training.validation import predicted, scored
from cellscale.types import Labels

SCORES = ("dsc", "cds", "f1", "seg", "splits", "merges")
BEFORE: dict[str, Any] = {"fill_holes_px": 0, "min_object_px": 0, "split_neck_px": 0}
AFTER = {"fill_holes_px": 16, "min_object_px": 9, "split_neck_px": 8}
UNET: dict[str, Any] = {"rule": "equalise", "squares": True, "scale": "background"}
"""The loss of the others' first stage."""
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "U-Net": ("unet-ronneberger", UNET),
    "cumulative DeepSplit": ("deepsplit", {}),
    "cumulative Branch-Net": ("branchnet", {}),
    "cumulative Double-U-Net": ("double-unet", {}),
    "simultaneous DeepSplit": ("deepsplit", {"schedule": "simultaneous"}),
    "simultaneous Branch-Net": ("branchnet", {"schedule": "simultaneous"}),
    "simultaneous Double-U-Net": ("double-unet", {"schedule": "simultaneous"}),
}
NECKS, SEPARATIONS = (4, 8, 12, 16, 24), (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)


def tuned(method: Method, pairs: Sequence[tuple[Any, Labels]], *, processed: bool) -> Any:
    """With thresholds chosen on these frames, and with post-processing or without it."""
    separating = method.name != "unet-ronneberger"
    grid: dict[str, Sequence[Any]] = {"separation": SEPARATIONS} if separating else {}
    if processed:
        method = replaced(method, {**AFTER, **({"band_radius": 6} if separating else {"fill_radius": 2})})
        grid["postprocessing.split_neck_px"] = NECKS
    return searched(method, pairs, grid) if grid else method


def measured(title: str, data: tuple[Pairs, Pairs, Pairs], settings: TrainingSettings, shape: dict[str, Any]) -> Any:
    """Train a run's network; return its scores, thresholds and processor time."""
    name, changes = RUNS[title]
    learn, choose, test = data
    bare = {"fill_radius": 0} if name == "unet-ronneberger" else {"band_radius": 0}
    method: Any = load_method(name, **changes, **BEFORE, **bare, **shape)
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        model = train(TrainingTask(method=method, data=[learn], output=f"{folder}/model", settings=settings))
    line: dict[str, Any] = {"steps": settings.steps, "cpu_s": round(time.process_time() - started)}
    chosen, pairs = (
        predicted(model.method, model.networks, frames, device="cpu", precision="auto") for frames in (choose, test)
    )
    for words, processed in (("before", False), ("after", True)):
        fitted = tuned(model.method, chosen, processed=processed)
        found = scored(fitted, pairs)
        line[words] = {score: round(found[score], 4) for score in SCORES}
        line[words] |= {"separation": getattr(fitted, "separation", None), "neck": fitted.postprocessing.split_neck_px}
    return line


def table(lines: Sequence[dict[str, Any]]) -> None:
    """Print a row for each run: means over its seeds."""
    words = ("before", "after")
    print(
        "| | seeds | "
        + " | ".join(f"{score} {when}" for when in words for score in ("DSC", "CDS", "F1", "merges"))
        + " |"
    )
    print("|" + "---|" * 10)
    for title in RUNS:
        rows = [line for line in lines if line["run"] == title]
        cells = []
        for when in words if rows else ():
            means = {score: statistics.fmean(row[when][score] for row in rows) for score in SCORES}
            cds = sorted(row[when]["cds"] for row in rows)
            spread = f"{means['cds']:.3f} ({cds[0]:.3f} … {cds[-1]:.3f})"
            cells += [f"{means['dsc']:.3f}", spread, f"{means['f1']:.3f}", f"{means['merges']:.0f}"]
        if rows:
            print(f"| {title} | {len(rows)} | {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=["dsb", "dic", "dic-half"])
    parser.add_argument("--steps", type=int, default=600, help="of each stage")
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--depth", type=int, default=3)
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--runs", nargs="*", default=list(RUNS), choices=list(RUNS))
    parser.add_argument("--output", type=Path, default=Path("deepsplit_tables.jsonl"))
    given = parser.parse_args()
    chosen = DATA[{"dsb": "dsb-dense"}.get(given.data, given.data)]
    data = parts(chosen.read(Path(os.environ["CELLSCALE_DATA"])), chosen.split)
    lines = [json.loads(line) for line in given.output.read_text().splitlines()] if given.output.exists() else []
    shape: dict[str, Any] = {"width": given.width, "depth": given.depth, "dropout": 0.2}
    for seed in map(int, given.seeds.split(",")):
        for title in given.runs:
            known = {"data": given.data, "run": title, "seed": seed}
            if any(known.items() <= line.items() for line in lines):
                continue
            settings = table_training(given.steps * (2 if title.startswith("cumulative") else 1), seed, given.crop)
            lines.append(known | measured(title, data, settings, shape))
            with given.output.open("a") as output:
                output.write(json.dumps(lines[-1]) + "\n")
            print(lines[-1], flush=True)
    table(lines)


if __name__ == "__main__":
    main()

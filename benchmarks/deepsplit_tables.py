"""Tables 1 and 2 of Torr et al. (2020) on public images: DSC and CDS before and after post-processing, one line a run.

Run `CELLSCALE_DATA=… python benchmarks/deepsplit_tables.py dsb --steps 600`. The length of a neck is chosen on the
validation images, all other thresholds are 0.5.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from annotated import DATA, parts
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


def processed(method: Method, pairs: Sequence[tuple[Any, Labels]]) -> Any:
    """With post-processing; the length of a neck is chosen on these frames."""
    radius = {"fill_radius": 2} if method.name == "unet-ronneberger" else {"band_radius": 6}
    cleaned = replaced(method, {**AFTER, **radius})
    return searched(cleaned, pairs, {"postprocessing.split_neck_px": (4, 8, 12, 16, 24)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", choices=["dsb", "dic", "dic-half"])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--depth", type=int, default=3)
    parser.add_argument("--runs", nargs="*", default=list(RUNS), choices=list(RUNS))
    parser.add_argument("--output", type=Path, default=Path("deepsplit_tables.jsonl"))
    given = parser.parse_args()
    data = DATA[{"dsb": "dsb-dense"}.get(given.data, given.data)]
    learn, choose, test = parts(data.read(Path(os.environ["CELLSCALE_DATA"])), data.split)
    settings = TrainingSettings(
        steps=given.steps, crop=given.crop, threads=1, loader_workers=0, validate_every=10**6, device="cpu"
    )
    for title in given.runs:
        name, changes = RUNS[title]
        bare = {"fill_radius": 0} if name == "unet-ronneberger" else {"band_radius": 0}
        shape: dict[str, Any] = {"width": given.width, "depth": given.depth, "dropout": 0.2}
        method: Any = load_method(name, **changes, **BEFORE, **bare, **shape)
        started = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            model = train(TrainingTask(method=method, data=[learn], output=f"{folder}/model", settings=settings))
        seconds = time.process_time() - started
        chosen, pairs = (
            predicted(model.method, model.networks, frames, device="cpu", precision="auto") for frames in (choose, test)
        )
        after = processed(model.method, chosen)
        rows = {"before": scored(model.method, pairs), "after": scored(after, pairs)}
        kept = {
            k: {n: round(s[n], 4) for n in ("dsc", "cds", "f1", "seg", "splits", "merges")} for k, s in rows.items()
        }
        line = {
            "data": given.data,
            "run": title,
            "split_neck_px": after.postprocessing.split_neck_px,
            "cpu_s": round(seconds),
            **kept,
        }
        with given.output.open("a") as output:
            output.write(json.dumps(line) + "\n")
        print(line, flush=True)


if __name__ == "__main__":
    main()

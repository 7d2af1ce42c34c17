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

import numpy as np
import tifffile
from scipy import ndimage

from cellscale.arrays import Labels
from cellscale.methods import load_method
from cellscale.methods.protocol import Method
from cellscale.methods.search import searched
from cellscale.methods.settings import replaced
from cellscale.training.run import TrainingSettings, train
from cellscale.training.validation import predicted, scored

SCORES = ("dsc", "cds", "f1", "seg", "splits", "merges")
Pairs = list[tuple[np.ndarray, Labels]]
BEFORE = {"holes": 0, "specks": 0, "neck": 0}
AFTER = {"holes": 16, "specks": 8, "neck": 8}
UNET = {"rule": "equalise", "squares": True}
RUNS = {
    "U-Net": ("unet-ronneberger", UNET),
    "cumulative DeepSplit": ("deepsplit", {}),
    "cumulative Branch-Net": ("branchnet", {}),
    "cumulative Double-U-Net": ("double-unet", {}),
    "simultaneous DeepSplit": ("deepsplit", {"schedule": "simultaneous"}),
    "simultaneous Branch-Net": ("branchnet", {"schedule": "simultaneous"}),
    "simultaneous Double-U-Net": ("double-unet", {"schedule": "simultaneous"}),
}


def dense(labels: Labels) -> bool:
    """At least 20 cells, of which a fifth lie within 2 px of another."""
    ids = np.unique(labels[labels > 0])
    beyond = np.where(labels > 0, labels, np.iinfo(labels.dtype).max)
    near = (ndimage.maximum_filter(labels, 5) != labels) | (ndimage.minimum_filter(beyond, 5) != labels)
    return len(ids) >= 20 and len(np.unique(labels[near & (labels > 0)])) >= 0.2 * len(ids)


def dsb(folder: Path) -> tuple[Pairs, Pairs, Pairs]:
    """Dense images of all sizes in the order of their files, permuted by seed 0, 80 / 10 / 10."""
    found: Pairs = []
    for path in sorted((folder / "DSB2018-fluo").glob("*.npz")):
        stack = np.load(path)
        masks = stack["masks"].astype(np.uint32)
        found += [(image[None], mask) for image, mask in zip(stack["images"], masks, strict=True) if dense(mask)]
    order = np.random.default_rng(0).permutation(len(found))
    ends = [round(share * len(found)) for share in (0.8, 0.9)]
    learn, choose, test = ([found[i] for i in part] for part in np.split(order, ends))
    return learn, choose, test


def dic(folder: Path) -> tuple[Pairs, Pairs, Pairs]:
    """Frames 0:64, 64:72 and 72:84 of sequence 01 with silver truth."""
    images, labels = (tifffile.imread(folder / "DIC-C2DH-HeLa" / f"01_{name}.tif") for name in ("raw", "st_seg"))
    found = [(image[None], mask.astype(np.uint32)) for image, mask in zip(images, labels, strict=True)]
    return found[:64], found[64:72], found[72:84]


def processed(method: Method, pairs: Sequence[tuple[dict[str, np.ndarray], Labels]]) -> Method:
    """With post-processing; the length of a neck is chosen on these frames."""
    radius = {"fill_radius": 2} if method.name == "unet-ronneberger" else {"band_radius": 6}
    cleaned = replaced(method, {**AFTER, **radius})
    return searched(cleaned, pairs, {"cleaning.neck": (4, 8, 12, 16, 24)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", choices=["dsb", "dic"])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--depth", type=int, default=3)
    parser.add_argument("--runs", nargs="*", default=list(RUNS), choices=list(RUNS))
    parser.add_argument("--output", type=Path, default=Path("deepsplit_tables.jsonl"))
    given = parser.parse_args()
    learn, choose, test = {"dsb": dsb, "dic": dic}[given.data](Path(os.environ["CELLSCALE_DATA"]))
    settings = TrainingSettings(
        steps=given.steps, crop=given.crop, threads=1, loader_workers=0, validate_every=10**6, device="cpu"
    )
    for title in given.runs:
        name, changes = RUNS[title]
        bare = {"fill_radius": 0} if name == "unet-ronneberger" else {"band_radius": 0}
        shape = {"width": given.width, "depth": given.depth, "dropout": 0.2}
        method = load_method(name, **changes, **BEFORE, **bare, **shape)
        started = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            model = train(method, [learn], output=f"{folder}/model", settings=settings)
        seconds = time.process_time() - started
        chosen, pairs = (
            predicted(model.method, model.networks, frames, device="cpu", precision="auto") for frames in (choose, test)
        )
        after = processed(model.method, chosen)
        rows = {"before": scored(model.method, pairs), "after": scored(after, pairs)}
        kept = {
            k: {n: round(s[n], 4) for n in ("dsc", "cds", "f1", "seg", "splits", "merges")} for k, s in rows.items()
        }
        line = {"data": given.data, "run": title, "neck": after.cleaning.neck, "cpu_s": round(seconds), **kept}
        with given.output.open("a") as output:
            output.write(json.dumps(line) + "\n")
        print(line, flush=True)


if __name__ == "__main__":
    main()

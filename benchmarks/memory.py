"""Peak memory of a segmentation against the side of the frame: flat, because no step holds a frame.

    python benchmarks/memory.py --work /tmp/bench --sizes 2048,4096,8192 --plot docs/images/memory.png
    python benchmarks/memory.py --work /tmp/bench --sizes 32768 --steps train evaluate

Driver and worker are one process, started anew for each size, with the environment that workers have; a small U-Net
makes the largest frames affordable.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import cellscale
from cellscale.models.model import load_model
from cellscale.ngff.image import open_image
from cellscale.ngff.labels import open_labels, publish_labels, stage_labels
from cellscale.ngff.pyramids import downsample
from cellscale.ngff.writer import create_image
from cellscale.types import Box
from peak import peak_mb

SMALL = {"width": 4, "depth": 2, "crop": 128, "validate_every": 1000, "threads": 1, "learning_rate": 0.01}
BLOCK = 2048


def make_images(work: Path) -> None:
    """Synthesize a block of cells and train a small U-Net on a part of it, unless it was done before."""
    if not (work / "small" / "model.json").exists():
        cellscale.synthesize(str(work / "block.zarr"), shape=(1, BLOCK, BLOCK), cells=1900, seed=3, overwrite=True)
        cellscale.synthesize(str(work / "learn.zarr"), shape=(4, 512, 512), cells=110, seed=1, overwrite=True)
        cellscale.train(
            "saw", [str(work / "learn.zarr")], output=str(work / "small"), steps=200, backend="serial",
            settings=SMALL, validation_frames=(3, 4), overwrite=True,
        )  # fmt: skip


def write_truth(work: Path, size: int) -> None:
    """Repeat the labels of the block, each cell with a number of its own, as the layer `truth` of the frame."""
    labels = open_labels(str(work / "block.zarr"), "truth").read(Box(0, 0, BLOCK, BLOCK))
    layer = stage_labels(open_image(str(work / "frame.zarr")), "truth", planes_z=1, metadata={"frames": [0]})
    for number, box in enumerate(layer.shards()):
        part = labels[: box.shape[0], : box.shape[1]]
        layer.write(np.where(part > 0, part + np.uint32(number * (labels.max() + 1)), 0).astype(np.uint32), box)
    for level in range(1, len(layer.levels)):
        for box in layer.shards(level):
            downsample(layer, level, box, t=0, z=0)
    publish_labels(layer)


def write_frame(work: Path, size: int) -> str:
    """Repeat the block until the frame is full."""
    block = open_image(str(work / "block.zarr")).read(Box(0, 0, BLOCK, BLOCK), t=0)[0]
    url = str(work / "frame.zarr")
    shutil.rmtree(url, ignore_errors=True)
    writer = create_image(url, shape_tczyx=(1, 1, 1, size, size), dtype=block.dtype, axes=("t", "y", "x"))
    for y in range(0, size, BLOCK):
        for x in range(0, size, BLOCK):
            box = Box(y, x, y + BLOCK, x + BLOCK).clip(Box(0, 0, size, size))
            writer.write(np.ascontiguousarray(block[: box.shape[0], : box.shape[1]]), box=box)
    writer.finish()
    return url


def measure(work: Path, size: int, step: str) -> None:
    """Segment one frame, train on it or score it; print peak memory and time."""
    frame, found, began = str(work / "frame.zarr"), {}, time.perf_counter()
    if step == "segment":
        output = str(work / "labels.zarr")
        shutil.rmtree(output, ignore_errors=True)
        model = load_model(str(work / "small"))
        found["cells"] = cellscale.segment(frame, model=model, output=output, backend="serial").cells
    elif step == "train":
        output = str(work / "large")
        settings = {**SMALL, "loader_workers": 0}
        cellscale.train("saw", [frame], output=output, steps=20, backend="serial", settings=settings, overwrite=True)
    else:
        found["cells"] = cellscale.evaluate(frame, layer="truth").truth_cells
    print(json.dumps({"step": step, "size": size, "peak_mb": peak_mb(), "s": time.perf_counter() - began, **found}))


def plotted(found: list[dict[str, float]], file: str) -> None:
    """Draw peak memory against the side of the frame."""
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    sizes = [row["size"] for row in found]
    axes.plot(sizes, [row["peak_mb"] for row in found], marker="o", label="peak memory of the process")
    axes.plot(sizes, [size**2 * 5 / 2**20 for size in sizes], "--", label="frame and its labels (uint8 + uint32)")
    axes.set(xscale="log", yscale="log", xlabel="side of the frame, px", ylabel="MB")
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(file, dpi=120)


def main() -> None:
    """Measure every size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--sizes", default="2048,4096,8192")
    parser.add_argument("--plot", help="write a picture here")
    parser.add_argument("--steps", nargs="+", default=["segment"], choices=["segment", "train", "evaluate"])
    parser.add_argument("--only", type=int, help="one size, used by the processes that this one starts")
    args = parser.parse_args()
    if args.only:
        measure(args.work, args.only, args.steps[0])
        return
    args.work.mkdir(parents=True, exist_ok=True)
    make_images(args.work)
    found = []
    for size in map(int, args.sizes.split(",")):
        write_frame(args.work, size)
        if args.steps != ["segment"]:
            write_truth(args.work, size)
        for step in args.steps:
            command = [sys.executable, __file__, "--work", str(args.work), "--only", str(size), "--steps", step]
            environment = os.environ | {"MALLOC_ARENA_MAX": "2"}
            done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
            found.append(json.loads(done.stdout.splitlines()[-1]))
            print(json.dumps(found[-1]), flush=True)
    if args.plot:
        plotted(found, args.plot)


if __name__ == "__main__":
    main()

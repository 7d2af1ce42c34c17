"""Peak memory of a segmentation against the side of the frame: flat, because no step holds a frame.

    python benchmarks/memory.py --work /tmp/bench --sizes 2048,4096,8192 --plot docs/images/memory.png

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


def measure(work: Path, size: int) -> None:
    """Segment one frame and print peak memory and time."""
    model = load_model(str(work / "small"))
    output = str(work / "labels.zarr")
    shutil.rmtree(output, ignore_errors=True)
    began = time.perf_counter()
    result = cellscale.segment(str(work / "frame.zarr"), model=model, output=output, backend="serial")
    print(json.dumps({"size": size, "peak_mb": peak_mb(), "s": time.perf_counter() - began, "cells": result.cells}))


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
    parser.add_argument("--only", type=int, help="one size, used by the processes that this one starts")
    args = parser.parse_args()
    if args.only:
        measure(args.work, args.only)
        return
    args.work.mkdir(parents=True, exist_ok=True)
    make_images(args.work)
    found = []
    for size in map(int, args.sizes.split(",")):
        write_frame(args.work, size)
        command = [sys.executable, __file__, "--work", str(args.work), "--only", str(size)]
        environment = os.environ | {"MALLOC_ARENA_MAX": "2"}
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        found.append(json.loads(done.stdout.splitlines()[-1]))
        print(json.dumps(found[-1]), flush=True)
    if args.plot:
        plotted(found, args.plot)


if __name__ == "__main__":
    main()

"""A segmentation compared with its lower bound and with dask, each in its own process: seconds and peak memory.

    python benchmarks/segmentation.py --work /tmp/bench --size 4096 --frames 200 --frame-size 512

bound       the bare forward pass of the network over the same pixels, in windows without overlap; no tiles, no files
cellscale   `cellscale.segment` in this process: windows, tiles, join, label layer with pyramid, object table
dask        `dask.array.map_overlap` with the same network, `dask_image.ndmeasure.label`, `ome_zarr` writing

All three have one thread of arithmetic and one worker. (W/K)² is how many more pixels overlapping windows have.
On a machine that does other things, too, compare processor times.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import torch
import zarr
from dask.delayed import delayed
from dask_image.ndmeasure import label
from ome_zarr.writer import write_labels

import cellscale
from cellscale.methods.inference import windows_to_maps
from cellscale.methods.protocol import Method, Networks
from cellscale.models.model import Model, load_model
from cellscale.ngff.image import open_image
from cellscale.segmentation import predict
from cellscale.tiling.windows import windows_of
from cellscale.training.crops import mapped
from cellscale.types import Box, Candidates, Prediction
from peak import peak_mb

TRAINING = {"width": 16, "crop": 128, "validate_every": 1000, "threads": 1}
HALO = 96
BLOCK = 2048
"""Side of the blocks of dask and of the windows' cores, px."""


def make_images(work: Path, size: int, frames: int, frame_size: int) -> list[str]:
    """Write the two images and train a network for a minute, unless it was done before."""
    stores = {
        f"image{size}": ((1, size, size), size**2 // 2200),
        f"movie{frames}x{frame_size}": ((frames, frame_size, frame_size), frame_size**2 // 2200),
    }
    for name, (shape, cells) in stores.items():
        if not (work / f"{name}.zarr").exists():
            cellscale.synthesize(str(work / f"{name}.zarr"), shape=shape, cells=cells, seed=3)
    if not (work / "model" / "model.json").exists():
        cellscale.synthesize(str(work / "learn.zarr"), shape=(4, 512, 512), cells=110, seed=1, overwrite=True)
        cellscale.train(
            "saw", [str(work / "learn.zarr")], output=str(work / "model"), steps=150, backend="serial",
            settings=TRAINING, validation_frames=(3, 4), overwrite=True,
        )  # fmt: skip
    return list(stores)


def probabilities(model: Model, image: np.ndarray) -> np.ndarray:
    """Maps of a block (y, x) after the intensity rule, (2, y, x)."""
    (maps,) = windows_to_maps(model.method, model.networks, image[None, None].astype(np.float32))
    assert not isinstance(maps, Candidates)
    assert not isinstance(maps, Candidates)
    return np.stack([maps["cell"], maps["touching"]])


def lower_bound(store: str, model: Model, output: str) -> dict[str, Any]:
    """Forward passes over as many pixels as the image has."""
    image = open_image(store)
    height, width = image.size("y"), image.size("x")
    windows = windows_of(model.method, (height, width), BLOCK)
    side = min(BLOCK, -(-height // 16) * 16)
    block = np.random.default_rng(0).random((side, side), np.float32)
    for _ in range(max(1, round(image.size("t") * height * width / side**2))):
        probabilities(model, block)
    shape = windows.window_shape
    overlap = len(windows) * shape[0] * shape[1] / (height * width)
    return {"overlap": overlap, "windows": len(windows) * image.size("t")}


def ours(store: str, model: Model, output: str) -> dict[str, Any]:
    """Segment into another store, and count the windows that the network sees."""
    seen = 0

    def counting(method: Method, networks: Networks, windows: np.ndarray, **words: Any) -> Sequence[Prediction]:
        nonlocal seen
        seen += len(windows)
        return windows_to_maps(method, networks, windows, **words)

    vars(predict)["windows_to_maps"] = counting
    result = cellscale.segment(store, model=model, output=output, backend="serial")
    return {"cells": result.cells, "windows": seen, "seconds": result.report.seconds}


def dasked(store: str, model: Model, output: str) -> dict[str, Any]:
    """Overlapping blocks, global components, labels through ome-zarr.

    The masks and then the labels are written once before they are used further: dask would predict each block about
    nine times for `label`, and all again for each level of the pyramid.
    """
    image = open_image(store)
    box = Box(0, 0, image.size("y"), image.size("x"))
    method: Any = model.method
    limits = method.thresholds

    def foreground(block: np.ndarray) -> np.ndarray:
        maps = probabilities(model, np.pad(block, [(0, -n % 16) for n in block.shape], mode="reflect"))
        cells = (maps[0] > 255 * limits.gamma2) & (maps[1] <= 255 * limits.gamma1)
        return np.asarray(cells[: block.shape[0], : block.shape[1]])

    def masks(t: int) -> da.Array:
        read = delayed(lambda: mapped(image.read(box, t=t), model.method.intensity)[0])()
        frame = da.from_delayed(read, box.shape, np.float32).rechunk(BLOCK)
        found: da.Array = frame.map_overlap(foreground, depth=HALO, boundary="reflect", dtype=bool)
        return found
        return found

    group = zarr.open_group(output, mode="w")
    with dask.config.set(scheduler="synchronous"):
        da.stack([masks(t) for t in range(image.size("t"))]).to_zarr(f"{output}/masks")
        found = [label(mask)[0].astype(np.uint32) for mask in da.from_zarr(f"{output}/masks")]
        da.stack(found)[:, None, None].to_zarr(f"{output}/cells")
        labels = da.from_zarr(f"{output}/cells")
        write_labels(labels, group, name="cells", axes="tczyx")
        return {"cells": int(sum(frame.max().compute() for frame in labels))}


WAYS = {"bound": lower_bound, "cellscale": ours, "dask": dasked}


def measure(way: str, store: str, model: str, output: str) -> None:
    """Do one way and print what it took; modules and network are warm."""
    torch.set_num_threads(1)
    import_module("cellscale.api.segmentation")
    loaded = load_model(model)
    probabilities(loaded, np.zeros((256, 256), np.float32))
    shutil.rmtree(output, ignore_errors=True)
    start = peak_mb()
    began, cpu = time.perf_counter(), time.process_time()
    found = WAYS[way](store, loaded, output)
    times = {"s": time.perf_counter() - began, "cpu_s": time.process_time() - cpu}
    print(json.dumps({"way": way, **times, "peak_mb": peak_mb(), "before_mb": start, **found}))


def main() -> None:
    """Compare all ways on both images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--frames", type=int, default=50)
    parser.add_argument("--frame-size", type=int, default=512)
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--only", help="name of a way, used by the processes that this one starts")
    parser.add_argument("--store")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    if args.only:
        measure(args.only, args.store, str(args.work / "model"), str(args.work / f"{args.only}.zarr"))
        return
    for name in make_images(args.work, args.size, args.frames, args.frame_size):
        results = {}
        for way in args.ways.split(","):
            command = [sys.executable, __file__, "--work", str(args.work), "--only", way]
            command += ["--store", str(args.work / f"{name}.zarr")]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            results[way] = json.loads(done.stdout.splitlines()[-1])
            print(name, json.dumps(results[way]), flush=True)
        base = results["bound"]
        for way, found in results.items():
            wall, cpu = (found[key] / base[key] for key in ("s", "cpu_s"))
            wanted = base["overlap"]
            print(
                f"{name}: {way:9} {wall:5.2f} × the bound, {wall / wanted:5.2f} × with the overlap of {wanted:.2f}; "
                f"in processor time {cpu:5.2f} ×, {cpu / wanted:5.2f} ×; peak {found['peak_mb']:.0f} MB"
            )


if __name__ == "__main__":
    main()

"""First calls of all kernels that a segmentation needs, in fresh processes, on a node where another has compiled them.

Each child segments a plane in itself, with the model `nuclei` or an untrained `saw`, and adds up the time in which
Numba makes kernels callable: finding and loading their files, or compiling; its own start is in the first of them.
After one that compiles come some one by one, then many at once. All must find the same labels.
Run `python benchmarks/first_calls.py`.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from scipy import ndimage

from cellscale.ngff.writer import create_image

CHILD = """
import hashlib, sys, time
import torch
from numba.core.dispatcher import Dispatcher

loading, loaded, depth = [0.0, 0.0], [], [0]
compile_one = Dispatcher.compile

def timed(self, signature):
    begin, processor = time.perf_counter(), time.process_time()
    depth[0] += 1
    made = compile_one(self, signature)
    depth[0] -= 1
    if not depth[0]:
        loading[0] += time.perf_counter() - begin
        loading[1] += time.process_time() - processor
        loaded.append(self.py_func.__qualname__)
    return made

Dispatcher.compile = timed
import cellscale
from cellscale.types import Box
from cellscale.models.model import Model
from cellscale.methods import load_method
from cellscale.ngff.labels import open_labels

image, name, output = sys.argv[1:]
torch.set_num_threads(1)
torch.manual_seed(0)
model = name
if name == "saw":
    method = load_method("saw", width=4, depth=1)
    model = Model(method=method, networks={key: net.eval() for key, net in method.networks().items()})
cellscale.segment(image, model=model, layer=name, output=output, tile_size=128, backend="serial")
labels = open_labels(output, name).read(Box(0, 0, 256, 256), t=0)
print(hashlib.sha256(labels.tobytes()).hexdigest(), len(loaded), *loading)
"""


def child(image: str, name: str, folder: Path) -> subprocess.Popen[str]:
    output = tempfile.mkdtemp(dir=folder) + "/labels.zarr"
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, image, name, output],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **threads, "NUMBA_CACHE_DIR": str(folder / "compiled")},
    )


def said(process: subprocess.Popen[str]) -> tuple[str, int, float, float]:
    text, _ = process.communicate()
    if process.returncode:
        raise SystemExit(process.returncode)
    digest, kernels, wall, processor = text.split()[-4:]
    return digest, int(kernels), float(wall), float(processor)


def line(name: str, kind: str, found: list[tuple[str, int, float, float]]) -> str:
    walls, processors = [each[2] for each in found], [each[3] for each in found]
    return (
        f"| {name} | {kind} | {len(found)} | {found[0][1]} | {median(walls):.2f} ({min(walls):.2f} … {max(walls):.2f}) "
        f"| {median(processors):.2f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--at-once", type=int, default=16, help="so many processes start together")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        image = f"{folder}/plane.zarr"
        noise = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal((256, 256)), 4)
        pixels = np.clip(1000 + 10_000 * noise, 0, 4000).astype(np.uint16)
        with create_image(image, shape_tczyx=(1, 1, 1, 256, 256), dtype=pixels.dtype, axes="tczyx") as writer:
            writer.write(pixels, t=0, c=0, z=0)
        print("| model | processes | number | kernels | s, wall clock | s of a processor |\n|---|---|---|---|---|---|")
        for name in ("nuclei", "saw"):
            first = [said(child(image, name, Path(folder)))]
            alone = [said(child(image, name, Path(folder))) for _ in range(3)]
            began = time.perf_counter()
            together = [said(each) for each in [child(image, name, Path(folder)) for _ in range(arguments.at_once)]]
            took = time.perf_counter() - began
            if len({digest for digest, *_ in first + alone + together}) != 1:
                raise SystemExit(f"{name}: the processes found different labels")
            for kind, found in (("the first", first), ("one by one", alone), (f"at once, {took:.0f} s", together)):
                print(line(name, kind, found), flush=True)


if __name__ == "__main__":
    main()

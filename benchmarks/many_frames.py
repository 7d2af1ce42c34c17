"""Time, memory and equality of tracks over many frames of synthetic cells; `tracking.py scale` calls it.

Each run is a process of its own. One that is killed gets signal 9 in the midst of its steps, more than once, and the
same command then resumes it.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import cellscale
from cellscale.ngff.image import open_image
from cellscale.ngff.labels import open_labels, publish_labels, stage_labels
from cellscale.ngff.writer import create_image
from cellscale.types import Labels
from peak import peak_mb

PITCH, CELL, STEP = 14, 8, 6
"""Sides of a cell's field and of a cell, and the number of its places along each axis, px."""
MISSING = 0.005
"""Part of the objects that are missing."""
KILLS = ("links", "publish-0")
"""Steps in which a driver is killed: as soon as their first record is there."""


def frame_of(t: int, cells: int) -> Labels:
    """Square cells, each somewhere in its field of a grid; a few are missing, and numbers are random."""
    rng = np.random.default_rng((7, t))
    side = int(np.ceil(np.sqrt(cells)))
    labels = np.zeros((side * PITCH, side * PITCH), np.uint32)
    numbers, missing = rng.permutation(cells) + 1, rng.random(cells) < MISSING
    places = rng.integers(0, STEP, (cells, 2)) + PITCH * np.stack(np.divmod(np.arange(cells), side), axis=1)
    for (y, x), number in zip(places[~missing].tolist(), numbers[~missing].tolist(), strict=True):
        labels[y : y + CELL, x : x + CELL] = number
    return labels


def stored(url: Path, frames: int, cells: int) -> None:
    """Write an image of zeros with the cells as its layer."""
    if url.exists():
        return
    shape = frame_of(0, cells).shape
    create_image(str(url), shape_tczyx=(frames, 1, 1, *shape), dtype=np.dtype("u1"), axes=tuple("tyx")).finish()
    layer = stage_labels(open_image(str(url)), "cells", planes_z=1)
    for t in range(frames):
        labels = frame_of(t, cells)
        for box in layer.shards():
            layer.write(labels[box.slices], box, t=t)
    publish_labels(layer)


def run(url: str, name: str, window: int, workers: int) -> dict[str, Any]:
    """Track in this process, or on a Ray of this number of workers; the result, with time and peak memory."""
    if workers > 1:
        import ray

        ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False)
    began = time.perf_counter()
    backend: Any = "ray" if workers > 1 else "serial"
    result = cellscale.track(url, new_layer=name, window=window, backend=backend)
    return {"seconds": time.perf_counter() - began, "peak_mb": peak_mb(), **result.to_dict()}


def checksum(url: str, name: str) -> str:
    """Checksum of the rows and of the stored pixels of a layer, in the order of their names."""
    layer, digest = open_labels(url, name), hashlib.sha256()
    for place in (layer.place("objects.parquet"), f"{layer.url}/{layer.levels[0].path}/c"):
        for file in sorted(path for path in Path(place).rglob("*") if path.is_file()):
            digest.update(f"{file.relative_to(place)}".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _killed_once(command: list[str], home: Path, step: str) -> None:
    """Start a driver and kill it when a record of a step is there."""
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while not any(home.glob(f"*/{step}/*")):
        if driver.poll() is not None:
            raise SystemExit(f"{' '.join(command)} ended with {driver.returncode} before its step {step}.")
        time.sleep(0.2)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()


def measured(url: Path, window: int, workers: int, *, kills: tuple[str, ...] = ()) -> str:
    """Track in a process of its own, after as many kills as asked for; print a row, return the checksum."""
    name = f"tracks-{window}-{workers}"
    program = str(Path(__file__).with_name("tracking.py"))
    command = [sys.executable, program, "run", str(url), name, str(window), str(workers)]
    for step in kills:
        _killed_once(command, url / f".cellscale-{name}", step)
    told = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])
    found, reused = checksum(str(url), name), sum(told["reused"].values())
    values = (told["frames"], window, workers, len(kills), reused, f"{told['seconds']:.0f}", f"{told['peak_mb']:.0f}")
    print("|", *" | ".join(map(str, (*values, told["tracks"], told["gaps"], told["divisions"], found))).split(), "|")
    sys.stdout.flush()
    return found


def scale(frames: int, cells: int, folder: Path) -> None:
    """Print a row for a quarter, a half and all of the frames, then for other windows, workers and kills."""
    print("| frames | window | workers | kills | tasks reused | s | peak MB | tracks | gaps | divisions | checksum |")
    print("|" + "---|" * 11, flush=True)
    for part in (frames // 4, frames // 2, frames):
        place = folder / f"{part}-{cells}.zarr"
        stored(place, part, cells)
        calm = measured(place, 50, 1)
    runs = {
        "window 200, two workers, two kills": measured(place, 200, 2, kills=KILLS),
        "one window": measured(place, frames, 1),
    }
    wrong = [name for name, found in runs.items() if found != calm]
    if wrong:
        raise SystemExit(f"Other tracks: {', '.join(wrong)}.")

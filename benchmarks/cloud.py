"""A segmentation against a bucket with added latency: requests by kind, waits, bytes, and seconds at several delays.

    python -m benchmarks.cloud --delays 0 30 100 --work /tmp/cloud --json cloud.json

Runs from the root of the repository. An S3 server on loopback stands behind a proxy that counts every request and waits
before it carries one out. `cellscale.segment` works in this process, with the included model `nuclei`. The first run of
each image warms the process up and is not counted. Waits are the length of the longest
chain of sequential requests. Unlike seconds they depend little on what else
the machine does. With `--dask`, the same network is mapped over the same pixels by
`dask.array.map_overlap`, on two threads of dask, and labels of connected components are stored, without a pyramid.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import dask
import dask.array as da
import numpy as np
import s3fs
from dask_image.ndmeasure import label

import cellscale
from cellscale.methods.inference import windows_to_maps
from cellscale.models.model import load_model
from cellscale.types import Candidates
from tests.endpoints import s3_server
from tests.faults.proxy import Proxy, Request, Storm, stormy

MODEL = "nuclei"
HALO = 96
"""Overlap of dask's blocks, px."""
DOCUMENT = re.compile(r"/(zarr\.json|\.zarray|\.zattrs|\.zgroup|\.zmetadata)$")
CHUNK = re.compile(r"/\d+(/c)?(/\d+)+$")


Way: TypeAlias = Callable[["Case", Proxy, dict[str, Any], str], dict[str, Any]]
"""Segments the image of a case through a proxy into a new layer or store of a name, and counts."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """An image and the settings that it is segmented with."""

    shape: tuple[int, int, int]
    """Frames, height, width."""
    settings: dict[str, Any]

    @property
    def name(self) -> str:
        """Name of the image in the bucket."""
        frames, height, _ = self.shape
        return f"{frames}x{height}"


CASES = (
    Case(shape=(2, 2048, 2048), settings={"window_size": 512, "test_time_flips": False}),
    Case(shape=(1, 4096, 4096), settings={"test_time_flips": False}),
)
"""Predicted once, as by the bare network that is measured for comparison."""


def part_of(request: Request) -> str:
    """Kind of the object that a request is for."""
    path = request.path.partition("?")[0]
    if "/.cellscale-" in path or ".cellscale-" in request.path:
        return "scratch"
    if DOCUMENT.search(path):
        return "metadata"
    if CHUNK.search(path):
        return "label chunk" if "/labels/" in path else "image chunk"
    return "other"


def kind_of(request: Request) -> str:
    """What a request costs: a listing and a batch of deletions have no method of their own."""
    listing = request.method == "GET" and "list-type=" in request.path
    return "LIST" if listing else "DELETE" if request.method == "POST" else request.method


def waits(requests: Sequence[Request]) -> int:
    """Greatest number of requests none of which overlap in time."""
    count, answered = 0, -math.inf
    for one in sorted(requests, key=lambda one: one.ended):
        if one.began >= answered:
            count, answered = count + 1, one.ended
    return count


def counted(requests: Sequence[Request]) -> dict[str, Any]:
    """Requests by kind and part, those that found nothing, and bytes."""
    kinds = Counter(kind_of(request) for request in requests)
    parts = Counter(f"{kind_of(request)} {part_of(request)}" for request in requests)
    source = [one for one in requests if part_of(one) == "image chunk" and one.method == "GET"]
    return {
        "requests": len(requests),
        "waits": waits(requests),
        "kinds": dict(kinds),
        "parts": dict(sorted(parts.items())),
        "not_found": sum(request.status == 404 for request in requests),
        "image_bytes_read": sum(request.received for request in source),
        "bytes_read": sum(request.received for request in requests),
        "bytes_written": sum(request.sent for request in requests),
    }


def run(case: Case, proxy: Proxy, options: dict[str, Any], layer: str) -> dict[str, Any]:
    """Segment once and count what passes the proxy."""
    start, began = len(proxy.answered), time.perf_counter()
    result = cellscale.segment(
        f"s3://cells/{case.name}.zarr", model=MODEL, layer=layer, backend="serial", settings=case.settings,
        storage_options={**options, "endpoint_url": proxy.url},
    )  # fmt: skip
    seconds = time.perf_counter() - began
    return {"seconds": round(seconds, 2), "cells": result.cells, **counted(proxy.answered[start:])}


def run_dask(case: Case, proxy: Proxy, options: dict[str, Any], name: str) -> dict[str, Any]:
    """Predict overlapping blocks, label the components of whole frames and store them."""
    model, side = load_model(MODEL), case.settings.get("window_size", 2048)
    storage = {"storage_options": {**options, "endpoint_url": proxy.url}}

    def foreground(block: np.ndarray) -> np.ndarray:
        (maps,) = windows_to_maps(model.method, model.networks, block[None].astype(np.float32) / np.float32(65535))
        assert not isinstance(maps, Candidates)
        return np.asarray(next(iter(maps.values()))[None] > 127)

    start, began = len(proxy.answered), time.perf_counter()
    with dask.config.set(scheduler="threads", num_workers=2):
        image = da.from_zarr(f"s3://cells/{case.name}.zarr/0", **storage).rechunk((1, side, side))
        masks = image.map_overlap(foreground, depth=(0, HALO, HALO), boundary="reflect", dtype=bool)
        masks.to_zarr(f"s3://cells/{name}.zarr/masks", **storage)
        stored = da.from_zarr(f"s3://cells/{name}.zarr/masks", **storage)
        found = da.stack([label(frame)[0].astype(np.uint32) for frame in stored])
        found.rechunk((1, 512, 512)).to_zarr(f"s3://cells/{name}.zarr/labels", **storage)
    return {"seconds": round(time.perf_counter() - began, 2), **counted(proxy.answered[start:])}


def measure(
    case: Case, options: dict[str, Any], delays: Sequence[int], rounds: int, ways: dict[str, Way]
) -> dict[str, Any]:
    """Runs at all delays, alternating; the least time of each."""
    system = s3fs.S3FileSystem(**options)
    sizes = system.du(f"cells/{case.name}.zarr/0", total=False)
    found: dict[str, Any] = {"image": case.name, "image_bytes": sum(sizes.values()), **{way: {} for way in ways}}
    port = int(options["endpoint_url"].rsplit(":", 1)[1])
    for turn in range(-1, rounds):
        for delay in delays[:1] if turn < 0 else delays:
            for way, work in ways.items():
                with stormy(port, Storm(delay_s=delay / 1000)) as proxy:
                    one = work(case, proxy, options, f"run-{turn}-{delay}")
                before = found[way].get(delay)
                if turn >= 0 and (before is None or one["seconds"] < before["seconds"]):
                    found[way][delay] = one
    return found


def uploaded(case: Case, work: Path, options: dict[str, Any]) -> None:
    """Make the image on the disk, once, and put it into the bucket."""
    place = work / f"{case.name}.zarr"
    if not place.exists():
        partial = work / f"{case.name}-partial.zarr"
        shutil.rmtree(partial, ignore_errors=True)
        _, height, width = case.shape
        cellscale.synthesize(str(partial), shape=case.shape, cells=height * width // 2200, seed=3)
        partial.rename(place)
    s3fs.S3FileSystem(**options).put(str(place), f"cells/{case.name}.zarr", recursive=True)


def table(found: Sequence[dict[str, Any]]) -> str:
    """Measurements as a Markdown table."""
    names = [
        "image",
        "way",
        "delay, ms",
        "s",
        "÷ no delay",
        "requests",
        "waits",
        "GET",
        "PUT",
        "HEAD",
        "LIST",
        "DELETE",
        "404",
        "bytes read ÷ image",
    ]
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    for one in found:
        for way in filter(one.__contains__, ("cellscale", "dask")):
            least = one[way][min(one[way])]["seconds"]
            for delay, made in one[way].items():
                kinds = [made["kinds"].get(kind, 0) for kind in ("GET", "PUT", "HEAD", "LIST", "DELETE")]
                ratio = made["image_bytes_read"] / one["image_bytes"]
                times = [one["image"], way, delay, made["seconds"], f"{made['seconds'] / least:.2f}"]
                cells = [*times, made["requests"], made["waits"], *kinds, made["not_found"], f"{ratio:.2f}"]
                lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--delays", type=int, nargs="+", default=[0, 30, 100], help="ms before each request")
    parser.add_argument("--rounds", type=int, default=2, help="runs at each delay, of which the fastest counts")
    parser.add_argument("--images", nargs="+", choices=[case.name for case in CASES], help="[default: all]")
    parser.add_argument("--dask", action="store_true", help="map the network by dask as well")
    parser.add_argument("--work", type=Path, default=Path("cloud"), help="folder for the images")
    parser.add_argument("--json", type=Path, help="file for the measurements")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    found = []
    for case in CASES:
        if given.images and case.name not in given.images:
            continue
        # A server of its own: it keeps all objects in memory.
        with s3_server() as options:
            uploaded(case, given.work, options)
            ways: dict[str, Way] = {"cellscale": run, **({"dask": run_dask} if given.dask else {})}
            found.append(measure(case, options, given.delays, given.rounds, ways))
        print(json.dumps(found[-1], indent=1), flush=True)
    print(table(found))
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

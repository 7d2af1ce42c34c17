"""A segmentation against a bucket that answers late: requests by kind, bytes, and seconds at several delays.

    python -m benchmarks.cloud --delays 0 30 100 --work /tmp/cloud --json cloud.json

Runs from the root of the repository. An S3 server on loopback stands behind a proxy that counts every request and waits
before it carries one out. `cellscale.segment` works in this process, with the included model `nuclei`. The first run of
each image warms the process up and is not counted.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import s3fs

import cellscale
from tests.endpoints import s3_server
from tests.faults.proxy import Proxy, Request, Storm, stormy

MODEL = "nuclei"
DOCUMENT = re.compile(r"/(zarr\.json|\.zarray|\.zattrs|\.zgroup|\.zmetadata)$")
CHUNK = re.compile(r"/\d+(/c)?(/\d+)+$")


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
    Case(shape=(2, 2048, 2048), settings={"window_size": 512}),
    Case(shape=(1, 4096, 4096), settings={}),
)


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


def counted(requests: Sequence[Request]) -> dict[str, Any]:
    """Requests by kind and part, those that found nothing, and bytes."""
    kinds = Counter(kind_of(request) for request in requests)
    parts = Counter(f"{kind_of(request)} {part_of(request)}" for request in requests)
    source = [one for one in requests if part_of(one) == "image chunk" and one.method == "GET"]
    return {
        "requests": len(requests),
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


def measure(case: Case, options: dict[str, Any], delays: Sequence[int], rounds: int) -> dict[str, Any]:
    """Runs at all delays, in turns; the least time of each."""
    system = s3fs.S3FileSystem(**options)
    sizes = system.du(f"cells/{case.name}.zarr/0", total=False)
    found: dict[str, Any] = {"image": case.name, "image_bytes": sum(sizes.values()), "delays": {}}
    port = int(options["endpoint_url"].rsplit(":", 1)[1])
    for turn in range(-1, rounds):
        for delay in delays[:1] if turn < 0 else delays:
            with stormy(port, Storm(delay_s=delay / 1000)) as proxy:
                one = run(case, proxy, options, f"run-{turn}-{delay}")
            before = found["delays"].get(delay)
            if turn >= 0 and (before is None or one["seconds"] < before["seconds"]):
                found["delays"][delay] = one
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
        "delay, ms",
        "s",
        "÷ no delay",
        "requests",
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
        least = one["delays"][min(one["delays"])]["seconds"]
        for delay, made in one["delays"].items():
            kinds = [made["kinds"].get(kind, 0) for kind in ("GET", "PUT", "HEAD", "LIST", "DELETE")]
            ratio = made["image_bytes_read"] / one["image_bytes"]
            cells = [one["image"], delay, made["seconds"], f"{made['seconds'] / least:.2f}", made["requests"], *kinds]
            lines.append("| " + " | ".join(map(str, [*cells, made["not_found"], f"{ratio:.2f}"])) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--delays", type=int, nargs="+", default=[0, 30, 100], help="ms before each request")
    parser.add_argument("--rounds", type=int, default=2, help="runs at each delay, of which the fastest counts")
    parser.add_argument("--images", nargs="+", choices=[case.name for case in CASES], help="[default: all]")
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
            found.append(measure(case, options, given.delays, given.rounds))
        print(json.dumps(found[-1], indent=1), flush=True)
    print(table(found))
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

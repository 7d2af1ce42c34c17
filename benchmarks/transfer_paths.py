"""Chunks of an image in a bucket, moved through several I/O libraries, behind a proxy that delays each request.

    python -m benchmarks.transfer_paths --delays 0 30 100 --rounds 3 --json transfer_paths.json

Four frames of 2048² px in chunks of 512² px (uint16, zstd) are written and read back frame by frame, 32 chunks at once:
through fsspec and s3fs as cellscale does, and through obstore (zarr's ObjectStore), each with the codec pipeline of
zarr and with that of zarrs. The least times of the rounds; the first round is not counted. Needs obstore and zarrs
(`pip install obstore zarrs`), and runs from the root of the repository.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import Store
from zarr.codecs import ZstdCodec
from zarr.storage import FsspecStore, ObjectStore

from cellscale.storage.together import REQUESTS
from cellscale.storage.urls import client_options
from tests.endpoints import s3_server
from tests.faults.proxy import Storm, stormy

FRAMES, SIDE, CHUNK = 4, 2048, 512
URL = "s3://cells/transfer_paths.zarr"
PIPELINES = {"zarr": "zarr.core.codec_pipeline.BatchedCodecPipeline", "zarrs": "zarrs.ZarrsCodecPipeline"}


def through_s3fs(options: dict[str, Any], endpoint: str) -> Store:
    """Store as cellscale opens it."""
    chosen = client_options(URL, {**options, "endpoint_url": endpoint})
    return FsspecStore.from_url(URL, storage_options=chosen)


def through_obstore(options: dict[str, Any], endpoint: str) -> Store:
    """Store of the Rust client."""
    bucket = import_module("obstore.store").S3Store(
        "cells",
        prefix="transfer_paths.zarr",
        endpoint=endpoint,
        access_key_id=options["key"],
        secret_access_key=options["secret"],
        region="us-east-1",
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )
    return ObjectStore(bucket)


PATHS: dict[str, Callable[[dict[str, Any], str], Store]] = {"s3fs": through_s3fs, "obstore": through_obstore}


def measure(store: Store, pixels: np.ndarray) -> dict[str, float]:
    """Seconds and processor seconds of writing all frames and of reading them."""
    codec, chunks = ZstdCodec(level=3, checksum=True), (1, CHUNK, CHUNK)
    array = zarr.create_array(
        store, name="0", shape=pixels.shape, chunks=chunks, dtype=pixels.dtype, compressors=codec, overwrite=True
    )
    found: dict[str, float] = {}
    for work in ("write", "read"):
        began, processor = time.perf_counter(), time.process_time()
        for t in range(FRAMES):
            if work == "write":
                array[t] = pixels[t]
            else:
                assert np.array_equal(np.asarray(array[t]), pixels[t])
        found |= {f"{work}_s": time.perf_counter() - began, f"{work}_cpu_s": time.process_time() - processor}
    return found


def compare(delays: Sequence[int], rounds: int) -> dict[str, dict[str, float]]:
    """Least times of each library, pipeline and delay, alternating."""
    pixels = (np.random.default_rng(0).poisson(300, (FRAMES, SIDE, SIDE)) // 4).astype(np.uint16)
    found: dict[str, dict[str, float]] = {}
    with s3_server() as options, zarr.config.set({"async.concurrency": REQUESTS}):
        port = int(options["endpoint_url"].rsplit(":", 1)[1])
        for turn in range(-1, rounds):
            for delay in delays:
                with stormy(port, Storm(delay_s=delay / 1000)) as proxy:
                    for library, store in PATHS.items():
                        for name, path in PIPELINES.items():
                            import_module(name)
                            with zarr.config.set({"codec_pipeline.path": path}):
                                one = measure(store(options, proxy.url), pixels)
                            if turn >= 0:
                                least = found.setdefault(f"{library}, codecs of {name}, {delay} ms", one)
                                least |= {key: min(value, least[key]) for key, value in one.items()}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--delays", type=int, nargs="+", default=[0, 30, 100], help="ms before each request")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="file for the measurements")
    given = parser.parse_args()
    found = compare(given.delays, given.rounds)
    names = ("write_s", "read_s", "write_cpu_s", "read_cpu_s")
    print("\n".join(["| | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]))
    for path, times in found.items():
        print(f"| {path} | " + " | ".join(f"{times[name]:.2f}" for name in names) + " |")
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

"""Carry out all plans and print their table: python -m tests.faults."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import ray

from tests.endpoints import s3_server
from tests.faults.plans import ground
from tests.faults.test_plans import ALL

with s3_server() as s3, tempfile.TemporaryDirectory() as marks:
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    of = ground("s3://cells/faults/movie.zarr", s3, Path(marks))
    print("| plan | injected | outcome | equal bytes | s |\n|---|---|---|---|---|")
    for name in sys.argv[1:] or ALL:
        began = time.perf_counter()
        ending = ALL[name].carry_out(of)
        outcome = "finished" if ending.finished else f"ended without the layer: {ending.named[:300]}"
        equal = "yes" if ending.equal else "–"
        print(f"| {name} | {ending.faults} | {outcome} | {equal} | {time.perf_counter() - began:.0f} |", flush=True)
    ray.shutdown()

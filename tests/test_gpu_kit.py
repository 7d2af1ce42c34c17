"""The measurements for machines with GPUs, from end to end on this one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SMALL = "--width 4 --window 64 --crop 32 --batch 2 --steps 2 --rounds 1 --frames 1 --loaders 0 --threads 1"


def test_all_measurements_end_within_their_time_and_are_written(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "all", "--minutes", "0.001", "--device", "cpu"]
    command += [*SMALL.split(), "--output", str(tmp_path / "gpu")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "gpu" / "gpu.json").read_text())
    assert found.keys() == {
        *("machine", "prediction: saw", "ways: saw", "pipeline: nuclei", "training: saw", "two processes: saw"),
        "labels: nuclei",
    }
    ways = found["ways: saw"]
    rates = {way: rate for way, rate in ways.items() if way.startswith(("fp32", "bf16"))}
    assert len(rates) == 5
    assert rates[ways["fastest"]] == max(rates.values()) > 0
    assert ways["fastest_batch"] in (2, 4, 8)
    assert found["prediction: saw"]["bare_Mpx_per_s"] > 0
    assert found["pipeline: nuclei"]["px"] == 128 * 128
    assert found["training: saw"]["samples_per_s"] > 0
    assert found["two processes: saw"]["samples_per_s_of_two"] > 0
    assert found["labels: nuclei"]["cells"] > 0
    table = (tmp_path / "gpu" / "gpu.md").read_text().splitlines()
    assert [line.split(" | ")[0].strip("| ") for line in table[2:]] == list(found)

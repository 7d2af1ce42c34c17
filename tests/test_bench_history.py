"""The benchmark's history: runs are appended, and drawn by the ratio to their peers."""

from __future__ import annotations

import json
import math
import runpy
from pathlib import Path

HISTORY = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "history.py"))


def test_runs_are_appended_and_drawn(tmp_path: Path) -> None:
    path, picture = tmp_path / "history.jsonl", tmp_path / "history.png"
    for ratio in (4.0, 5.0):
        measured = {
            "skeleton | skimage | 512², dense": {"ns_per_px": 1.1, "ratio": ratio},
            "skeleton | skimage | 1024², dense": {"ns_per_px": 1.2, "ratio": ratio + 1},
            "skeleton | skimage | 1024², sparse": {"ns_per_px": 1.2, "ratio": 99.0},
            "separated |  | 512², dense": {"ns_per_px": 0.2},
        }
        HISTORY["append"](path, measured, 35.04)
    runs = [json.loads(line) for line in path.read_text().splitlines()]
    assert [run["copy_gb_per_s"] for run in runs] == [35.0, 35.0]
    assert HISTORY["ratios"](runs, "skeleton | skimage") == [4.5, 5.5]
    assert all(map(math.isnan, HISTORY["ratios"](runs, "basins | skimage")))
    HISTORY["plotted"](runs, picture)
    assert picture.read_bytes().startswith(b"\x89PNG")

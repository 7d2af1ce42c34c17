"""The benchmark that fills the tables of results, on a tiny data set."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from cellscale.methods import settings_of
from cellscale.models.model import load_model
from cellscale.testing.cases import annotated_frame

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
LINE = ("saw", "u373", "--steps", "2", "--split", "0:4/1:4:2/4:6", "--set", "width=4", "--set", "crop=32")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six frames as the real data sets are stored."""
    frames = [annotated_frame(seed) for seed in range(6)]
    home = tmp_path / "PhC-C2DH-U373"
    home.mkdir()
    for kind, pages in {"raw": [f[0][0] for f in frames], "gt_seg": [f[1].astype(np.uint16) for f in frames]}.items():
        tifffile.imwrite(home / f"sceneA_{kind}.tif", np.stack(pages), metadata={"axes": "TYX"})
        (home / f"sceneA_{kind}.frames.txt").write_text("\n".join(map(str, range(len(pages)))))
    return tmp_path


@pytest.fixture
def accuracy(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """The benchmark as a command, in this process."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setenv("CELLSCALE_DATA", str(folder))

    def run(*words: Any) -> str:
        monkeypatch.setattr(sys, "argv", ["accuracy.py", *words])
        runpy.run_path(str(BENCHMARKS / "accuracy.py"), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_single_settings_win_over_a_preset(accuracy: Any, tmp_path: Path) -> None:
    output = tmp_path / "all.jsonl"
    quick = ("--set", "unet.depth=1", "--set", "loader_workers=0", "--set", "batch_size=1", "--set", "threads=1")
    accuracy(*LINE, "--preset", "paper", *quick, "--output", str(output), "--models", str(tmp_path / "models"))
    (line,) = map(json.loads, output.read_text().splitlines())
    # The paper's preset trains 1,000 epochs of a U-Net of width 64; its other settings stay.
    assert (line["set"][:12], line["steps"], line["steps_done"], line["width"]) == ("preset=paper", 2, 2, 4)
    (model,) = (tmp_path / "models").iterdir()
    held = settings_of(load_model(model).method)
    assert {"unet.norm": False, "balance.exponent": 1.0, "weighting.unit": 1.0}.items() <= held.items()


def test_a_run_is_a_line_and_lines_are_a_table(accuracy: Any, tmp_path: Path) -> None:
    output = tmp_path / "all.jsonl"
    quick = ("--set", "loader_workers=0", "--set", "batch_size=1", "--set", "threads=1")
    accuracy(*LINE, *quick, "--seeds", "0,1", "--output", str(output))
    first, second = map(json.loads, output.read_text().splitlines())
    assert (first["seed"], second["seed"], first["steps_done"], first["width"]) == (0, 1, 2, 4)
    assert [first[f"{part}_frames"] for part in ("learn", "validation", "test")] == [2, 2, 2]
    assert {"seg", "det", "f1", "ap_50", "ap_90", "ap_mean"} <= first["scores"].keys()
    printed = accuracy("--table", str(output)).splitlines()
    assert printed[0] == "**u373** (0:4/1:4:2/4:6)"
    assert printed[-1].startswith("| `saw` | width=4 crop=32 loader_workers=0 batch_size=1 threads=1 | 2 | 0, 1 | ")


def test_each_frame_of_a_split_is_in_one_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    parts = runpy.run_path(str(BENCHMARKS / "annotated.py"))["parts"]
    frames = list(range(10))
    assert parts(frames, "0:6//6:10") == (frames[:6], [], frames[6:])
    assert parts(frames, "0:6/1:6:3/6:10") == ([0, 2, 3, 5], [1, 4], frames[6:])
    assert parts(frames, "0:10/0:10:2/0:10:5") == ([1, 3, 7, 9], [2, 4, 6, 8], [0, 5])
    for nothing in ("0:4//10:12", "0:4//0:4", "//0:4"):
        with pytest.raises(ValueError, match="nothing to learn from, or nothing to test"):
            parts(frames, nothing)

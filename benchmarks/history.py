"""History of the kernels' benchmark: one JSON line for each run, and a plot of the ratios to the peers over the runs.

    python benchmarks/history.py docs/bench-history.jsonl docs/images/bench-history.png

`make bench` appends a line and draws the plot. Ratios of runs on different machines can be compared; times cannot.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib.pyplot as plt
import numba
import numpy as np

SHOWN = (
    "distance, labels | edt",
    "nearest_label, 10 px | skimage expand_labels",
    "components, 4 | cc3d",
    "touching_classes | scipy",
    "skeleton | skimage",
    "basins | skimage watershed",
)
"""Kernels and peers of the plot."""


def _processor() -> str:
    """Name of the processor, as far as the system states it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _commit() -> str:
    """Commit of the working tree; empty without git."""
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip()


def append(path: Path, measured: dict[str, dict[str, float]], gigabytes_a_second: float) -> None:
    """Append a run to a history.

    Parameters
    ----------
    path : Path
        File of JSON lines.
    measured : dict
        `ns_per_px` and, with a peer, `ratio` (the peer's time divided by ours), by "kernel | peer | image".
    gigabytes_a_second : float
        Speed of copying, read and written.
    """
    entry = {
        "date": date.today().isoformat(),
        "commit": _commit(),
        "processor": _processor(),
        "versions": {"python": platform.python_version(), "numpy": np.__version__, "numba": numba.__version__},
        "copy_gb_per_s": round(gigabytes_a_second, 1),
        "measured": measured,
    }
    with path.open("a") as file:
        file.write(json.dumps(entry, ensure_ascii=False) + "\n")


def ratios(runs: list[dict[str, Any]], shown: str) -> list[float]:
    """Median over the dense planes of a run of the ratio of a kernel to its peer, nan without one, for each run."""
    found = [
        [values["ratio"] for name, values in run["measured"].items() if name.startswith(shown) and "dense" in name]
        for run in runs
    ]
    return [median(values) if values else float("nan") for values in found]


def plotted(runs: list[dict[str, Any]], picture: Path) -> None:
    """Draw the ratios over the runs."""
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for shown, marker in zip(SHOWN, "osv^<>", strict=True):
        axes.semilogy(ratios(runs, shown), marker + "-", ms=4, lw=1, label=shown.replace(" | ", " / "))
    axes.set_xticks(range(len(runs)), [f"{run['date']}\n{run['commit']}" for run in runs], fontsize=7)
    axes.set(ylabel="time of the peer ÷ ours")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(picture, dpi=130)


def main() -> None:
    """Draw a history."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("history", type=Path, help="file of JSON lines")
    parser.add_argument("picture", type=Path, help="PNG to write")
    arguments = parser.parse_args()
    plotted([json.loads(line) for line in arguments.history.read_text().splitlines()], arguments.picture)


if __name__ == "__main__":
    main()

"""Draws images/lineage.png, and images/targets-*.png: what the methods make of a few touching cells.

Run from the repository's root.
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from PIL import Image

import cellscale
from cellscale.kernels.distances.transform import label_distance_transform
from cellscale.methods import load_method
from cellscale.viewers.lineage import lineage_picture
from cellscale.viewers.pictures import colours, sheet

FIGURES = {
    "multicellnet": (("multicellnet", "region"), ("multicellnet", "edge"), ("unet-ronneberger", "weight")),
    "weights": (("saw", "classes"), ("unet2", "weight"), ("dwm", "weight"), ("saw", "weight")),
    "deepsplit": (("deepsplit", "cell"), ("deepsplit", "separation"), ("deepsplit", "separation_weight")),
    "maskrcnn": (("maskrcnn", "weight"), ("mu-lux", "marker"), ("calt-us", "classes")),
    "ribcage": (("ribcage", "classes"),),
}
"""Method and map, by the name of the figure."""
AS_PRINTED = {"smooth": 1, "prune": 0.0, "tau_percentile": 100.0}
"""Settings of `saw` that compute the weights as its paper prints them."""
SIDE = 110
"""Of the crop, px."""


def labels() -> np.ndarray:
    """Some touching cells."""
    with tempfile.TemporaryDirectory() as folder:
        cellscale.synthesize(f"{folder}/i.zarr", shape=(1, 300, 300), cells=60, seed=4)
        frame = cellscale.open_labels(f"{folder}/i.zarr", "truth").values[0]
    rows, columns = np.nonzero(frame)
    y, x = int(np.median(rows)) - SIDE // 2, int(np.median(columns)) - SIDE // 2
    return np.ascontiguousarray(frame[max(y, 0) :, max(x, 0) :][:SIDE, :SIDE])


def shaded(values: np.ndarray) -> np.ndarray:
    """From dark to bright, (y, x, 3)."""
    return colormaps["viridis"](values / max(float(values.max()), 1e-9))[..., :3]


def lineage() -> bytes:
    """Tracks of cells that divide at random, as `cellscale draw-lineage` draws them."""
    rng = np.random.default_rng(3)
    rows: list[tuple[int, int, int, int]] = []
    waiting = [(int(begin), 0) for begin in rng.integers(0, 20, 8)]
    while waiting:
        begin, parent = waiting.pop(0)
        end = min(59, begin + int(rng.integers(12, 26)))
        rows.append((len(rows) + 1, begin, end, parent))
        waiting += [(end + 1, len(rows))] * 2 if end < 59 else []
    columns = np.array(rows, np.int64).T
    return lineage_picture(dict(zip(("track", "begin", "end", "parent"), columns, strict=True)))


def ragged(cells: np.ndarray) -> np.ndarray:
    """The same cells with outlines as they are drawn by hand: every third boundary pixel is missing."""
    boundary = (cells > 0) & (label_distance_transform(cells.astype(np.uint32)) <= 1)
    return np.where(boundary & (np.random.default_rng(0).random(cells.shape) < 1 / 3), 0, cells)


def smoothing() -> None:
    """Draw the weights of `saw` on ragged outlines, as printed and as they are by default."""
    cells = ragged(labels())
    row = {"labels": colours(cells)}
    for name, settings in (("as printed", AS_PRINTED), ("smoothed and pruned", {})):
        method = load_method("saw", **settings).fit_statistics([cells])
        row[name] = shaded(method.targets(cells)["weight"])
    save("smoothing", row)


def save(figure: str, row: dict[str, np.ndarray]) -> None:
    """Write pictures that lie in a row."""
    content = io.BytesIO(sheet({"": row}, {}, side=2.4))
    Image.open(content).convert("RGB").quantize(128).save(f"docs/images/targets-{figure}.png", optimize=True)


def main() -> None:
    """Write the figures."""
    Path("docs/images/lineage.png").write_bytes(lineage())
    smoothing()
    cells = labels()
    for figure, shown in FIGURES.items():
        row = {"labels": colours(cells)}
        for name, key in shown:
            row[f"{name}, {key}"] = shaded(load_method(name).fit_statistics([cells]).targets(cells)[key])
        save(figure, row)


if __name__ == "__main__":
    main()

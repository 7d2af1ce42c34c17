"""Coupled contours of touching cells in one run, compared with scikit-image's active contour and morphological snake.

Alternating in one process, one thread each, processor times; scikit-image's contours are timed on a sample of the
cells, in a crop around each, from the same seeds and with about as many points.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from statistics import median

import numpy as np
from skimage.segmentation import active_contour, morphological_chan_vese

from cellscale.kernels.contours.evolve import Contours, evolve
from cellscale.kernels.distances.transform import label_distance_transform, nearest_label
from cellscale.types import Box, Labels

STEP = 90
"""Distance of the cells' centres, px."""


def touching_cells(size: int, seed: int = 0) -> Labels:
    """Cells on a shifted hexagonal grid, each as large as its neighbours let it be."""
    rng = np.random.default_rng(seed)
    rows = np.arange(50, size - 50, STEP)
    places = [(y, x + 45 * (i % 2)) for i, y in enumerate(rows) for x in range(50, size - 60, STEP)]
    centres = np.array(places) + rng.integers(-6, 7, (len(places), 2))
    seeds = np.zeros((size, size), np.uint32)
    seeds[tuple(centres.T)] = np.arange(1, len(centres) + 1)
    return nearest_label(seeds, radius=STEP // 2 + 7)[0]


def speed_and_seeds(cells: Labels) -> tuple[np.ndarray, Labels]:
    """What perfect maps give: the balloon speed, and the middles of the cells."""
    depth = label_distance_transform(cells)
    force = (cells > 0) * (1 - np.exp(-((depth - 0.5) ** 2) / 8))
    return np.clip((force - 0.05) / 0.25, 0, 1).astype(np.float32), np.where(depth > 18, cells, 0).astype(np.uint32)


def seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def window_of(cells: Labels, label: int) -> Box:
    rows, columns = np.nonzero(cells == label)
    return Box(rows.min(), columns.min(), rows.max() + 1, columns.max() + 1).grow(8).clip(Box.of(cells.shape))


def one_contour(speed: np.ndarray, seed: np.ndarray) -> None:
    """scikit-image's active contour of one cell, from a circle around its seed, drawn to the map's edges."""
    rows, columns = np.nonzero(seed)
    angles = np.linspace(0, 2 * np.pi, 150, endpoint=False)
    radius = np.sqrt(len(rows) / np.pi) + 12
    start = np.stack([rows.mean() + radius * np.sin(angles), columns.mean() + radius * np.cos(angles)], axis=1)
    active_contour(speed, start, alpha=0.01, beta=0.1, w_edge=1, w_line=0, max_num_iter=400)


def one_by_one(speed: np.ndarray, seeds: Labels, windows: list[tuple[tuple[slice, slice], int]]) -> None:
    """Contours of some cells, each in its window."""
    for window, label in windows:
        one_contour(speed[window], seeds[window] == label)


def report(found: Contours, ours: list[float], theirs: list[float], snakes: list[float], cells: int) -> None:
    moves = int((np.diff(found.starts) * found.iterations).sum())
    iou = found.converged.mean()
    print(f"{cells} cells, {moves / 1e6:.1f} million vertex-iterations, {100 * iou:.0f} % converged")
    print(
        f"evolve: {median(ours):.2f} s in all ({min(ours):.2f} … {max(ours):.2f}), {moves / median(ours) / 1e6:.0f} M/s"
    )
    for name, each in (("active_contour", theirs), ("morphological_chan_vese", snakes)):
        ratios = sorted(peer / (mine / cells) for peer, mine in zip(each, ours, strict=True))
        spread = f"{median(ratios):.0f} ({ratios[0]:.0f} … {ratios[-1]:.0f})"
        print(f"{name}: {1000 * median(each):.1f} ms a cell; ratio {spread}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=4096, help="side of the image, px")
    parser.add_argument("--repeats", type=int, default=5, help="measurements of each")
    parser.add_argument("--sample", type=int, default=10, help="cells for scikit-image")
    arguments = parser.parse_args()
    cells = touching_cells(arguments.size)
    speed, seeds = speed_and_seeds(cells)
    sample = np.random.default_rng(1).choice(np.unique(seeds)[1:], arguments.sample, replace=False)
    windows = [(window_of(cells, label).slices, label) for label in sample]
    evolve(speed[:256, :256], seeds[:256, :256], radius=48)
    ours, theirs, snakes = [], [], []
    for _ in range(arguments.repeats):
        ours.append(seconds(lambda: evolve(speed, seeds, radius=48)))
        theirs.append(seconds(partial(one_by_one, speed, seeds, windows)) / len(windows))
        snakes.append(
            seconds(
                lambda: [
                    morphological_chan_vese(speed[box], 100, init_level_set=(seeds[box] == label).astype(np.int8))
                    for box, label in windows
                ]
            )
            / len(windows)
        )
    found = evolve(speed, seeds, radius=48)
    report(found, ours, theirs, snakes, int(cells.max()))
    shared = np.bincount(cells[cells == found.labels()], minlength=int(cells.max()) + 1)[1:]
    print(f"share of each cell found: {(shared / np.bincount(cells.ravel())[1:]).mean():.3f}")


if __name__ == "__main__":
    main()

"""Each kernel beside its best-known peer, in one process and by turns: milliseconds and their ratio.

Run `python benchmarks/kernels.py --size 1024`. Peers that are not installed are left out. One thread each.
"""

import argparse
import importlib.util
import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import edt
import numpy as np
from scipy import ndimage
from skimage.measure import label
from skimage.morphology import remove_small_objects, skeletonize
from skimage.segmentation import expand_labels, find_boundaries, watershed

from cellscale.arrays import Labels
from cellscale.kernels.components import connected_components
from cellscale.kernels.concavities import contours_and_skeletons
from cellscale.kernels.distances import (
    distance_transform,
    label_distance_transform,
    nearest_label,
    two_nearest_labels,
)
from cellscale.kernels.overlaps import label_areas, overlap_table
from cellscale.kernels.skeletons import skeleton
from cellscale.kernels.touching import assign_touching, grown_through, separated, touching_classes
from cellscale.kernels.unions import relabel
from cellscale.kernels.watershed import basins, filled, inner_distance
from cellscale.kernels.weights import rim_weights, ronneberger, shape_aware_weights

Call = Callable[[], Any]


def cluttered(size: int, spacing: int = 60) -> Labels:
    """Ellipses at random places, one for each `spacing`² px: many of them touch."""
    rng = np.random.default_rng(7)
    labels = np.zeros((size, size), np.uint32)
    for number in range(1, (size // spacing) ** 2 + 1):
        y, x = rng.integers(0, size, 2)
        a, b = rng.uniform(0.3, 0.7, 2) * spacing
        box = np.s_[max(y - spacing, 0) : min(y + spacing, size), max(x - spacing, 0) : min(x + spacing, size)]
        rows, columns = np.mgrid[box]
        inside = ((rows - y) / a) ** 2 + ((columns - x) / b) ** 2 < 1
        labels[box][inside & (labels[box] == 0)] = number
    return labels


def one_transform_for_each_cell(labels: Labels) -> np.ndarray:
    """The usual way to the two nearest cells, in the memory of two images."""
    first, second = np.full(labels.shape, np.inf), np.full(labels.shape, np.inf)
    for number in np.unique(labels[labels > 0]):
        distances = edt.edt(labels != number)
        second = np.minimum(second, np.maximum(first, distances))
        first = np.minimum(first, distances)
    return first + second


def scipy_nearest(labels: Labels) -> np.ndarray:
    """Label of the nearest pixel, by SciPy's feature transform."""
    _, (rows, columns) = ndimage.distance_transform_edt(labels == 0, return_indices=True)
    return labels[rows, columns]


def scipy_classes(labels: Labels) -> np.ndarray:
    """Algorithm 1 by binary morphology."""
    square = np.ones((3, 3), bool)
    cells = np.pad(labels > 0, 2)
    return ndimage.binary_dilation(ndimage.binary_closing(cells, square) & ~cells, square)


def scipy_rim_weights(labels: Labels) -> np.ndarray:
    """Weights by scikit-image's inner boundaries and SciPy's distances."""
    rims = find_boundaries(labels, connectivity=1, mode="inner")
    return 10 * np.exp(-(ndimage.distance_transform_edt(~rims) ** 2) / 50)


def pairs(labels: Labels, apart: Labels) -> Iterator[tuple[str, Call, str, Call | None]]:
    """Kernel, its call, peer, the peer's call."""
    mask, touching = labels > 0, touching_classes(labels) == 2
    table = np.arange(int(labels.max()) + 1, dtype=np.uint32)
    keys = (labels.astype(np.uint64) << np.uint64(32)) | apart
    yield "distance_transform", lambda: distance_transform(mask), "scipy", lambda: ndimage.distance_transform_edt(mask)
    yield "distance_transform", lambda: distance_transform(mask), "edt", lambda: edt.edt(mask)
    yield "label_distance_transform", lambda: label_distance_transform(labels), "edt", lambda: edt.edt(labels)
    yield "nearest_label", lambda: nearest_label(labels), "scipy", lambda: scipy_nearest(labels)
    yield (
        "nearest_label, 10 px",
        lambda: nearest_label(labels, radius=10),
        "skimage.expand_labels",
        lambda: expand_labels(labels, 10),
    )
    each = (lambda: one_transform_for_each_cell(labels)) if labels.max() <= 100 else None
    yield "two_nearest_labels", lambda: two_nearest_labels(labels), "edt, once a cell", each
    yield "separated", lambda: separated(labels), "", None
    yield "touching_classes", lambda: touching_classes(labels), "scipy", lambda: scipy_classes(apart)
    yield "assign_touching", lambda: assign_touching(apart, touching, radius=8), "", None
    yield "grown_through", lambda: grown_through(apart, touching, steps=3), "", None
    yield "connected_components", lambda: connected_components(mask), "skimage", lambda: label(mask, connectivity=1)
    yield "connected_components", lambda: connected_components(mask), "scipy", lambda: ndimage.label(mask)
    if importlib.util.find_spec("cc3d"):
        import cc3d

        yield (
            "connected_components",
            lambda: connected_components(mask),
            "cc3d",
            lambda: cc3d.connected_components(mask, connectivity=4),
        )
    yield (
        "overlap_table",
        lambda: overlap_table(labels, apart),
        "np.unique of pairs",
        lambda: np.unique(keys, return_counts=True),
    )
    yield "label_areas", lambda: label_areas(labels), "np.bincount", lambda: np.bincount(labels.ravel())
    yield "relabel", lambda: relabel(labels, table), "np.take", lambda: np.take(table, labels)
    if importlib.util.find_spec("fastremap"):
        import fastremap

        entries = dict(enumerate(table.tolist()))
        yield "relabel", lambda: relabel(labels, table), "fastremap", lambda: fastremap.remap(labels, entries)
        yield (
            "label_areas",
            lambda: label_areas(labels),
            "fastremap",
            lambda: fastremap.unique(labels, return_counts=True),
        )
    heights = inner_distance(mask, cap=31)
    yield "basins", lambda: basins(heights, mask), "skimage watershed", lambda: watershed(heights, mask=mask)
    yield "filled", lambda: filled(mask, 64), "skimage", lambda: remove_small_objects(~mask, max_size=64)
    yield "skeleton", lambda: skeleton(apart > 0), "skimage", lambda: skeletonize(apart > 0)
    yield "contours_and_skeletons", lambda: contours_and_skeletons(apart), "", None
    yield "ronneberger", lambda: ronneberger(labels), "", None
    yield "rim_weights", lambda: rim_weights(labels), "scipy", lambda: scipy_rim_weights(labels)
    yield "shape_aware_weights", lambda: shape_aware_weights(labels, tau=10.0), "", None


def milliseconds(call: Call) -> float:
    start = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - start)


def row(name: str, kernel: Call, peer: str, other: Call | None, repeats: int) -> str:
    """Measure by turns, after one call that is not counted: medians, median ratio and its range."""
    kernel()
    if other is None:
        ours = sorted(milliseconds(kernel) for _ in range(repeats))
        return f"{name:26s} {median(ours):10.2f}   ({ours[0]:.2f} … {ours[-1]:.2f})"
    other()
    both = [(milliseconds(kernel), milliseconds(other)) for _ in range(repeats)]
    ratios = sorted(theirs / ours for ours, theirs in both)
    ours, theirs = (median(times) for times in zip(*both, strict=True))
    spread = f"{median(ratios):8.2f}   ({ratios[0]:.2f} … {ratios[-1]:.2f})"
    return f"{name:26s} {ours:10.2f}   {peer:22s} {theirs:10.2f} {spread}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, nargs="*", default=[320, 1024], help="side of the image, px")
    parser.add_argument("--repeats", type=int, default=7, help="measurements of each")
    arguments = parser.parse_args()
    for size in arguments.size:
        labels = cluttered(size)
        print(f"\n{size} × {size} px, {len(np.unique(labels)) - 1} cells; ratio: peer's time / ours")
        print(f"{'kernel':26s} {'ms':>10s}   {'peer':22s} {'ms':>10s} {'ratio':>8s}   (least … greatest)")
        for name, kernel, peer, other in pairs(labels, separated(labels)):
            print(row(name, kernel, peer, other, arguments.repeats), flush=True)


if __name__ == "__main__":
    main()

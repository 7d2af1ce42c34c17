"""Each kernel and its best-known peer, alternating in one process: times, lower bounds, ratios, and a plot over size.

Run `python benchmarks/kernels.py --size 1024 --volume 128`. Peers that are not installed are skipped. One thread each
unless the name says otherwise; times of one thread are processor times, so that a busy machine has little influence.
The lower bound of a kernel is the time in which this machine copies the bytes that it must at least read and write.
"""

import argparse
import importlib.util
import resource
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Literal

import cc3d
import edt
import matplotlib.pyplot as plt
import numpy as np
from scipy import ndimage
from skimage.measure import label, regionprops
from skimage.morphology import convex_hull_image, remove_small_objects, skeletonize
from skimage.segmentation import expand_labels, find_boundaries, watershed
from sklearn.ensemble import RandomForestClassifier

from cellscale.kernels.components import connected_components
from cellscale.kernels.concavities import contours_and_skeletons
from cellscale.kernels.distances.transform import (
    distance_transform,
    label_distance_transform,
    nearest_label,
    two_nearest_labels,
)
from cellscale.kernels.overlaps import label_areas, overlap_table
from cellscale.kernels.skeletons import skeleton
from cellscale.kernels.touching import assign_touching, boundary_pixels, grown_through, separated, touching_classes
from cellscale.kernels.unions import relabel
from cellscale.kernels.watershed import basins, inner_distance, remove_small_holes
from cellscale.kernels.weights import boundary_weights, distance_weights, ronneberger, shape_aware_weights
from cellscale.methods.pixel_forest import Forest
from cellscale.types import Labels
from history import append

Call = Callable[[], Any]
CROWDED = 24
"""Side of the square that holds one cell, px: 441 cells on 512², 28,900 on 4096²."""
SAMPLE = 8
"""Number of the transforms, one for each cell, that are measured."""
BEGIN, END = "<!-- measured -->", "<!-- /measured -->"
SLOWEST = 2**21
"""Greatest number of pixels for which SciPy's and scikit-image's transforms are measured."""
DRAWN = (
    "components, 26, 3-D",
    "components, 4, 2-D",
    "distance, binary, 2-D",
    "distance, binary, 3-D",
    "distance, labels, 2-D",
    "distance, labels, 3-D",
    "nearest_label, 10 px, 2-D",
    "overlap_table, 2-D",
    "relabel, 2-D",
    "boundary_weights, 2-D",
    "shape_aware_weights, 2-D",
    "skeleton, 2-D",
    "two_nearest_labels, 2-D",
)
"""What the plot shows."""


@dataclass(frozen=True)
class Pair:
    """One kernel and one peer."""

    name: str
    kernel: Call
    moved: int
    """Bytes to be read and written at least, for each pixel."""
    peer: str = ""
    other: Call | None = None
    times: float = 1.0
    """The peer's whole work, in calls of `other`."""
    threads: int = 1


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


def dense_and_sparse(size: int) -> dict[str, Labels]:
    """A plane full of cells, and one with a cell in thirty."""
    dense = cluttered(size)
    kept = np.random.default_rng(1).random(int(dense.max()) + 1) < 1 / 30
    kept[:2] = False, True
    return {"dense": dense, "sparse": np.where(kept[dense], dense, 0).astype(np.uint32)}


def balls(size: int, spacing: int = 40) -> Labels:
    """Balls at random places in a volume, one for each `spacing`³ voxels: many of them touch."""
    rng = np.random.default_rng(7)
    labels = np.zeros((size, size, size), np.uint32)
    ball = np.indices((spacing,) * 3) - spacing / 2
    ball = (ball**2).sum(axis=0)
    for number in range(1, (size // spacing) ** 3 + 1):
        z, y, x = rng.integers(0, size - spacing, 3)
        box = labels[z : z + spacing, y : y + spacing, x : x + spacing]
        box[(ball < rng.uniform(0.3, 0.5) ** 2 * spacing**2) & (box == 0)] = number
    return labels


def some_transforms(labels: Labels, cells: np.ndarray) -> np.ndarray:
    """The usual way to the two nearest cells, a transform for each, in the memory of two images; for some of them."""
    first, second = np.full(labels.shape, np.inf), np.full(labels.shape, np.inf)
    for number in cells:
        distances = edt.edt(labels != number)
        second = np.minimum(second, np.maximum(first, distances))
        first = np.minimum(first, distances)
    return np.asarray(first + second)


def fragments_of_scikit_image(labels: Labels, tau: float) -> np.ndarray:
    """The shape-aware weight map by a loop over the cells, each in its own box."""
    apart = separated(labels)
    contours, skeletons = np.zeros(labels.shape, bool), np.zeros(labels.shape, bool)
    for cell in regionprops(apart):
        for figure in (cell.image, convex_hull_image(cell.image, offset_coordinates=False) & ~cell.image):
            padded = np.pad(figure, 1)
            contours[cell.slice] |= find_boundaries(padded, connectivity=1, mode="inner")[1:-1, 1:-1]
            skeletons[cell.slice] |= skeletonize(padded)[1:-1, 1:-1]
    narrow = np.maximum(1 - ndimage.distance_transform_edt(~skeletons) / tau, 0)
    far, (rows, columns) = ndimage.distance_transform_edt(~contours, return_indices=True)
    return ndimage.gaussian_filter(np.where(far <= 20, narrow[rows, columns], 0).astype(np.float32), 3.0)


def scipy_nearest(labels: Labels) -> np.ndarray:
    """Label of the nearest pixel, by SciPy's feature transform."""
    _, (rows, columns) = ndimage.distance_transform_edt(labels == 0, return_indices=True)
    return np.asarray(labels[rows, columns])


def forest_on(labels: Labels) -> tuple[RandomForestClassifier, np.ndarray]:
    """Twenty trees on eight noisy features of each pixel, fitted on some pixels."""
    rng = np.random.default_rng(3)
    values = (labels.ravel()[:, None] % 3 + rng.standard_normal((labels.size, 8))).astype(np.float32)
    forest = RandomForestClassifier(20, max_leaf_nodes=100, random_state=0)
    return forest.fit(values[:5000], labels.ravel()[:5000] % 3), values


def scipy_classes(labels: Labels) -> np.ndarray:
    """Algorithm 1 by binary morphology."""
    square = np.ones((3, 3), bool)
    cells = np.pad(labels > 0, 2)
    return ndimage.binary_dilation(ndimage.binary_closing(cells, square) & ~cells, square)


def scipy_boundary_weights(labels: Labels) -> np.ndarray:
    """Weights by scikit-image's inner boundaries and SciPy's distances."""
    boundaries = find_boundaries(labels, connectivity=1, mode="inner")
    return 10 * np.exp(-(ndimage.distance_transform_edt(~boundaries) ** 2) / 50)


def distances(labels: Labels) -> Iterator[Pair]:
    """Transforms of planes and volumes."""
    mask = labels > 0
    small = labels.size <= SLOWEST
    for name, image in (("binary", mask), ("binary, outside", ~mask)):
        yield Pair(f"distance, {name}", partial(distance_transform, image), 5, "edt", partial(edt.edt, image))
        if small:
            yield Pair(
                f"distance, {name}",
                partial(distance_transform, image),
                5,
                "scipy",
                partial(ndimage.distance_transform_edt, image),
            )
    yield Pair("distance, labels", lambda: label_distance_transform(labels), 8, "edt", lambda: edt.edt(labels))
    yield Pair(
        "distance, labels, 2 threads",
        lambda: label_distance_transform(labels, threads=2),
        8,
        "edt, 2 threads",
        lambda: edt.edt(labels, parallel=2),
        threads=2,
    )
    spacing = (3, 2, 1)[: labels.ndim]
    yield Pair(
        "distance, labels, spacing",
        lambda: label_distance_transform(labels, spacing=spacing),
        8,
        "edt",
        lambda: edt.edt(labels, anisotropy=spacing),
    )


def components(labels: Labels) -> Iterator[Pair]:
    """Components and overlaps of planes and volumes."""
    mask = labels > 0
    shifted = np.roll(labels, 5, axis=-1)
    keys = (labels.astype(np.uint64) << np.uint64(32)) | shifted
    few: Literal[4, 6] = 4 if labels.ndim == 2 else 6
    many: Literal[8, 26] = 8 if labels.ndim == 2 else 26
    for connectivity in (few, many):
        yield Pair(
            f"components, {connectivity}",
            partial(connected_components, mask, connectivity=connectivity),
            5,
            "cc3d",
            partial(cc3d.connected_components, mask, connectivity=connectivity),
        )
    if labels.size <= SLOWEST:
        ours, theirs = lambda: connected_components(mask, connectivity=few), lambda: label(mask, connectivity=1)
        yield Pair(f"components, {few}", ours, 5, "skimage", theirs)
        yield Pair(f"components, {few}", ours, 5, "scipy", lambda: ndimage.label(mask))
    yield Pair(
        "overlap_table",
        lambda: overlap_table(labels, shifted),
        8,
        "np.unique of pairs",
        lambda: np.unique(keys, return_counts=True),
    )
    yield Pair("label_areas", lambda: label_areas(labels), 4, "np.bincount", lambda: np.bincount(labels.ravel()))
    table = np.arange(int(labels.max()) + 1, dtype=np.uint32)
    yield Pair("relabel", lambda: relabel(labels, table), 8, "np.take", lambda: np.take(table, labels))


def two_nearest(name: str, labels: Labels) -> Pair:
    """The two nearest cells, compared with a transform for each cell."""
    cells = np.flatnonzero(np.bincount(labels.ravel())[1:]) + 1
    return Pair(
        name,
        lambda: two_nearest_labels(labels),
        20,
        "edt, once a cell",
        lambda: some_transforms(labels, cells[:SAMPLE]),
        times=len(cells) / min(SAMPLE, len(cells)),
    )


def neighbours(labels: Labels) -> Iterator[Pair]:
    """Nearest labels and what is made of them."""
    apart, touching = separated(labels), touching_classes(labels) == 2
    if labels.size <= SLOWEST:
        for radius in (5, 10, 20):
            yield Pair(
                f"nearest_label, {radius} px",
                partial(nearest_label, labels, radius=radius),
                12,
                "skimage expand_labels",
                partial(expand_labels, labels, radius),
            )
        yield Pair(
            "assign_touching, 8 px",
            lambda: assign_touching(apart, touching, radius=8),
            9,
            "skimage expand_labels",
            lambda: np.where(touching, expand_labels(apart, 8), apart),
        )
        yield Pair("nearest_label", lambda: nearest_label(labels), 12, "scipy", lambda: scipy_nearest(labels))
    yield two_nearest("two_nearest_labels", labels)
    if np.count_nonzero(labels) > labels.size / 4:
        yield two_nearest("two_nearest_labels, crowded", cluttered(len(labels), CROWDED))
    yield Pair("separated", lambda: separated(labels), 8)
    yield Pair("touching_classes", lambda: touching_classes(labels), 5, "scipy", lambda: scipy_classes(apart))
    yield Pair("grown_through", lambda: grown_through(apart, touching, steps=3), 9)


def weights(labels: Labels) -> Iterator[Pair]:
    """Weight maps and skeletons."""
    apart, background, inner = separated(labels), labels == 0, ~boundary_pixels(labels)
    yield Pair(
        "distance_weights",
        lambda: distance_weights(labels),
        8,
        "its own distance",
        lambda: distance_transform(background),
    )
    yield Pair(
        "boundary_weights", lambda: boundary_weights(labels), 8, "its own distance", lambda: distance_transform(inner)
    )
    yield Pair("ronneberger", lambda: ronneberger(labels), 8)
    if labels.size <= SLOWEST:
        yield Pair(
            "boundary_weights", lambda: boundary_weights(labels), 8, "scipy", lambda: scipy_boundary_weights(labels)
        )
        yield Pair(
            "shape_aware_weights",
            lambda: shape_aware_weights(labels, tau=10.0),
            8,
            "skimage, in a loop",
            lambda: fragments_of_scikit_image(labels, 10.0),
        )
        yield Pair("skeleton", lambda: skeleton(apart > 0), 2, "skimage", lambda: skeletonize(apart > 0))
    yield Pair("contours_and_skeletons", lambda: contours_and_skeletons(apart), 6)


def basins_and_forests(labels: Labels) -> Iterator[Pair]:
    """Other kernels of decoding, up to 1024² px."""
    mask = labels > 0
    heights = inner_distance(mask, cap=31)
    yield Pair("inner_distance, 31 px", lambda: inner_distance(mask, cap=31), 2)
    yield Pair("basins", lambda: basins(heights, mask), 6, "skimage watershed", lambda: watershed(heights, mask=mask))
    yield Pair(
        "remove_small_holes",
        lambda: remove_small_holes(mask, 64),
        2,
        "skimage",
        lambda: remove_small_objects(~mask, max_size=64),
    )
    fitted, values = forest_on(labels)
    packed = Forest(len(fitted), 100)
    packed.take(fitted)
    yield Pair("forest_votes", lambda: packed(values), 40, "scikit-learn", lambda: fitted.predict_proba(values))
    if importlib.util.find_spec("fastremap"):
        import fastremap

        entries = {number: number for number in range(int(labels.max()) + 1)}
        table = np.arange(int(labels.max()) + 1, dtype=np.uint32)
        yield Pair("relabel", lambda: relabel(labels, table), 8, "fastremap", lambda: fastremap.remap(labels, entries))


def milliseconds(call: Call, clock: Callable[[], float]) -> float:
    start = clock()
    call()
    return 1000 * (clock() - start)


def copied_a_millisecond() -> float:
    """Bytes that this machine reads and writes in a millisecond when it copies 128 MB."""
    source = np.ones(2**24, np.int64)
    target = np.empty_like(source)
    best = min(milliseconds(lambda: np.copyto(target, source), time.process_time) for _ in range(5))
    return 2 * source.nbytes / best


def repeats_of(pixels: int, most: int) -> int:
    """Fewer where a call takes seconds."""
    return min(most, 2 if pixels >= 2**26 else 3 if pixels >= 2**24 else most)


def measured(pair: Pair, repeats: int) -> tuple[float, list[float]]:
    """Measure alternately, after one call that is not counted: our median in ms, and the peer's times over ours."""
    clock = time.process_time if pair.threads == 1 else time.perf_counter
    calls = [pair.kernel, pair.other] if pair.other else [pair.kernel]
    rounds = [[milliseconds(call, clock) for call in calls] for _ in range(repeats + 1)][1:]
    return median(times[0] for times in rounds), sorted(
        pair.times * other / times[0] for times in rounds for other in times[1:]
    )


def joined(cells: dict[tuple[str, str], dict[str, str]], titles: list[str]) -> str:
    """One line for each kernel and peer, one column for each image."""
    lines = [f"| kernel | peer | {' | '.join(titles)} |", "|---|---|" + "---|" * len(titles)]
    lines += [
        f"| {name} | {peer} | {' | '.join(row.get(t, '') for t in titles)} |" for (name, peer), row in cells.items()
    ]
    return "\n".join(lines)


def put_between(path: Path, text: str) -> None:
    """Replace what a document holds between the two markers."""
    before, rest = path.read_text().split(BEGIN)
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}")


def plotted(found: dict[str, list[tuple[int, float]]], path: Path) -> None:
    """Draw time over pixels for DRAWN kernels that were measured at two sizes or more."""
    figure, axes = plt.subplots(figsize=(8, 5.5), layout="constrained")
    for (name, points), marker in zip(sorted(found.items()), "osv^<>DPX*phd" * 9, strict=False):
        if name in DRAWN and len(points) > 1:
            axes.loglog(*zip(*sorted(points), strict=True), marker + "-", ms=4, lw=1, label=name)
    axes.set(xlabel="pixels", ylabel="ms")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=130)


def images(sizes: list[int], volumes: list[int]) -> Iterator[tuple[str, Labels]]:
    for size in sizes:
        for kind, labels in dense_and_sparse(size).items():
            yield f"{size}², {kind}", labels
    for size in volumes:
        yield f"{size}³, dense", balls(size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, nargs="*", default=[512, 1024], help="sides of planes, px")
    parser.add_argument("--volume", type=int, nargs="*", default=[], help="sides of volumes, px")
    parser.add_argument(
        "--repeats", type=int, default=5, help="measurements of each; 3 from 2^24 px on, 2 from 2^26 px on"
    )
    parser.add_argument("--only", default="", help="kernels whose names begin so")
    parser.add_argument("--table", type=Path, help=f"a document that holds the table between {BEGIN} and {END}")
    parser.add_argument("--plot", type=Path, help="where to draw the times over the sizes")
    parser.add_argument("--history", type=Path, help="file of JSON lines to which the run is appended")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", "Failed to get convex hull")  # of cells of one or two pixels
    copied = copied_a_millisecond()
    found: dict[str, list[tuple[int, float]]] = {}
    entry: dict[str, dict[str, float]] = {}
    tables: dict[int, dict[tuple[str, str], dict[str, str]]] = {2: {}, 3: {}}
    titles: dict[int, list[str]] = {2: [], 3: []}
    for title, labels in images(arguments.size, arguments.volume):
        print(f"\n{title}: {np.count_nonzero(np.bincount(labels.ravel())[1:])} cells", flush=True)
        titles[labels.ndim].append(title)
        groups = [distances, components] + [neighbours, weights] * (labels.ndim == 2)
        groups += [basins_and_forests] * (labels.ndim == 2 and labels.size <= 1024**2)
        for pair in (pair for group in groups for pair in group(labels)):
            if pair.name.startswith(arguments.only):
                ours, ratios = measured(pair, repeats_of(labels.size, arguments.repeats))
                bounds = ours * copied / (pair.moved * labels.size)
                cell = f"{1e6 * ours / labels.size:.1f} ns, {bounds:.0f} × bound"
                cell += f"; {median(ratios):.2f} ({ratios[0]:.2f} … {ratios[-1]:.2f})" if ratios else ""
                print(f"  {pair.name:28} {pair.peer:24} {ours:10.2f} ms  {cell}", flush=True)
                tables[labels.ndim].setdefault((pair.name, pair.peer), {})[title] = cell
                entry[f"{pair.name} | {pair.peer} | {title}"] = {
                    "ns_per_px": round(1e6 * ours / labels.size, 2),
                    **({"ratio": round(median(ratios), 2)} if ratios else {}),
                }
                if "sparse" not in title and pair.threads == 1:
                    found.setdefault(f"{pair.name}, {labels.ndim}-D", []).append((labels.size, ours))
    if arguments.history:
        append(arguments.history, entry, copied / 1e6)
    if arguments.plot:
        plotted({name: sorted(dict(points).items()) for name, points in found.items()}, arguments.plot)
    text = "\n\n".join(joined(tables[axes], titles[axes]) for axes in (2, 3) if titles[axes])
    text += f"\n\nOne run, {date.today()}: copying {copied / 1e6:.1f} GB/s, read and written; at most "
    text += f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB in use."
    if arguments.table:
        put_between(arguments.table, text)
    else:
        print("\n" + text)


if __name__ == "__main__":
    main()

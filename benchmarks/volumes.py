"""Objects joined through slices: scores on cells that touch and branch, and equality under tilings.

`python benchmarks/volumes.py rules [MASKS.tif …]` joins the slices of synthetic cells, and of given 3-D masks, by our
rule and by cellpose's, and scores both.
`python benchmarks/volumes.py tiles [SLICES SIZE TILE …]` segments a synthetic stack, by default 64 slices of 2048² px,
with each size of tiles, and compares labels and rows.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile
import yaozarrs
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage.measure import label as components

import cellscale
from cellscale.linking.slices import SliceRules
from cellscale.metrics import scores
from cellscale.ngff.labels import open_labels
from cellscale.ngff.writer import create_image
from cellscale.types import Labels
from peak import peak_mb
from tests.blobs import blobs_model
from tests.linking.test_slices import joined, stitched

SHAPE = (32, 128, 128)


def ellipsoids(seed: int, pitch: int) -> Labels:
    """Ellipsoids (z, y, x) of radii of about 5, 10 and 10 px, at every `pitch` px and half of it along z, shaken."""
    rng, made = np.random.default_rng(seed), np.zeros(SHAPE, np.uint32)
    nearest, voxels = np.full(SHAPE, np.inf), np.moveaxis(np.indices(SHAPE), 0, -1)
    corners = np.mgrid[0 : SHAPE[0] - 6 : pitch / 2, 0 : SHAPE[1] : pitch, 0 : SHAPE[2] : pitch].reshape(3, -1).T
    for k, corner in enumerate(corners, 1):
        middle = corner + np.array([6, 10, 10]) + rng.normal(0, 0.7, 3)
        radii = np.array([5, 10, 10]) * rng.uniform(0.8, 1.1, 3)
        distance = (((voxels - middle) / radii) ** 2).sum(axis=-1)
        mine = (distance < 1) & (distance < nearest)
        made[mine], nearest[mine] = k, distance[mine]
    return made


def branching(seed: int, cells: int) -> Labels:
    """Trunks that split into two arms halfway up, one cell each."""
    rng, made = np.random.default_rng(seed), np.zeros(SHAPE, np.uint32)
    rows, columns = np.indices(SHAPE[1:])
    side = int(np.ceil(np.sqrt(cells)))
    for k in range(cells):
        y, x = (np.array(divmod(k, side)) + 0.5) * SHAPE[1] / side + rng.normal(0, 1, 2)
        for z in range(SHAPE[0]):
            apart = max(0.0, z - SHAPE[0] / 2) * 0.8
            for shift in {-apart, apart}:
                made[z][(rows - y) ** 2 + (columns - x - shift) ** 2 <= 36] = k + 1
    return made


def slices_of(truth: Labels) -> Labels:
    """The objects of each slice, numbered through the slices: a perfect segmentation, slice by slice."""
    made, count = np.zeros_like(truth), 0
    for z, plane in enumerate(truth):
        parts: NDArray[np.int64] = components(plane, background=0, connectivity=1)
        made[z] = np.where(parts > 0, parts + count, 0)
        count = int(max(count, made[z].max()))
    return made


def rules(files: list[str]) -> None:
    """Print 3-D scores of both rules, and of the rule of mutual best matches written plainly."""
    print("| cells | rule | F1 | AP at 0.5 | mean IoU | objects | true cells |")
    print("|---|---|---|---|---|---|---|")
    stacks = {
        "apart": ellipsoids(1, 26),
        "touching": ellipsoids(2, 18),
        "branching": branching(3, 9),
    } | {Path(file).stem: tifffile.imread(file).astype(np.uint32) for file in files}
    for name, truth in stacks.items():
        slices = slices_of(truth)
        found = {
            "ours": joined(slices, SliceRules()),
            "mutual, plainly": stitched(slices, 0.25, mutual=True),
            "cellpose": stitched(slices, 0.25, mutual=False),
            "ours, smaller": joined(slices, SliceRules(measure="smaller")),
        }
        for rule, volume in found.items():
            # Scores do not know how many axes there are.
            flat = [array.reshape(-1, array.shape[-1]) for array in (truth, volume)]
            told = scores([(flat[0], flat[1])])
            counts = f"{len(np.unique(volume)) - 1} | {len(np.unique(truth)) - 1}"
            print(f"| {name} | {rule} | {told['f1']:.3f} | {told['ap_50']:.3f} | {told['mean_iou']:.3f} | {counts} |")


def stack(url: str, slices: int, size: int) -> None:
    """Write a stack of blobs that go through the slices, made two slices at a time."""
    with create_image(url, shape_tczyx=(1, 1, slices, size, size), dtype=np.dtype("u2"), axes=tuple("zyx")) as writer:
        noise = [np.random.default_rng((5, z)).random((size, size)) for z in range(2)]
        for z in range(slices):
            blurred = gaussian_filter(noise[0] + 2 * noise[1], 4)
            writer.write((1000 * (blurred - blurred.min()) / np.ptp(blurred)).astype(np.uint16), z=z)
            noise = [noise[1], np.random.default_rng((5, z + 2)).random((size, size))]


def tiles(slices: int, size: int, sides: list[int]) -> None:
    """Print time and peak for each size of tiles; end with an error if labels or rows differ."""
    with tempfile.TemporaryDirectory() as place:
        url = f"{place}/i.zarr"
        stack(url, slices, size)
        names = []
        for side in sides:
            began = time.perf_counter()
            settings = {"precision": "fp32", "window_size": 512}
            result = cellscale.segment(
                url,
                model=blobs_model(),
                layer=f"tiles-{side}",
                tile_size=side,
                z_mode="linked",
                backend="serial",
                settings=settings,
            )
            seconds = time.perf_counter() - began
            print(f"tiles of {side}: {result.cells} objects, {seconds:.0f} s, {peak_mb():.0f} MB", flush=True)
            names.append(f"tiles-{side}")
        yaozarrs.validate_zarr_store(url)
        layers = [cellscale.open_labels(url, name) for name in names]
        for z in range(slices):
            first, *others = (np.asarray(layer[z]) for layer in layers)
            if not all(np.array_equal(first, other) for other in others):
                raise SystemExit(f"Labels of slice {z} differ.")
        tables = [pd.read_parquet(Path(open_labels(url, name).place("objects.parquet"))) for name in names]
        if not all(tables[0].equals(table) for table in tables):
            raise SystemExit("Rows differ.")
        print(f"{slices} slices of {size}² px: equal labels and rows; the store is valid")


if __name__ == "__main__":
    if sys.argv[1] == "rules":
        rules(sys.argv[2:])
    else:
        numbers = [int(word) for word in sys.argv[2:]] or [64, 2048, 300, 512, 2048]
        tiles(numbers[0], numbers[1], numbers[2:])

"""The real annotated images as lists of (image (c, y, x), labels (y, x)), in an order that a split can cut.

A split is three slices of that list, `TRAIN/VALIDATION/TEST`: `0:64/64:72/72:84`; `0:72//72:84` validates on nothing;
`0:72/4:72:9/72:84` holds every ninth frame out of the training frames. A frame that several parts name belongs
to the last of them: `0:84/2:84:5/0:84:5` tests every fifth frame of a sequence, between two training frames.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from scipy import ndimage
from skimage.measure import block_reduce

from cellscale.training.settings import TrainingSettings
from cellscale.types import Labels

Pairs = list[tuple[np.ndarray, Labels]]


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """How a data set is read, and cut unless asked otherwise."""

    read: Callable[[Path], Pairs]
    split: str


def sequence(name: str, *, sequence: str = "01", truth: str = "st_seg") -> Callable[[Path], Pairs]:
    """The frames of a Cell Tracking Challenge sequence that have this truth, in time."""

    def read(folder: Path) -> Pairs:
        held = {kind: pages(folder / name, f"{sequence}_{kind}") for kind in ("raw", truth)}
        return [(held["raw"][frame][None], mask.astype(np.uint32)) for frame, mask in held[truth].items()]

    return read


def halved(read: Callable[[Path], Pairs]) -> Callable[[Path], Pairs]:
    """The same frames at half the resolution: means of 2×2 pixels, every second label."""

    def small(folder: Path) -> Pairs:
        return [
            (block_reduce(image, (1, 2, 2), np.mean).round().astype(image.dtype), np.ascontiguousarray(mask[::2, ::2]))
            for image, mask in read(folder)
        ]

    return small


def pages(folder: Path, name: str) -> dict[int, np.ndarray]:
    """The pages of a stack by the frames' numbers."""
    numbers = map(int, (folder / f"{name}.frames.txt").read_text().split())
    return dict(zip(numbers, tifffile.imread(folder / f"{name}.tif"), strict=True))


def nuclei(folder: Path, keep: Callable[[Labels], bool] = lambda labels: True) -> Pairs:
    """Images of all sizes in the order of their files, those whose labels are to be kept, permuted by seed 0."""
    found: Pairs = []
    for path in sorted((folder / "DSB2018-fluo").glob("*.npz")):
        stack = np.load(path)
        masks = stack["masks"].astype(np.uint32)
        found += [(image[None], mask) for image, mask in zip(stack["images"], masks, strict=True) if keep(mask)]
    return [found[i] for i in np.random.default_rng(0).permutation(len(found))]


def dense(labels: Labels) -> bool:
    """At least 20 cells, of which a fifth lie within 2 px of another."""
    ids = np.unique(labels[labels > 0])
    beyond = np.where(labels > 0, labels, np.iinfo(labels.dtype).max)
    near = (ndimage.maximum_filter(labels, 5) != labels) | (ndimage.minimum_filter(beyond, 5) != labels)
    return len(ids) >= 20 and len(np.unique(labels[near & (labels > 0)])) >= 0.2 * len(ids)


def tenths(count: int) -> str:
    """The split 80 / 10 / 10 of so many images."""
    learned, chosen = (round(share * count) for share in (0.8, 0.9))
    return f"0:{learned}/{learned}:{chosen}/{chosen}:{count}"


DATA = {
    "dic": DataSet(read=sequence("DIC-C2DH-HeLa"), split="0:64/64:72/72:84"),
    "dic-half": DataSet(read=halved(sequence("DIC-C2DH-HeLa")), split="0:64/64:72/72:84"),
    "u373": DataSet(read=sequence("PhC-C2DH-U373", sequence="sceneA", truth="gt_seg"), split="0:10/10:12/12:15"),
    "fluo-hela": DataSet(read=sequence("Fluo-N2DL-HeLa"), split="0:40/40:44/44:54"),
    "psc": DataSet(read=sequence("PhC-C2DL-PSC"), split="0:85/85:91/91:101"),
    "dsb": DataSet(read=nuclei, split=tenths(201)),
    "dsb-dense": DataSet(read=lambda folder: nuclei(folder, dense), split=tenths(114)),
}
"""By name; `dsb` are all images of DSB2018-fluo, `dsb-dense` those with crowded nuclei."""


def table_training(steps: int, seed: int, crop: int) -> TrainingSettings:
    """Settings of a training for a table: one thread, no loader process, no validation before the end."""
    return TrainingSettings(
        steps=steps, seed=seed, crop=crop, threads=1, loader_workers=0, validate_every=10**6, device="cpu"
    )


def parts(pairs: Pairs, split: str) -> tuple[Pairs, Pairs, Pairs]:
    """The training, validation and test frames of a split; each frame is in one part at most.

    Raises
    ------
    ValueError
        If it is not of the form TRAIN/VALIDATION/TEST, or leaves nothing to learn from or to test.
    """
    learn, choose, test = (
        list(range(len(pairs)))[slice(*(int(n) if n else None for n in part.split(":")))] if part else []
        for part in split.split("/")
    )
    choose = [i for i in choose if i not in set(test)]
    learn = [i for i in learn if i not in {*choose, *test}]
    if not learn or not test:
        raise ValueError(f"Split {split!r} of {len(pairs)} frames leaves nothing to learn from, or nothing to test.")
    learned, chosen, tested = ([pairs[i] for i in part] for part in (learn, choose, test))
    return learned, chosen, tested

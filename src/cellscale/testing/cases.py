"""Small label images with a name: shapes that break naive tiling, and contacts that weights and targets must see.

Every cell is at least 7 px wide and every image at most 128 × 128 px; labels follow the raster order of first pixels.

>>> CASES["two touching"].shape, int(CASES["two touching"].max())
((64, 64), 2)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cellscale.types import Candidates, Labels, Mask, StoredMaps


def disc(shape: tuple[int, int], y: float, x: float, radius: float) -> Mask:
    """Mask (y, x) of the pixels within `radius` px of a point."""
    rows, columns = np.indices(shape)
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def box(shape: tuple[int, int], y0: int, x0: int, y1: int, x1: int) -> Mask:
    """Mask (y, x) of a half-open rectangle."""
    mask = np.zeros(shape, bool)
    mask[y0:y1, x0:x1] = True
    return mask


def painted(*cells: Mask) -> Labels:
    """Label image (y, x) of masks; the first mask of a pixel wins, numbers follow the raster order of first pixels."""
    labels = np.zeros(cells[0].shape, np.uint32)
    for number, cell in enumerate(cells, 1):
        labels[cell & (labels == 0)] = number
    ids, first = np.unique(labels, return_index=True)
    table = np.zeros(len(cells) + 1, np.uint32)
    for rank, index in enumerate(np.argsort(first[ids > 0]), 1):
        table[ids[ids > 0][index]] = rank
    return table[labels]


def empty() -> Labels:
    """No cell at all."""
    return np.zeros((40, 56), np.uint32)


def one_cell() -> Labels:
    """One disc."""
    return painted(disc((48, 48), 22, 25, 11))


def two_touching() -> Labels:
    """Two squares with a common side."""
    return painted(box((64, 64), 10, 10, 30, 30), box((64, 64), 10, 30, 30, 50))


def ring_around_a_cell() -> Labels:
    """A cell in the hole of another."""
    shape = (80, 80)
    return painted(disc(shape, 40, 39, 9), disc(shape, 40, 39, 32) & ~disc(shape, 40, 39, 18))


def comb() -> Labels:
    """Three arms that are joined at one end only: tiles that cut the arms see three cells."""
    shape = (96, 80)
    arms = [box(shape, 8, x, 84, x + 9) for x in (10, 34, 58)]
    return painted(arms[0] | arms[1] | arms[2] | box(shape, 74, 10, 86, 67))


def u_shape() -> Labels:
    """One cell with two long arms."""
    shape = (72, 64)
    return painted(box(shape, 6, 8, 66, 18) | box(shape, 6, 44, 66, 54) | box(shape, 54, 8, 66, 54))


def u_around_a_cell() -> Labels:
    """A cell in the concavity of another, so that a hull contains a neighbour."""
    shape = (72, 72)
    arms = box(shape, 6, 6, 66, 16) | box(shape, 6, 54, 66, 64) | box(shape, 54, 6, 66, 64)
    return painted(arms, disc(shape, 28, 35, 11))


def diagonal_corner() -> Labels:
    """Four cells around one corner point, two by two touching along the diagonals there."""
    shape = (64, 64)
    corners = [box(shape, y, x, y + 20, x + 20) for y, x in ((12, 12), (12, 32), (32, 12), (32, 32))]
    return painted(*corners)


def diagonal_touch() -> Labels:
    """Two cells that share nothing but the corner point (32, 32)."""
    shape = (64, 64)
    return painted(box(shape, 14, 12, 32, 32), box(shape, 32, 32, 52, 50))


def diagonal_bar() -> Labels:
    """One cell through the corner point (32, 32) of four tiles."""
    rows, columns = np.indices((64, 64))
    return painted((abs(rows - columns) <= 6) & (rows + columns >= 24) & (rows + columns <= 104))


def cluster() -> Labels:
    """Seven discs, six of them around one, all touching."""
    shape = (120, 120)
    angles = np.arange(6) * np.pi / 3 + 0.26
    around = [disc(shape, 60 + 31 * np.sin(a), 60 + 31 * np.cos(a), 17) for a in angles]
    return painted(disc(shape, 60, 60, 17), *around)


def at_the_border() -> Labels:
    """Discs that the image's border cuts."""
    shape = (64, 64)
    discs = [disc(shape, y, x, 11) for y, x in ((0, 3), (30, 0), (63, 30), (33, 63), (0, 40))]
    return painted(*discs)


def larger_than_a_tile() -> Labels:
    """A cell that contains whole tiles, with a small one in a corner."""
    shape = (128, 128)
    return painted(disc(shape, 60, 60, 52), disc(shape, 117, 116, 8))


def whole_image() -> Labels:
    """One cell without any background."""
    return np.ones((48, 40), np.uint32)


def row_of_gaps() -> Labels:
    """Cells one and two pixels apart."""
    shape = (40, 122)
    return painted(box(shape, 8, 4, 32, 39), box(shape, 8, 40, 32, 80), box(shape, 8, 82, 32, 117))


CASES: Mapping[str, Labels] = {
    "empty": empty(),
    "one cell": one_cell(),
    "two touching": two_touching(),
    "ring around a cell": ring_around_a_cell(),
    "comb": comb(),
    "U": u_shape(),
    "U around a cell": u_around_a_cell(),
    "diagonal corner": diagonal_corner(),
    "diagonal touch": diagonal_touch(),
    "diagonal bar": diagonal_bar(),
    "cluster": cluster(),
    "at the border": at_the_border(),
    "larger than a tile": larger_than_a_tile(),
    "whole image": whole_image(),
    "row of gaps": row_of_gaps(),
}
"""All cases by name."""


def scattered(shape: tuple[int, int], share: float, seed: int = 0, labels: int = 9) -> Labels:
    """Single labelled pixels (y, x) far from one another: about `share` of all, with labels 1 … `labels`.

    Examples
    --------
    >>> scattered((100, 100), 0.01).max()
    np.uint32(9)
    """
    rng = np.random.default_rng(seed)
    return np.where(rng.random(shape) < share, rng.integers(1, labels + 1, shape), 0).astype(np.uint32)


def random_maps(names: Sequence[str], shape: tuple[int, int], seed: int) -> StoredMaps:
    """Smooth random probabilities as they are stored, uint8 (y, x) by name: rough or coarse, with a sum below 255.

    Parameters
    ----------
    names : sequence of str
        Names of the maps; `Method.maps` of a method.
    shape : tuple of int
        Height and width, px.
    seed : int
        Equal seeds give equal maps.

    Examples
    --------
    >>> maps = random_maps(("cell", "touching"), (30, 40), seed=1)
    >>> sorted(maps), maps["cell"].shape, maps["cell"].dtype.name
    (['cell', 'touching'], (30, 40), 'uint8')
    """
    rng = np.random.default_rng(seed)
    fields = []
    for _ in names:
        noise = ndimage.gaussian_filter(rng.standard_normal(shape), rng.uniform(0.6, 3))
        fields.append(np.exp(2.5 * noise / max(noise.std(), 1e-9) + rng.normal()))
    total = np.sum(fields, axis=0) + np.exp(rng.normal())
    return {name: np.rint(255 * field / total).astype(np.uint8) for name, field in zip(names, fields, strict=True)}


def random_candidates(shape: tuple[int, int], count: int, longest: int, seed: int, levels: int = 4) -> Candidates:
    """Random boxes that meet a region, with random masks.

    Parameters
    ----------
    shape : tuple of int
        Height and width of the region, px.
    count : int
        Number of candidates.
    longest : int
        Longest side of a box, px.
    seed : int
        Equal seeds give equal candidates.
    levels : int
        Number of different scores; few of them make equal scores likely.
    """
    rng = np.random.default_rng(seed)
    size = rng.integers(1, longest + 1, (count, 2))
    start = rng.integers(1 - size, np.array(shape), (count, 2))
    boxes = np.concatenate([start, start + size], axis=1).astype(np.int32)
    return Candidates(
        shape=shape,
        boxes=boxes,
        anchors=np.maximum(boxes[:, :2], 0),
        scores=(rng.integers(1, levels + 1, count) * 60000 // levels).astype(np.uint16),
        masks=rng.integers(0, 256, (count, 5, 5)).astype(np.uint8),
    )


def annotated_frame(seed: int, shape: tuple[int, int] = (64, 64)) -> tuple[NDArray[np.uint8], Labels]:
    """Noisy image (1, y, x) with up to eight bright round cells, some of which touch, and its labels (y, x).

    Parameters
    ----------
    seed : int
        Equal seeds give equal frames.
    shape : tuple of int
        Height and width, px.

    Examples
    --------
    >>> image, labels = annotated_frame(0)
    >>> image.shape, labels.shape, int(labels.max())
    ((1, 64, 64), (64, 64), 7)
    """
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint32)
    y, x = np.mgrid[: shape[0], : shape[1]]
    for number in range(1, 9):
        cy, cx = rng.integers(6, shape[0] - 6), rng.integers(6, shape[1] - 6)
        labels[((y - cy) ** 2 + (x - cx) ** 2 < rng.integers(5, 10) ** 2) & (labels == 0)] = number
    image: NDArray[Any] = np.where(labels > 0, 160, 60) + rng.normal(0, 8, shape)
    return image.clip(0, 255).astype(np.uint8)[None], labels


FRAMES = tuple(annotated_frame(seed) for seed in range(3))
"""Three annotated frames to train on."""

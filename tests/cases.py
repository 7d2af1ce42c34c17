"""Tiny label images with a name: what has broken segmentation through tiles, and what weights and targets must see.

Every cell is at least 7 px wide and every image at most 128 × 128 px; labels follow the raster order of first pixels.
"""

import numpy as np

from cellscale.types import Labels, Mask


def disc(shape: tuple[int, int], y: float, x: float, radius: float) -> Mask:
    """Pixels within `radius` of a point."""
    rows, columns = np.indices(shape)
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def box(shape: tuple[int, int], y0: int, x0: int, y1: int, x1: int) -> Mask:
    """Pixels of a half-open rectangle."""
    mask = np.zeros(shape, bool)
    mask[y0:y1, x0:x1] = True
    return mask


def painted(*cells: Mask) -> Labels:
    """Label image of masks; earlier ones win, numbers follow the first pixels."""
    labels = np.zeros(cells[0].shape, np.uint32)
    for number, cell in enumerate(cells, 1):
        labels[cell & (labels == 0)] = number
    ids, first = np.unique(labels, return_index=True)
    table = np.zeros(len(cells) + 1, np.uint32)
    for rank, index in enumerate(np.argsort(first[ids > 0]), 1):
        table[ids[ids > 0][index]] = rank
    return table[labels]


def empty() -> Labels:
    return np.zeros((40, 56), np.uint32)


def one_cell() -> Labels:
    return painted(disc((48, 48), 22, 25, 11))


def two_touching() -> Labels:
    return painted(box((64, 64), 10, 10, 30, 30), box((64, 64), 10, 30, 30, 50))


def ring_around_a_cell() -> Labels:
    shape = (80, 80)
    return painted(disc(shape, 40, 39, 9), disc(shape, 40, 39, 32) & ~disc(shape, 40, 39, 18))


def comb() -> Labels:
    """Three arms that are joined at one end only: tiles that cut the arms see three cells."""
    shape = (96, 80)
    arms = [box(shape, 8, x, 84, x + 9) for x in (10, 34, 58)]
    return painted(arms[0] | arms[1] | arms[2] | box(shape, 74, 10, 86, 67))


def u_shape() -> Labels:
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
    shape = (64, 64)
    discs = [disc(shape, y, x, 11) for y, x in ((0, 3), (30, 0), (63, 30), (33, 63), (0, 40))]
    return painted(*discs)


def larger_than_a_tile() -> Labels:
    """A cell that contains whole tiles, with a small one beside it."""
    shape = (128, 128)
    return painted(disc(shape, 60, 60, 52), disc(shape, 117, 116, 8))


def whole_image() -> Labels:
    """One cell without any background."""
    return np.ones((48, 40), np.uint32)


def row_of_gaps() -> Labels:
    """Cells one and two pixels apart."""
    shape = (40, 122)
    return painted(box(shape, 8, 4, 32, 39), box(shape, 8, 40, 32, 80), box(shape, 8, 82, 32, 117))


CASES: dict[str, Labels] = {
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
"""All of them by name."""

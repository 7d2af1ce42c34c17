"""Links of objects through time: frame to frame, over gaps, and from a mother to her daughters.

Every rule looks at the tables of two frames, and at which of their objects earlier rules have linked. Nothing depends
on how frames are bundled into tasks or on the order in which pairs of frames are done.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from cellscale.errors import InputError
from cellscale.linking.assignment import UNIT, assign
from cellscale.linking.tables import scaled_centroids
from cellscale.types import Table

LINK, GAP, DIVISION = 2 * UNIT, 3 * UNIT // 4, 3 * UNIT // 5
"""Costs from which objects are not linked to the next frame, not over a gap, and not to a mother."""


@dataclass(frozen=True, kw_only=True)
class LinkRules:
    """Parameters of the linking of cells."""

    max_distance: float | None = None
    """Greatest distance of a link without overlap from one frame to the next, px; None: the median
    distance to the nearest neighbour in the frame, or three median diameters if that is less."""
    max_gap: int = 2
    """Greatest number of consecutive frames in which a cell may be missing."""
    divisions: bool = True
    """Whether cells may divide."""
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Size of a voxel (z, y, x), in px of y."""

    def __post_init__(self) -> None:
        if self.max_gap < 0:
            raise InputError(f"max_gap is {self.max_gap}; expected a number of frames, 0 or more.")
        if self.max_distance is not None and not self.max_distance > 0:
            raise InputError(f"max_distance is {self.max_distance}; expected a length above 0 px.")


def radius_of(objects: Table, rules: LinkRules) -> float:
    """Farthest distance of a link from the objects of a frame, px; see `LinkRules.max_distance`."""
    if rules.max_distance is not None:
        return rules.max_distance
    count = len(objects["area"])
    if not count:
        return 0.0
    area = float(np.sort(objects["area"])[count // 2])
    flat = not objects["sum_z"].any()
    volume = area * rules.scale[0]
    diameter = 2 * np.sqrt(area / np.pi) if flat else 2 * (0.75 * volume / np.pi) ** (1 / 3)
    if count == 1:
        return float(3 * diameter)
    places = scaled_centroids(objects, rules.scale)
    spacing = np.asarray(KDTree(places).query(places, k=2)[0])[:, 1]
    return float(min(3 * diameter, np.sort(spacing)[count // 2]))


def _near(
    before: NDArray[np.float64], after: NDArray[np.float64], radius: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of points that are at most `radius` apart, (n,) rows each."""
    if not len(before) or not len(after):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    found = KDTree(before).query_ball_tree(KDTree(after), radius)
    counts = np.array([len(near) for near in found])
    return np.repeat(np.arange(len(before)), counts), np.array([row for near in found for row in near], np.int64)


def _union(overlaps: Table, near: tuple[NDArray[np.int64], NDArray[np.int64]], width: int) -> Table:
    """Pairs that overlap or are near, each once, with their common pixels."""
    known, close = overlaps["a"] * width + overlaps["b"], near[0] * width + near[1]
    keys = np.union1d(known, close)
    pixels = np.zeros(len(keys), np.int64)
    pixels[np.searchsorted(keys, known)] = overlaps["pixels"]
    return {"a": keys // width, "b": keys % width, "pixels": pixels}


def _costs(share: NDArray[np.float64], squares: NDArray[np.float64], radius: float) -> NDArray[np.int64]:
    """Cost of links by the share of the smaller object that is covered, and the square of the distance."""
    apart = np.minimum(squares / max(radius, 1e-9) ** 2, 1.0)
    return np.rint(UNIT * (1.0 - share + apart)).astype(np.int64)


def link_frames(before: Table, after: Table, overlaps: Table, rules: LinkRules) -> NDArray[np.int64]:
    """Link the objects of two frames that follow each other.

    Parameters
    ----------
    before, after : Table
        Objects of the two frames, see `whole_objects`.
    overlaps : Table
        See `whole_overlaps`.
    rules : LinkRules
        Parameters of the linking.

    Returns
    -------
    int64 array, (n, 2)
        Rows of linked objects, ascending.
    """
    radius, width = radius_of(before, rules), max(1, len(after["area"]))
    places = scaled_centroids(before, rules.scale), scaled_centroids(after, rules.scale)
    pairs = _union(overlaps, _near(*places, radius), width)
    a, b = pairs["a"], pairs["b"]
    share = pairs["pixels"] / np.minimum(before["area"][a], after["area"][b])
    squares = ((places[0][a] - places[1][b]) ** 2).sum(axis=1)
    return _assigned(a, b, _costs(share, squares, radius), (len(before["area"]), len(after["area"])), LINK)


def _assigned(
    a: NDArray[np.int64], b: NDArray[np.int64], cost: NDArray[np.int64], counts: tuple[int, int], nothing: int
) -> NDArray[np.int64]:
    cheap = cost < nothing
    candidates = {"a": a[cheap], "b": b[cheap], "cost": cost[cheap]}
    chosen = assign(candidates, counts, nothing=nothing)
    return np.stack([candidates["a"][chosen], candidates["b"][chosen]], axis=1)


def link_gap(
    before: Table, after: Table, free: tuple[NDArray[np.int64], NDArray[np.int64]], gap: int, rules: LinkRules
) -> NDArray[np.int64]:
    """Link objects of two frames that have `gap` frames between them.

    Parameters
    ----------
    before, after : Table
        Objects of the two frames.
    free : tuple of int64 array
        Rows of `before` that have no later object yet, and of `after` that have no earlier one.
    gap : int
        Number of frames between: cells move farther, by the square root of the time.
    rules : LinkRules
        Parameters of the linking.

    Returns
    -------
    int64 array, (n, 2)
        Rows of linked objects, ascending.
    """
    radius = radius_of(before, rules) * float(np.sqrt(gap + 1))
    places = scaled_centroids(before, rules.scale)[free[0]], scaled_centroids(after, rules.scale)[free[1]]
    a, b = _near(*places, radius)
    squares = ((places[0][a] - places[1][b]) ** 2).sum(axis=1)
    sizes = before["area"][free[0][a]], after["area"][free[1][b]]
    like = np.minimum(*sizes) / np.maximum(*sizes) if len(a) else np.zeros(0)
    links = _assigned(a, b, _costs(like, squares, radius), (len(free[0]), len(free[1])), GAP)
    return np.stack([free[0][links[:, 0]], free[1][links[:, 1]]], axis=1)


def daughters(
    before: Table, after: Table, overlaps: Table, links: NDArray[np.int64], new: NDArray[np.int64], rules: LinkRules
) -> NDArray[np.int64]:
    """Find second daughters: objects without an earlier one, near a cell that went on as a like cell on its other side.

    The cost of a pair is the distance of the mother from the middle of the two daughters, in parts of the radius, and
    how much the daughters differ in size.

    Parameters
    ----------
    before, after : Table
        Objects of two frames that follow each other.
    overlaps : Table
        See `whole_overlaps`.
    links : int64 array, (n, 2)
        See `link_frames`.
    new : int64 array, (m,)
        Rows of `after` that have no earlier object, over gaps neither.
    rules : LinkRules
        Parameters of the linking.

    Returns
    -------
    int64 array, (n, 2)
        Rows of mothers and of their second daughters, ascending.
    """
    if not rules.divisions or not len(links):
        return np.zeros((0, 2), np.int64)
    radius = radius_of(before, rules)
    first = np.full(len(before["area"]), -1, np.int64)
    first[links[:, 0]] = links[:, 1]
    places, later = scaled_centroids(before, rules.scale), scaled_centroids(after, rules.scale)
    near, at = _near(places, later[new], radius)
    width = max(1, len(after["area"]))
    fresh = np.isin(overlaps["b"], new)
    pairs = _union({name: column[fresh] for name, column in overlaps.items()}, (near, new[at]), width)
    mothers, second = pairs["a"][first[pairs["a"]] >= 0], pairs["b"][first[pairs["a"]] >= 0]
    sister = first[mothers]
    middle = (later[sister] + later[second]) / 2
    squares = ((middle - places[mothers]) ** 2).sum(axis=1)
    sizes = after["area"][sister], after["area"][second]
    unlike = np.abs(sizes[0] - sizes[1]) / (sizes[0] + sizes[1])
    cost = _costs(1.0 - unlike, squares, radius)
    return _assigned(mothers, second, cost, (len(before["area"]), len(after["area"])), DIVISION)

"""Coupled parametric active contours: seeds inflated by a speed map until it stops them or they meet.

A contour is a closed polygon; in each iteration every vertex p moves by

    (v(p) + min(0, (s / h) (p₋ − 2p + p₊) · n)) n

v is the bilinear speed at p, px; n the outward normal, perpendicular to p₊ − p₋; s the stiffness and h the spacing of
the vertices. Tension pulls inwards only, so a contour advances no faster than the map says, and along n only: vertices
that slide would keep a contour at rest from converging. Coordinates are relative to the seed's first pixel and calls
share no state: a contour depends neither on the position of its seed nor on the order of the seeds, nor on pixels
outside its basin.

M. Kass, A. Witkin and D. Terzopoulos, Snakes: active contour models, IJCV 1, 1988; A. Dufour et al., 3-D active meshes,
IEEE Trans. Image Processing 20, 2011, whose implementation in Icy the coupling "icy" follows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cellscale.errors import InputError
from cellscale.kernels.arguments import check_equal_shapes, label_image
from cellscale.kernels.compiling import kernel
from cellscale.kernels.contours.outlines import Polygons, fill_polygons, outlines
from cellscale.kernels.contours.polygons import area_of, converged, move, respaced, vanished
from cellscale.kernels.contours.pushing import push_depths
from cellscale.kernels.distances.transform import nearest_label
from cellscale.types import Box, Labels

MOST = 1024
"""A contour with more vertices than this, and more than twice its first number, is tangled in a rough map and stops."""


@dataclass(frozen=True, kw_only=True)
class Motion:
    """Parameters of the motion of contours."""

    stiffness: float = 0.05
    """s, px; at most a quarter of the spacing."""
    spacing: float = 2.0
    """h, px: edges are kept between 0.6 h and 1.4 h."""
    iterations: int = 400
    """Greatest number of iterations."""
    tolerance: float = 3e-4
    """A contour has converged when its area varied by at most this share of itself for 50 iterations. (Icy's 1e-5 waits
    for contours that still creep by hundredths of a pixel.)"""


class Numbers(NamedTuple):
    """`Motion` for compiled functions."""

    tension: float
    """s / h."""
    spacing: float
    iterations: int
    tolerance: float


@dataclass(frozen=True, kw_only=True)
class Contours:
    """Closed polygons in flat arrays, sorted by owner; outer outlines have a positive area, holes a negative one."""

    points: NDArray[np.float64]
    """(k, 2): vertices (y, x), px from the owner's first pixel; pixel centres have whole coordinates."""
    starts: NDArray[np.int64]
    """(n + 1,): contour i has the vertices starts[i] … starts[i + 1] − 1; none if it has vanished."""
    owners: NDArray[np.int64]
    """(n,): label of each contour's seed."""
    origins: NDArray[np.int64]
    """(labels + 1, 2): first pixel (y, x) of each seed in raster order; −1 where a label does not occur."""
    iterations: NDArray[np.int64]
    """(n,): number of iterations after which the contour stopped."""
    converged: NDArray[np.bool_]
    """(n,): whether the area stood still; otherwise the limit of iterations, or a tangle, stopped the contour."""
    cut: NDArray[np.bool_]
    """(n,): whether the contour ends where the speed would have carried it beyond the radius."""
    basins: Labels | None
    """(y, x): label of the contour that may have each pixel; None if contours push each other."""
    shape: tuple[int, int]
    """Height and width of the image, px."""

    def labels(self) -> Labels:
        """Fill the contours, uint32 (y, x), by the rule of `outlines.fill_polygons`: no pixel is in two cells."""
        polygons = Polygons(self.points, self.starts, self.owners, self.origins)
        return fill_polygons(polygons, shape=self.shape, allowed_labels=self.basins)


@kernel
def _evolve_alone(
    points: NDArray[np.float64], speed: NDArray[np.float32], at: tuple[int, int], numbers: Numbers
) -> tuple[NDArray[np.float64], int, bool]:
    """Move one contour until it stands still or the iterations end.

    Returns its vertices (n, 2), the number of iterations and whether it converged. `at` is the pixel of the speed map
    at the origin of the coordinates.
    """
    tension, spacing, iterations, tolerance = numbers
    # Two buffers (rows, 2) take turns: `move` reads `here` and writes `there`, `respaced` reads `there` and writes
    # `here`. `respaced` needs twice the room of its input, so they grow whenever half is in use.
    here, there = np.empty((4 * points.shape[0] + 64, 2)), np.empty((4 * points.shape[0] + 64, 2))
    n = respaced(points, spacing, here)
    nothing = np.empty(0)
    first = area_of(points)
    band = np.array([np.inf, -np.inf, 0.0])
    for i in range(iterations):
        move(here[:n], nothing, speed, at[0], at[1], tension, there)
        if 2 * n > here.shape[0]:
            here = np.empty((4 * n, 2))
        n = respaced(there[:n], spacing, here)
        if here.shape[0] > there.shape[0]:
            there = np.empty(here.shape)
        area = area_of(here[:n])
        if n > max(MOST, 2 * points.shape[0]):
            return here[:n], i + 1, False
        if vanished(area, first):
            return here[:0], i + 1, True
        if converged(area, band, tolerance):
            return here[:n], i + 1, True
    return here[:n], iterations, False


@kernel
def _boxes(basins: Labels, boxes: NDArray[np.int64]) -> None:
    """Write the bounding box y0, x0, y1, x1 (half-open) of each label, (labels + 1, 4); inverted boxes before."""
    for y in range(basins.shape[0]):
        for x in range(basins.shape[1]):
            box = boxes[basins[y, x]]
            box[0], box[1] = min(box[0], y), min(box[1], x)
            box[2], box[3] = max(box[2], y + 1), max(box[3], x + 1)


@kernel
def _own_speed(speed: NDArray[np.float32], basins: Labels, label: int, box: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the speed in the box of a label's basin, 0 on pixels of other basins and in a margin of one pixel."""
    out = np.zeros((box[2] - box[0] + 2, box[3] - box[1] + 2), np.float32)
    for y in range(box[0], box[2]):
        for x in range(box[1], box[3]):
            if basins[y, x] == label:
                out[y - box[0] + 1, x - box[1] + 1] = speed[y, x]
    return out


@kernel
def _meets_the_end(
    points: NDArray[np.float64], origin: NDArray[np.int64], speed: NDArray[np.float32], basins: Labels
) -> bool:
    """Return whether one of the four pixels around a vertex has speed but belongs to no basin."""
    for i in range(points.shape[0]):
        top, left = int(np.floor(points[i, 0])) + origin[0], int(np.floor(points[i, 1])) + origin[1]
        for y in range(max(top, 0), min(top + 2, speed.shape[0])):
            for x in range(max(left, 0), min(left + 2, speed.shape[1])):
                if basins[y, x] == 0 and speed[y, x] > 0:
                    return True
    return False


@kernel
def _note_cut(
    points: NDArray[np.float64],
    starts: NDArray[np.int64],
    seeds: Polygons,
    speed: NDArray[np.float32],
    basins: Labels,
    counts: NDArray[np.int64],
) -> None:
    """Write into counts (n, 3) whether each contour, from `starts` on in `points`, was cut."""
    _, _, owners, first = seeds
    for i in range(owners.size):
        counts[i, 2] = _meets_the_end(points[starts[i] : starts[i + 1]], first[owners[i]], speed, basins)


@kernel
def _evolve_in_basins(
    speed: NDArray[np.float32],
    basins: Labels,
    polygons: Polygons,
    numbers: Numbers,
    only: NDArray[np.bool_],
    ends: NDArray[np.int64],
    counts: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Evolve contour by contour, each to its end; return the vertices of all.

    Parameters
    ----------
    speed : float32 array, (y, x)
        Speed map.
    basins : uint32 array, (y, x)
        Label of the contour that may have each pixel.
    polygons : Polygons
        Outlines of the seeds, sorted by owner.
    numbers : Numbers
        Parameters of the motion.
    only : bool array, (labels + 1,)
        Labels whose contours are evolved.
    ends : int64 array, (n + 1,)
        Gets the starts of the contours in the result.
    counts : int64 array, (n, 3)
        Gets iterations, and whether the contour converged and was cut.
    """
    points, starts, owners, first = polygons
    boxes = np.empty((first.shape[0], 4), np.int64)
    boxes[:, :2], boxes[:, 2:] = 1 << 40, 0  # inverted: any pixel is less than 2⁴⁰ and at least 0
    _boxes(basins, boxes)
    out, used = np.empty((2 * points.shape[0] + 64, 2)), 0
    own, held = np.zeros((2, 2), np.float32), 0
    for i in range(owners.size):
        label, box = owners[i], boxes[owners[i]]
        ends[i + 1] = used
        if not only[label]:
            continue
        # Contours are sorted by owner: the outline of a seed and those of its holes share one map.
        if label != held:
            own, held = _own_speed(speed, basins, label, box), label
        at = (first[label, 0] - box[0] + 1, first[label, 1] - box[1] + 1)
        found, iterations, converged = _evolve_alone(points[starts[i] : starts[i + 1]], own, at, numbers)
        if used + found.shape[0] > out.shape[0]:
            wider = np.empty((2 * (used + found.shape[0]), 2))
            wider[:used] = out[:used]
            out = wider
        out[used : used + found.shape[0]] = found
        used += found.shape[0]
        ends[i + 1] = used
        counts[i, 0], counts[i, 1] = iterations, converged
        counts[i, 2] = _meets_the_end(found, first[label], speed, basins)
    return out[:used].copy()


@kernel
def _evolve_together(
    speed: NDArray[np.float32],
    polygons: Polygons,
    numbers: Numbers,
    counts: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Move all contours once per iteration, each against the others' positions of the iteration before.

    The arguments are those of `_evolve_in_basins`; `speed` has a margin of one pixel. Returns the vertices and the
    starts of the contours.
    """
    points, starts, owners, first = polygons
    tension, spacing, iterations, tolerance = numbers
    here, begins = points, starts
    bands = np.empty((owners.size, 3))
    bands[:] = np.array([np.inf, -np.inf, 0.0])
    for step in range(-1, iterations):  # step −1 moves nothing and brings the edges to their length
        depths = push_depths(here, begins, owners, first) if step >= 0 else np.empty(0)
        out, ends = np.empty((2 * here.shape[0] + 2, 2)), np.zeros_like(begins)
        running = False
        for i in range(owners.size):
            a, b = begins[i], begins[i + 1]
            ends[i + 1] = ends[i]
            moved = here[a:b].copy()
            tangled = b - a > max(MOST, 2 * (starts[i + 1] - starts[i]))
            if b > a and step >= 0 and not tangled:
                origin = first[owners[i]]
                move(here[a:b], depths[a:b], speed, origin[0] + 1, origin[1] + 1, tension, moved)
            n = respaced(moved, spacing, out[ends[i] :]) if b > a else 0
            area = area_of(out[ends[i] : ends[i] + n]) if n > 0 else 0.0
            if not vanished(area, area_of(points[starts[i] : starts[i + 1]])):
                ends[i + 1] += n
            counts[i, 1] = converged(area, bands[i], tolerance) and not tangled
            if not counts[i, 1]:
                counts[i, 0], running = step + 1, True
        here, begins = out[: ends[-1]], ends
        if not running:
            break
    return here, begins


def _checked(speed: NDArray[Any], seeds: Labels, motion: Motion) -> NDArray[np.float32]:
    if speed.ndim != 2 or not np.issubdtype(speed.dtype, np.floating):
        raise InputError(f"speed is {speed.dtype} {speed.shape}; expected floats (y, x), px in an iteration.")
    check_equal_shapes(speed, seeds, "speed and seeds")
    low, high = (float(speed.min()), float(speed.max())) if speed.size else (0.0, 0.0)
    if not (low >= 0 and high <= 1):
        raise InputError(f"speed is {low} to {high}; expected 0 to 1 px in an iteration. Divide by the greatest.")
    if not (motion.spacing > 0 and 0 <= 4 * motion.stiffness <= motion.spacing):
        raise InputError(
            f"stiffness is {motion.stiffness}, spacing {motion.spacing} px; expected 0 ≤ 4 stiffness ≤ spacing."
        )
    return np.ascontiguousarray(speed, np.float32)


def evolve(
    speed: NDArray[Any],
    seeds: NDArray[np.integer[Any]],
    *,
    radius: int,
    coupling: Literal["basins", "icy"] = "basins",
    within: Box | None = None,
    motion: Motion | None = None,
) -> Contours:
    """Inflate the outlines of seeds over a speed map; contours never share a pixel.

    A contour descends E = (s / 2h) Σ |p_i+1 − p_i|² − ∫ v over what it encloses, as far as the speed lets it out (see
    the module). A seed with holes has one contour for each; those shrink. Self-intersections are legal: see
    `outlines.fill_polygons` for what is inside.

    Parameters
    ----------
    speed : float array, (y, x)
        v, 0 … 1 px in an iteration.
    seeds : integer array, (y, x)
        Regions 1 … n from which contours start.
    radius : int
        Greatest distance of a contour from its seed, px; `Contours.cut` names the contours that would have gone
        farther.
    coupling : {"basins", "icy"}
        basins: a contour may have the pixels whose nearest seed pixel is its own (ties to the first in raster order);
        elsewhere the speed is 0 for it, so it depends on nothing farther than 2 · radius + 2 px from its seed. icy: all
        move together and push each other: a vertex at a depth d in a neighbour, px, moves by (0.05 v − 0.5 d) n; a push
        may then travel through any number of cells.
    within : Box, optional
        With basins: evolve only the contours that may have a pixel here; the others vanish after no iteration.
    motion : Motion, optional
        Stiffness, spacing and criterion of convergence.

    Returns
    -------
    Contours
        Polygons, and for each whether it converged and whether it was cut.

    Raises
    ------
    InputError
        If shapes or types do not fit, the speed is not within 0 … 1, or the tension would overshoot.
    """
    image = label_image(seeds, "seeds")
    motion = motion or Motion()
    checked = _checked(np.asarray(speed), image, motion)
    polygons = _sorted(outlines(image))
    first, owners = polygons.first, polygons.owners
    basins, _ = nearest_label(image, radius=radius)
    numbers = Numbers(motion.stiffness / motion.spacing, motion.spacing, motion.iterations, motion.tolerance)
    counts = np.zeros((len(owners), 3), np.int64)
    if coupling == "basins":
        ends, only = np.zeros(len(owners) + 1, np.int64), np.zeros(len(first), bool)
        only[basins if within is None else basins[within.slices]] = True
        found = _evolve_in_basins(checked, basins, polygons, numbers, only, ends, counts)
    else:
        found, ends = _evolve_together(np.pad(np.where(basins > 0, checked, 0), 1), polygons, numbers, counts)
        _note_cut(found, ends, polygons, checked, basins, counts)
    return Contours(
        points=found,
        starts=ends,
        owners=owners,
        origins=first,
        iterations=counts[:, 0],
        converged=counts[:, 1] > 0,
        cut=counts[:, 2] > 0,
        basins=basins if coupling == "basins" else None,
        shape=(image.shape[0], image.shape[1]),
    )


def _sorted(polygons: Polygons) -> Polygons:
    """Return polygons in the order of their owners."""
    points, starts, owners, first = polygons
    order = np.argsort(owners, kind="stable")
    lengths = np.diff(starts)[order]
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    index = np.repeat(starts[:-1][order] - ends[:-1], lengths) + np.arange(len(points))
    return Polygons(points[index], ends, owners[order], first)

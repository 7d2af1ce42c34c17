"""Synthetic time-lapses: clusters of touching, moving, dividing cells with exact labels, of any size, block by block.

A block equals the crop of the whole frame, bit for bit. Every pixel is a function of (seed, t, y, x) and of the cells
near it: cells have closed forms in t, noise is a hash, blur is a direct convolution with a margin.

A cell is a star-convex outline around a point or a segment. Its depth at a pixel is the distance from that to the
pixel minus the outline's radius in this direction; a pixel belongs to the cell of least depth, if that is negative.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cellscale.errors import InputError, MissingError
from cellscale.kernels.compiling import kernel
from cellscale.kernels.noise import hashed, smooth_noise
from cellscale.types import Box, Labels

Floats: TypeAlias = NDArray[np.float64]

SPACING = 1.75
"""Distance of neighbouring sites, in radii: below 2, so that neighbours touch."""
REACH = 9.0
"""Greatest distance of a cell, soft boundary included, from its starting point, in radii."""
TAIL = 6.0
"""Distance outside a cell up to which it contributes, for soft boundaries and gaps, px."""
MARGIN = 4
"""Margin around a block that blur and shear read, px."""
BLUR = np.array([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
"""Samples of the point-spread function along an axis."""
ID, Y0, X0, Y1, X1, RADIUS, C2, S2, C3, S3, LIGHT, COS, SIN = range(13)
"""Columns of a table of outlines: from (Y0, X0) to (Y1, X1), harmonics 2 and 3 of the radius, brightness, turn."""
HOME_Y, HOME_X, SIZE, A2, P2, A3, P3, SHINE, HEADING, SPIN, DIVIDES = range(11)
"""Columns of a table of founders: the cells of frame 0."""


@kernel
def _outline(row: Floats, founder: Floats, place: tuple[float, float], shape: tuple[float, float, float]) -> None:
    """Write an outline: its middle; its radius, turn and half the length of its segment."""
    radius, turn, half = shape
    along, across = math.sin(turn), math.cos(turn)
    row[Y0], row[X0] = place[0] - half * along, place[1] - half * across
    row[Y1], row[X1] = place[0] + half * along, place[1] + half * across
    row[RADIUS], row[LIGHT] = radius, founder[SHINE]
    row[C2], row[S2] = founder[A2] * math.cos(founder[P2] + 2 * turn), founder[A2] * math.sin(founder[P2] + 2 * turn)
    row[C3], row[S3] = founder[A3] * math.cos(founder[P3] + 3 * turn), founder[A3] * math.sin(founder[P3] + 3 * turn)
    row[COS], row[SIN] = across, along


@kernel
def _outlines(first: int, founders: Floats, waves: Floats, when: tuple[int, int], rows: Floats) -> int:
    """Write the outlines of founders first, first + 1 … at frame when[0] of a scene of when[1] cells; their number."""
    t, cells = when
    n = 0
    for k in range(founders.shape[0]):
        founder = founders[k]
        y, x, size = founder[HOME_Y], founder[HOME_X], founder[SIZE]
        turn = founder[HEADING] + founder[SPIN] * t
        moved_y, moved_x = y, x
        for w in range(waves.shape[0]):
            phase = waves[w, 0] * y + waves[w, 1] * x + waves[w, 5]
            shift = math.sin(phase + waves[w, 4] * t) - math.sin(phase)
            moved_y += waves[w, 2] * shift
            moved_x += waves[w, 3] * shift
        age = t - founder[DIVIDES]
        if age < 0:
            stretch = 0.1 * max(0.0, 4 + age)
            _outline(rows[n], founder, (moved_y, moved_x), (size * (1 - 0.4 * stretch), turn, size * stretch))
            rows[n, ID] = first + k + 1
            n += 1
        else:
            apart = size * (0.72 - 0.14 / (1 + age))
            for side in range(2):
                sign = 2.0 * side - 1
                place = (moved_y + sign * apart * math.sin(turn), moved_x + sign * apart * math.cos(turn))
                _outline(rows[n], founder, place, (size * (0.76 - 0.06 / (1 + age)), turn + side, 0.0))
                rows[n, ID] = cells + 2 * (first + k) + side + 1
                n += 1
    return n


@kernel
def _depth(row: Floats, y: float, x: float) -> float:
    """Distance from the outline's segment to a pixel minus the radius in this direction; negative inside."""
    dy, dx = row[Y1] - row[Y0], row[X1] - row[X0]
    py, px = y - row[Y0], x - row[X0]
    length = dy * dy + dx * dx
    if length > 0:
        share = min(1.0, max(0.0, (py * dy + px * dx) / length))
        py, px = py - share * dy, px - share * dx
    d = math.sqrt(py * py + px * px)
    radius: float = row[RADIUS]
    if d == 0:
        return -radius
    s, c = py / d, px / d
    second = row[C2] * (c * c - s * s) + row[S2] * 2 * c * s
    third = row[C3] * c * (c * c - 3 * s * s) + row[S3] * s * (3 * c * c - s * s)
    depth: float = d - radius * (1 + second + third)
    return depth


@kernel
def _painted(rows: Floats, corner: tuple[int, int], owner: NDArray[np.int32], depths: Floats) -> None:
    """Write for each pixel the row of least depth, its depth and the least depth of another cell.

    Ties go to the row that comes first; only depths below TAIL count.
    """
    height, width = owner.shape
    owner[:] = -1
    depths[:] = np.inf
    for k in range(rows.shape[0]):
        row = rows[k]
        most = row[RADIUS] * 1.5 + TAIL
        y0 = max(0, math.floor(min(row[Y0], row[Y1]) - most) - corner[0])
        y1 = min(height, math.ceil(max(row[Y0], row[Y1]) + most) + 1 - corner[0])
        x0 = max(0, math.floor(min(row[X0], row[X1]) - most) - corner[1])
        x1 = min(width, math.ceil(max(row[X0], row[X1]) + most) + 1 - corner[1])
        for y in range(y0, y1):
            for x in range(x0, x1):
                d = _depth(row, y + corner[0], x + corner[1])
                if d >= TAIL:
                    continue
                before = owner[y, x]
                same = before >= 0 and rows[before, ID] == row[ID]
                if d < depths[0, y, x]:
                    if not same:
                        depths[1, y, x] = depths[0, y, x]
                    depths[0, y, x] = d
                    owner[y, x] = k
                elif not same and d < depths[1, y, x]:
                    depths[1, y, x] = d


@kernel
def _grain(row: Floats, seed: int, y: float, x: float, size: float) -> float:
    """Texture that moves and turns with a cell, 0 … 1, with grains of `size` px."""
    dy, dx = y - (row[Y0] + row[Y1]) / 2, x - (row[X0] + row[X1]) / 2
    v, u = (row[COS] * dy - row[SIN] * dx) / size, (row[SIN] * dy + row[COS] * dx) / size
    return smooth_noise(seed + int(row[ID]) * 8, v, u)


@kernel
def _light(
    rows: Floats, corner: tuple[int, int], owner: NDArray[np.int32], depths: Floats, seed: int, out: Floats
) -> None:
    """Write fluorescence before the blur: nuclei with chromatin texture, darker where two touch, over a background."""
    for y in range(owner.shape[0]):
        for x in range(owner.shape[1]):
            v, u = y + corner[0], x + corner[1]
            out[y, x] = 380 + 120 * smooth_noise(seed, v / 90, u / 90)
            k = owner[y, x]
            if k < 0:
                continue
            d, gap = depths[0, y, x], depths[1, y, x] - depths[0, y, x]
            rim = min(1.0, max(0.0, 0.5 - d / 2.5))
            seam = max(0.0, 1 - gap / 5)
            dome = min(1.0, max(0.0, min(-d, gap / 2) / 7))
            texture = 0.55 + 0.45 * _grain(rows[k], seed, v, u, 5.5) + 0.35 * _grain(rows[k], seed + 1, v, u, 2.4)
            halo = 0.06 * max(0.0, 1 - d / TAIL) if d > 0 else 0.06
            body = rim * texture * (0.72 + 0.28 * dome) * (1 - 0.5 * seam * seam)
            out[y, x] += rows[k, LIGHT] * (body + halo)


@kernel
def _height(
    rows: Floats, corner: tuple[int, int], owner: NDArray[np.int32], depths: Floats, seed: int, out: Floats
) -> None:
    """Write optical path lengths: domes with organelles and grooves between them, over a faintly dirty glass."""
    for y in range(owner.shape[0]):
        for x in range(owner.shape[1]):
            v, u = y + corner[0], x + corner[1]
            out[y, x] = 0.10 * smooth_noise(seed, v / 4, u / 4) + 0.15 * smooth_noise(seed + 1, v / 25, u / 25)
            k = owner[y, x]
            if k < 0 or depths[0, y, x] >= 0:
                continue
            inward = min(-depths[0, y, x], (depths[1, y, x] - depths[0, y, x]) / 2)
            slope = max(0.0, 1 - inward / 7)
            spot = max(0.0, _grain(rows[k], seed + 2, v, u, 2.6) - 0.6)
            out[y, x] += (1 - slope * slope) * (0.9 + 0.5 * _grain(rows[k], seed + 3, v, u, 6.0)) + 0.9 * spot


@kernel
def _sensed(clean: Floats, corner: tuple[int, int], seed: int, out: NDArray[np.uint16]) -> None:
    """Add shot and read noise, about normal (four uniform 16-bit numbers of one hash), and round to uint16."""
    scale = 1.0 / (65536.0 * math.sqrt(1.0 / 3.0))
    low = np.uint64(0xFFFF)
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            h = hashed(seed, y + corner[0], x + corner[1])
            four = (h & low) + ((h >> np.uint64(16)) & low) + ((h >> np.uint64(32)) & low) + (h >> np.uint64(48))
            normal = (np.float64(four) - 131070.0) * scale
            value = clean[y, x] + normal * math.sqrt(2 * max(0.0, clean[y, x]) + 150)
            out[y, x] = np.uint16(min(65535.0, max(0.0, math.floor(value + 0.5))))


def _landmarks(shape: tuple[int, int]) -> Floats:
    """Outlines of shapes that break naive tiling, in the upper left square of the frame; numbers from 1.

    Two diagonals through the corners of all square tiles, a comb of three arms joined beyond, a U, and two touching
    cells of a quarter and a third of the square's side.
    """
    side = min(shape)
    thin, thick = max(1.5, 0.003 * side), max(2.0, 0.012 * side)
    segments = [(1, 0.03, 0.03, 0.47, 0.47, thin), (2, 0.53, 0.53, 0.97, 0.97, thin)]
    segments += [(3, y, 0.60, y, 0.92, thick) for y in (0.06, 0.13, 0.20)] + [(3, 0.06, 0.92, 0.20, 0.92, thick)]
    segments += [(4, 0.30, x, 0.46, x, thick) for x in (0.68, 0.90)] + [(4, 0.46, 0.68, 0.46, 0.90, thick)]
    segments += [(5, 0.72, 0.18, 0.72, 0.18, 0.125 * side), (6, 0.82, 0.42, 0.82, 0.42, 0.165 * side)]
    rows = np.zeros((len(segments), 13))
    rows[:, [ID, Y0, X0, Y1, X1, RADIUS]] = segments
    rows[:, Y0 : X1 + 1] *= side
    rows[:, LIGHT], rows[:, COS] = 4000.0, 1.0
    return rows


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A synthetic time-lapse; equal fields give equal pixels, in blocks of any size."""

    shape: tuple[int, int, int]
    """Frames, height and width, (t, y, x)."""
    cells: int
    """Cells at frame 0, in addition to the landmarks."""
    look: Literal["fluorescence", "brightfield"] = "fluorescence"
    """Bright nuclei, or relief as in differential interference contrast."""
    seed: int = 0
    """Seed of all random numbers."""
    radius_px: float = 10.0
    """Mean radius of a cell."""
    division_rate: float = 0.01
    """Share of the undivided cells that divide at a frame; a daughter does not divide."""
    landmarks: bool = False
    """Add a comb, a U, two long diagonals and two huge cells, labelled after all other cells."""

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise InputError(f"Scene.shape is {self.shape}; expected three sizes (t, y, x), each at least 1.")
        if self.look not in ("fluorescence", "brightfield"):
            raise InputError(f"Scene.look is {self.look!r}; expected 'fluorescence' or 'brightfield'.")
        if not 0 <= self.seed < 2**32:
            raise InputError(f"Scene.seed is {self.seed}; expected 0 to {2**32 - 1}.")
        if self.cells < 0 or self.radius_px < 4 or not 0 <= self.division_rate < 1:
            raise InputError(
                f"A scene of {self.cells} cells, radius_px {self.radius_px}, division_rate {self.division_rate}; "
                "expected at least 0 cells, a radius of at least 4 px and a rate of at least 0 and below 1."
            )

    def labels(self, t: int, box: Box) -> Labels:
        """Exact labels of a block of frame t, uint32, (y, x).

        Founders are 1 … cells in raster order of their sites, daughters of founder i are cells + 2i − 1 and cells + 2i,
        landmarks are 3 cells + 1 … 3 cells + 6.

        Raises
        ------
        MissingError
            If there is no frame t.
        InputError
            If the box reaches beyond the frame, or the frame has no room for this number of cells.
        """
        self._check(t, box)
        rows, owner, depths = self._canvas(t, box)
        numbers = np.concatenate([rows[:, ID], [0]]).astype(np.uint32)
        return np.where(depths[0] < 0, numbers[owner], 0).astype(np.uint32)

    def image(self, t: int, box: Box) -> NDArray[np.uint16]:
        """Intensities of a block of frame t, uint16, (y, x); errors as in `labels`."""
        self._check(t, box)
        wide = box.grow(MARGIN)
        rows, owner, depths = self._canvas(t, wide)
        clean = np.empty(wide.shape)
        draw = _light if self.look == "fluorescence" else _height
        draw(rows, (wide.y0, wide.x0), owner, depths, self.seed, clean)
        for axis in (0, 1):
            clean = ndimage.correlate1d(clean, BLUR, axis=axis, mode="nearest")
        if self.look == "brightfield":
            clean = self._sheared(clean, wide)
        out = np.empty(box.shape, np.uint16)
        inner = np.ascontiguousarray(clean[box.within(wide).slices])
        _sensed(inner, (box.y0, box.x0), self.seed * 1_000_003 + t + 1, out)
        return out

    def _sheared(self, height: Floats, box: Box) -> Floats:
        """Relief of path lengths under light from the upper left that falls off towards the frame's corners."""
        relief = np.zeros_like(height)
        relief[1:-1, 1:-1] = height[2:, 2:] - height[:-2, :-2]
        y = (np.arange(box.y0, box.y1)[:, None] + 0.5) / self.shape[1] - 0.45
        x = (np.arange(box.x0, box.x1)[None, :] + 0.5) / self.shape[2] - 0.55
        return np.maximum(0.0, 9000 * (1 - 0.35 * (y * y + x * x)) * (1 + 0.33 * relief - 0.05 * height))

    def _check(self, t: int, box: Box) -> None:
        frames, height, width = self.shape
        if not 0 <= t < frames:
            raise MissingError(f"The scene has no frame {t}; it has frames 0 to {frames - 1}.")
        if not (0 <= box.y0 <= box.y1 <= height and 0 <= box.x0 <= box.x1 <= width):
            raise InputError(f"{box} reaches beyond a frame of {height} × {width} px. Clip it to the frame.")

    def _canvas(self, t: int, box: Box) -> tuple[Floats, NDArray[np.int32], Floats]:
        """Outlines near a box, and for each of its pixels the nearest one and the two least depths."""
        rows = self._near(t, box)
        owner, depths = np.empty(box.shape, np.int32), np.empty((2, *box.shape))
        _painted(rows, (box.y0, box.x0), owner, depths)
        return rows, owner, depths

    def _near(self, t: int, box: Box) -> Floats:
        """Outlines whose cells can reach a box at frame t, in ascending order of their labels."""
        reach, homes = REACH * self.radius_px + TAIL, self._founders[:, HOME_Y]
        first, stop = (int(i) for i in np.searchsorted(homes, [box.y0 - reach, box.y1 + reach]))
        band = self._founders[first:stop]
        inside = np.flatnonzero((band[:, HOME_X] >= box.x0 - reach) & (band[:, HOME_X] <= box.x1 + reach))
        rows = np.zeros((2 * inside.size, len(range(SIN + 1))))
        n = 0
        for run in np.split(inside, np.flatnonzero(np.diff(inside) > 1) + 1):
            n += _outlines(first + int(run[0]), band[run], self._waves, (t, self.cells), rows[n:]) if run.size else 0
        rows = rows[:n][np.argsort(rows[:n, ID], kind="stable")]
        if not self.landmarks:
            return rows
        marks = _landmarks(self.shape[1:])
        marks[:, ID] += 3 * self.cells
        return np.concatenate([rows, marks])

    @cached_property
    def _waves(self) -> Floats:
        """Slow shear waves that carry neighbours together: wave vector (y, x), shift (y, x), frequency, phase."""
        random = np.random.default_rng([self.seed, 1])
        angle, phase = 2 * math.pi * random.random((2, 3))
        number = 2 * math.pi / (self.radius_px * random.uniform(35, 70, 3))
        frequency = 2 * math.pi / random.uniform(40, 90, 3)
        shift = 0.9 * self.radius_px
        columns = [number * np.sin(angle), number * np.cos(angle), shift * np.cos(angle), -shift * np.sin(angle)]
        return np.stack([*columns, frequency, phase], axis=1)

    @cached_property
    def _founders(self) -> Floats:
        """Cells of frame 0 in raster order of their sites: a hexagonal grid, filled where slow noise is high."""
        random = np.random.default_rng([self.seed, 0])
        y, x = self._sites(random)
        score = self._crowding(random, y, x) + 0.25 * random.random(y.size)
        if y.size < self.cells:
            raise InputError(
                f"A frame of {self.shape[1]} × {self.shape[2]} px has room for {y.size} cells of radius "
                f"{self.radius_px} px, not for {self.cells}. Make the frame larger or the radius smaller."
            )
        chosen = np.argsort(-score, kind="stable")[: self.cells]
        chosen = chosen[np.argsort(y[chosen], kind="stable")]
        n, uniform = self.cells, random.random((10, self.cells))
        founders = np.empty((n, DIVIDES + 1))
        founders[:, HOME_Y], founders[:, HOME_X] = y[chosen], x[chosen]
        founders[:, SIZE] = self.radius_px * (0.88 + 0.26 * uniform[0])
        founders[:, A2], founders[:, P2] = 0.17 * uniform[1], 2 * math.pi * uniform[2]
        founders[:, A3], founders[:, P3] = 0.06 * uniform[3], 2 * math.pi * uniform[4]
        founders[:, SHINE] = 1800 + 5200 * uniform[5] ** 1.5
        founders[:, HEADING], founders[:, SPIN] = 2 * math.pi * uniform[6], 0.12 * (uniform[7] - 0.5)
        rate = max(self.division_rate, 1e-12)
        founders[:, DIVIDES] = 1 + np.floor(np.log(1 - uniform[8]) / math.log1p(-rate))
        return founders

    def _sites(self, random: np.random.Generator) -> tuple[Floats, Floats]:
        """Points of a jittered hexagonal grid within the frame, away from landmarks, in raster order."""
        pitch, (height, width) = SPACING * self.radius_px, self.shape[1:]
        rows, columns = math.ceil(height / (pitch * math.sqrt(0.75))), math.ceil(width / pitch)
        j, i = (index.ravel() for index in np.indices((rows, columns)))
        shift_y, shift_x = (random.random((2, j.size)) - 0.5) * 0.26 * pitch
        y = (j + 0.5) * pitch * math.sqrt(0.75) + shift_y
        x = (i + 0.25 + 0.5 * (j % 2)) * pitch + shift_x
        inside = (y >= 0) & (y <= height - 1) & (x >= 0) & (x <= width - 1)
        for row in _landmarks(self.shape[1:]) if self.landmarks else ():
            inside &= _clearance(row, y, x) > REACH * self.radius_px
        return y[inside], x[inside]

    def _crowding(self, random: np.random.Generator, y: Floats, x: Floats) -> Floats:
        """Slow noise at points of the frame: cells fill its hills, which makes clusters of a few to some dozens."""
        grain = 3.2 * SPACING * self.radius_px
        coarse = random.random((math.ceil(self.shape[1] / grain) + 2, math.ceil(self.shape[2] / grain) + 2))
        found: Floats = ndimage.map_coordinates(coarse, [y / grain, x / grain], order=3, mode="mirror")
        return found


def _clearance(row: Floats, y: Floats, x: Floats) -> Floats:
    """Distance from points to a landmark, px."""
    dy, dx = row[Y1] - row[Y0], row[X1] - row[X0]
    share = np.clip(((y - row[Y0]) * dy + (x - row[X0]) * dx) / max(dy * dy + dx * dx, 1e-9), 0, 1)
    found: Floats = np.hypot(y - row[Y0] - share * dy, x - row[X0] - share * dx) - row[RADIUS]
    return found

"""Mukherjee and Acton (2015), L2S: region-based segmentation in the presence of intensity inhomogeneity, no training.

A level set φ divides the image f into two regions, in each of which intensity is a Legendre polynomial:

    E = ∫ (f − aᵀB)² H(φ) + ∫ (f − bᵀB)² (1 − H(φ)) + λ (|a|² + |b|²) + ν ∫ δ(φ) |∇φ|

The baseline of the Multi-CellNet paper. The solution is global within its window: results are reproducible only with
the same windows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Literal, Self

import numpy as np
import torch
from numpy.polynomial.legendre import legvander
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

from cellscale.errors import InputError
from cellscale.kernels.distances.transform import distance_transform
from cellscale.methods.intensity import Intensity
from cellscale.methods.parts.decoding import GAP_REACH, above, contact_pixels, fragments, gaps, large_enough
from cellscale.methods.parts.tuning import minimum_areas, searched
from cellscale.methods.protocol import Maps, Networks, Stage
from cellscale.settings.fields import setting
from cellscale.types import Box, Fragments, Labels, Mask, Reach, StoredMaps, Table

Plane = NDArray[np.float64]
"""(y, x)."""


def fit(image: Plane, weight: Plane, bases: tuple[Plane, Plane], ridge: float) -> Plane:
    """The polynomial aᵀB with a = (Σ w BBᵀ + λI)⁻¹ Σ w f B, (y, x); `bases` are P_i at rows and at columns."""
    rows, columns = bases
    n = rows.shape[1]
    pairs_y = (rows[:, :, None] * rows[:, None]).reshape(len(rows), -1)
    pairs_x = (columns[:, :, None] * columns[:, None]).reshape(len(columns), -1)
    moments = (pairs_y.T @ weight @ pairs_x).reshape(n, n, n, n).transpose(0, 2, 1, 3).reshape(n * n, n * n)
    right = (rows.T @ (weight * image) @ columns).reshape(-1)
    a = np.linalg.solve(moments + ridge * np.eye(n * n), right).reshape(n, n)
    fitted: Plane = rows @ a @ columns.T
    return fitted


def curvature(phi: Plane) -> Plane:
    """div(∇φ / |∇φ|), by central differences with a Neumann border."""
    dy, dx = np.gradient(np.pad(phi, 1, mode="edge"))
    norm = np.sqrt(dy**2 + dx**2) + 1e-10
    divergence: Plane = (np.gradient(dy / norm, axis=0) + np.gradient(dx / norm, axis=1))[1:-1, 1:-1]
    return divergence


def nearer_to_distances(phi: Plane, step: float = 0.5) -> Plane:
    """One step of Sussman et al. (1994) towards |∇φ| = 1; the zero level stays."""
    padded = np.pad(phi, 1, mode="edge")
    squares = np.zeros_like(phi)
    for axis in (0, 1):
        slope = np.diff(padded, axis=axis)
        cut = slope[:, 1:-1] if axis == 0 else slope[1:-1]
        before, after = (cut[:-1], cut[1:]) if axis == 0 else (cut[:, :-1], cut[:, 1:])
        up = np.maximum(np.maximum(before, 0) ** 2, np.minimum(after, 0) ** 2)
        down = np.maximum(np.minimum(before, 0) ** 2, np.maximum(after, 0) ** 2)
        squares += np.where(phi > 0, up, down)
    norm: Plane = np.where(phi != 0, np.sqrt(squares), 1.0)
    moved: Plane = phi - step * phi / np.sqrt(phi**2 + 1) * (norm - 1)
    return moved


def signed_distance(mask: Mask) -> Plane:
    """Distance to the boundary of a mask, positive inside, px; ±1 everywhere if there is none."""
    if mask.all() or not mask.any():
        return np.where(mask, 1.0, -1.0)
    phi: Plane = distance_transform(mask).astype(np.float64) - distance_transform(~mask)
    return phi - 0.5 * np.sign(phi)


@dataclass(frozen=True, kw_only=True)
class LegendreLevelSet:
    """L2S: a level set between two polynomial intensities."""

    name: ClassVar[str] = "l2s"
    paper: ClassVar[str] = (
        "S. Mukherjee, S. T. Acton, Region based segmentation in presence of intensity inhomogeneity using Legendre "
        "polynomials, IEEE Signal Processing Letters 2015"
    )
    summary: ClassVar[str] = "level set between two polynomial intensities; no training"
    join: ClassVar[Literal["links", "anchors"]] = "links"
    whole: ClassVar[Literal["exact", "windowed"]] = "windowed"
    maps: ClassVar[tuple[str, ...]] = ("cell",)
    intensity: Intensity = field(default_factory=Intensity)
    channels: int = setting(1, least=1)
    """Number of image channels; the first is segmented."""
    reach: int = 32
    """Margin of a window around its core, px, within which pixels of the frame have an influence."""
    degree: int = 3
    """Highest degree of the polynomials in x and in y."""
    ridge: float = 1.0
    """λ."""
    smoothness: float = 0.1
    """ν; the data force is at most 1."""
    epsilon: float = 2.0
    """ε: width of H and δ, px."""
    iterations: int = 300
    """Most steps."""
    quiet: int = 20
    """Number of consecutive steps with at most 1 of 10,000 pixels changing sides, after which it stops."""
    start: Literal["threshold", "rectangles", "mask"] = "threshold"
    """First mask. threshold: pixels brighter than the mean, smoothed; rectangles: `rectangles`, or a grid of them;
    mask: the user's, an image channel."""
    rectangles: tuple[int, ...] = setting((), before=())
    """Rectangles y0, x0, y1, x1, … of the window, half-open, px; empty: a grid of 20 px every 40 px."""
    mask: int = setting(1, before=1)
    """Number of the image channel that is the user's mask, above 0 on cells (start = mask); set channels to 2."""
    bright: bool = True
    """Whether cells are the inside of the first mask; otherwise its outside."""
    minimum_area: int = 0
    """Smaller objects are dropped, px; fitted by `calibrate`."""

    @cached_property
    def reaches(self) -> Reach:
        """A window has a margin; a gap pixel is linked to its cell."""
        return Reach(reach=self.reach, decode_reach=GAP_REACH, link=GAP_REACH)

    def fit_statistics(self, frames: Iterable[Labels], views: Iterable[Labels] | None = None) -> Self:
        """Nothing to fit."""
        return self

    def targets(self, labels: Labels) -> Maps:
        """The cells; there is no training."""
        return {"cell": (labels > 0).astype(np.uint8)}

    def networks(self) -> dict[str, nn.Module]:
        """None."""
        return {}

    def stages(self) -> tuple[Stage, ...]:
        """None."""
        return ()

    def __post_init__(self) -> None:
        corners = np.reshape(self.rectangles[: len(self.rectangles) // 4 * 4], (-1, 4))
        if len(self.rectangles) % 4 or (corners[:, :2] >= corners[:, 2:]).any() or (corners < 0).any():
            raise InputError(
                f"Setting 'rectangles' is {list(self.rectangles)}; expected y0, x0, y1, x1 of each, y0 < y1, x0 < x1."
            )
        if self.start == "mask" and not 0 < self.mask < self.channels:
            raise InputError(
                f"Setting 'mask' is {self.mask} with {self.channels} channel(s); expected a channel after the first. "
                "Set channels=2 and give the mask as the image's second channel."
            )

    def first_mask(self, window: NDArray[np.float64]) -> Mask:
        """Pixels at which φ starts positive, (y, x), in a window (c, y, x)."""
        image = window[0]
        if self.start == "mask":
            given: Mask = window[self.mask] > 0
            return given
        if self.rectangles and self.start == "rectangles":
            inside = np.zeros(image.shape, bool)
            for y0, x0, y1, x1 in np.reshape(self.rectangles, (-1, 4)).tolist():
                inside[y0:y1, x0:x1] = True
            return inside
        if self.start == "threshold":
            smooth = ndimage.gaussian_filter(image, 2.0, mode="nearest")
            bright: Mask = smooth > smooth.mean()
            return bright
        middle = [(np.arange(n) % 40 >= 10) & (np.arange(n) % 40 < 30) for n in image.shape]
        return np.logical_and.outer(*middle)

    def solved(self, window: NDArray[np.float64]) -> Mask:
        """Descend E on one window (c, y, x); True is foreground."""
        image = window[0]
        rows, columns = (legvander(np.linspace(-1, 1, n), self.degree).astype(np.float64) for n in image.shape)
        phi = signed_distance(self.first_mask(window))
        still = 0
        for _ in range(self.iterations):
            inside = 0.5 * (1 + 2 / np.pi * np.arctan(phi / self.epsilon))
            delta = self.epsilon / np.pi / (self.epsilon**2 + phi**2)
            residuals = [(image - fit(image, w, (rows, columns), self.ridge)) ** 2 for w in (inside, 1 - inside)]
            data = delta * (residuals[1] - residuals[0])
            force = data / max(float(np.abs(data).max()), 1e-12) + self.smoothness * curvature(phi)
            moved = nearer_to_distances(phi + 0.5 / max(float(np.abs(force).max()), 1e-12) * force)
            still = still + 1 if ((moved >= 0) != (phi >= 0)).mean() <= 1e-4 else 0
            phi = moved
            if still >= self.quiet:
                break
        return phi >= 0 if self.bright else phi < 0

    def predict(self, networks: Networks, windows: Tensor) -> dict[str, Tensor]:
        """The mask of each window's first channel, 0 or 1, (n, y, x)."""
        masks = [self.solved(window.cpu().double().numpy()) for window in windows]
        return {"cell": torch.from_numpy(np.stack(masks)).to(windows.device, torch.float32)}

    def decode(self, maps: StoredMaps, valid: Box) -> Fragments:
        """4-connected components; narrow gaps go to the nearest."""
        cells = above(maps["cell"], 0.5)
        return fragments(cells, gaps(cells), GAP_REACH, valid)

    def merge_objects(self, nodes: Table, edges: Table) -> NDArray[np.int64]:
        """Drop small objects."""
        return large_enough(nodes, self.minimum_area)

    def calibrate(self, pairs: Iterable[tuple[StoredMaps, Labels]]) -> Self:
        """Search the minimum area."""
        frames = list(pairs)
        return searched(self, frames, {"minimum_area": minimum_areas(truth for _, truth in frames)})

    def perfect_prediction(self, labels: Labels) -> Maps:
        """Cells without their pixels at other cells: symmetric gaps, so that each is nearest to its own cell."""
        return {"cell": ((labels > 0) & ~contact_pixels(labels)).astype(np.float32)}


L2S = LegendreLevelSet()

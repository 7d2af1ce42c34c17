"""Lux and Matula (2019): a U-Net for markers and cells, and a watershed from the markers.

Markers are eroded cells, so that those of touching cells do not touch. The watershed's basins are local;
the flooding from the markers is computed on the tables of the whole frame.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

from cellscale.kernels.distances.transform import distance_transform, label_distance_transform
from cellscale.kernels.tables import WALL
from cellscale.kernels.touching import separated
from cellscale.kernels.watershed import remove_small_holes
from cellscale.kernels.weights import ronneberger
from cellscale.methods.intensity import Intensity
from cellscale.methods.parts.decoding import SQUARE, above, flooded_cells, marked_basins
from cellscale.methods.parts.optimizers import Adam, one_update
from cellscale.methods.parts.tuning import LEVELS, minimum_areas, searched
from cellscale.methods.protocol import Batch, Maps, Networks, Stage, Terms
from cellscale.networks.unet import UNetShape
from cellscale.settings.fields import setting
from cellscale.types import Box, Fragments, Labels, Mask, Reach, StoredMaps, Table

DISC = 4
"""Radius of the authors' opening, px."""


def weighted_squares(networks: Networks, batch: Batch) -> Terms:
    """Σ w (y − p)² / Σ w of markers and of cells, means over samples."""
    found = probabilities(networks, batch.image)
    weights = batch.targets["weight"]
    whole = weights.sum(dim=(1, 2))
    return {
        name: ((weights * (batch.targets[name].float() - p) ** 2).sum(dim=(1, 2)) / whole).mean()
        for name, p in found.items()
    }


def probabilities(networks: Networks, images: Tensor) -> dict[str, Tensor]:
    """Softmax over the two channels of each head, of the second one, (n, y, x)."""
    scores = networks["unet"](images).float()
    return {"marker": torch.softmax(scores[:, :2], dim=1)[:, 1], "cell": torch.softmax(scores[:, 2:], dim=1)[:, 1]}


def marker_truth(labels: Labels, erosion: float) -> Mask:
    """Cells without the pixels within min(r, half their largest inner distance) of their boundary (ours)."""
    distances = label_distance_transform(labels)
    numbers, cells = np.unique(labels, return_inverse=True)
    limits = np.minimum(erosion, inner_radii(labels, numbers) / 2)
    found: Mask = (labels > 0) & (distances > limits[cells.reshape(labels.shape)])
    return found


def inner_radii(labels: Labels, numbers: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """Largest distance of a pixel of each cell to the cell's boundary, px; the frame's size if there is none."""
    distances = np.minimum(label_distance_transform(labels), max(labels.shape))
    return np.asarray(ndimage.maximum(distances, labels, numbers), np.float64)


def opened(mask: Mask, radius: int) -> Mask:
    """Opening with a disc: pixels that a disc inside the mask covers; they depend on the mask within 2 · radius px."""
    eroded = distance_transform(mask, squared=True) > radius**2
    found: Mask = mask & (distance_transform(~eroded, squared=True) <= radius**2)
    return found


def h_maxima(values: NDArray[np.uint8], h: int, radius: int) -> Mask:
    """Tops that rise by at least h above every path to a higher pixel; a path is followed for at most `radius` px.

    It is the h-maxima transform, values minus the reconstruction of values − h below them (Soille, 2003), with as many
    geodesic steps as the radius has pixels: so a pixel depends on nothing farther away (ours).
    """
    raised = np.maximum(values, h) - h
    for _ in range(radius):
        # One geodesic step: a pixel takes the highest of its 3×3 neighbours, but no more than its own value.
        grown = np.minimum(ndimage.maximum_filter(raised, footprint=SQUARE), values)
        if np.array_equal(grown, raised):
            break
        raised = grown
    found: Mask = values - raised >= h
    return found


@dataclass(frozen=True, kw_only=True)
class Markers:
    """Settings that turn the probability of a marker into markers."""

    threshold: float = setting(240 / 255, most=1.0)
    """A pixel is a marker's if its probability is greater."""
    fill_holes_px: int = 16
    """Holes of at most this area are filled, px; the authors fill all, which is not local."""
    radius: int = setting(-1, fitted=True)
    """Radius of the opening's disc, px; 0: none; −1: fitted by `fit_statistics`, 4 (8 px across, as the authors have
    it) or less where cells are small (ours)."""
    h: float = setting(0.0, before=0.0, most=1.0)
    """Only the h-maxima of the probability above the threshold are markers, and nothing is opened; the authors have it
    for round cells, 3 to 5 of 255. 0: every pixel above the threshold."""
    h_radius: int = setting(32, before=32)
    """Longest path to a higher pixel, px; at least the radius of a cell (ours)."""

    @property
    def disc(self) -> int:
        """The radius, or the authors' before anything is fitted, px."""
        return DISC if self.radius < 0 else self.radius

    @property
    def reach(self) -> int:
        """Radius of the part of the map that decides a marker's pixel, px."""
        return max(self.h_radius, self.fill_holes_px) if self.h else self.fill_holes_px + 2 * self.disc

    def of(self, probability: NDArray[np.uint8]) -> Mask:
        """Above the threshold, holes filled; then opened, or reduced to its h-maxima."""
        solid = remove_small_holes(above(probability, self.threshold), self.fill_holes_px)
        if self.h:
            return solid & h_maxima(probability, max(1, round(255 * self.h)), self.h_radius)
        return opened(solid, self.disc) if self.disc else solid


@dataclass(frozen=True, kw_only=True)
class MuLux:
    """U-Net, softmax heads for markers and cells, weighted squares, watershed on −P(cell) from the markers."""

    name: ClassVar[str] = "mu-lux"
    paper: ClassVar[str] = "F. Lux, P. Matula, DIC image segmentation of dense cell populations, ISBI 2019"
    summary: ClassVar[str] = "U-Net, markers and cells, weighted squares, watershed from the markers"
    join: ClassVar[Literal["links", "anchors"]] = "links"
    whole: ClassVar[Literal["exact", "windowed"]] = "exact"
    maps: ClassVar[tuple[str, ...]] = ("marker", "cell")
    unet: UNetShape = field(default_factory=UNetShape)
    adam: Adam = field(default_factory=Adam)
    markers: Markers = field(default_factory=Markers)
    intensity: Intensity = field(default_factory=lambda: Intensity(rule="equalise"))
    channels: int = setting(1, least=1)
    """Number of image channels."""
    erosion: float = 8.0
    """r: a marker's distance from its cell's boundary, px; less in small cells; not in the paper."""
    border: float = 10.0
    """Term added to the weight 1 between two cells that meet; not in the paper."""
    sigma: float = 5.0
    """Width of its decay with the distances to the nearest two cells, px; not in the paper."""
    threshold: float = setting(0.85, most=1.0)
    """A pixel is a cell's if its probability is greater (216 of 255; 156 for phase contrast); fitted by `calibrate`."""
    minimum_area: int = 0
    """Smaller objects are dropped, px; fitted by `calibrate`; not in the paper."""

    @cached_property
    def reaches(self) -> Reach:
        """A pixel depends on its neighbours, and on the surroundings of a marker.

        Beyond that, markers can only be too many: a link to them leaves the box and is not followed.
        """
        return Reach(
            multiple=self.unet.multiple,
            reach=self.unet.reach,
            decode_reach=max(1, self.markers.reach),
            link=1,
        )

    def fit_statistics(self, frames: Iterable[Labels], views: Iterable[Labels] | None = None) -> Self:
        """Make the opening small enough for the markers of nearly all cells (ours)."""
        if self.markers.radius >= 0:
            return self
        radii = [inner_radii(frame, np.unique(frame[frame > 0])) for frame in frames]
        every = np.concatenate([np.zeros(0), *radii])
        if not len(every):
            return dataclasses.replace(self, markers=dataclasses.replace(self.markers, radius=DISC))
        inside = np.percentile(every - np.minimum(self.erosion, every / 2), 5)
        radius = min(DISC, math.floor(inside / 2))
        return dataclasses.replace(self, markers=dataclasses.replace(self.markers, radius=radius))

    def targets(self, labels: Labels) -> Maps:
        """`marker`, `cell` (uint8) and `weight` (float32) of a crop."""
        border = ronneberger(separated(labels), w0=self.border, sigma=self.sigma)
        return {
            "marker": marker_truth(labels, self.erosion).astype(np.uint8),
            "cell": (labels > 0).astype(np.uint8),
            "weight": 1 + border,
        }

    def networks(self) -> dict[str, nn.Module]:
        """One U-Net, two channels for each head."""
        return {"unet": self.unet.network(self.channels, 4)}

    def stages(self) -> tuple[Stage, ...]:
        """One network, one loss."""
        return (one_update("squares", weighted_squares, self.adam),)

    def predict(self, networks: Networks, windows: Tensor) -> dict[str, Tensor]:
        """Two probabilities, (n, y, x)."""
        return probabilities(networks, windows)

    def decode(self, maps: StoredMaps, valid: Box) -> Fragments:
        """Basins of 255 − P(cell), with the markers at 0."""
        heights = np.clip(255 - maps["cell"].astype(np.int16), 1, WALL - 1).astype(np.uint8)
        return marked_basins(self.markers.of(maps["marker"]), heights, above(maps["cell"], self.threshold), valid)

    def merge_objects(self, nodes: Table, edges: Table) -> NDArray[np.int64]:
        """Join the basins that a marker floods; drop the rest, and small objects."""
        return flooded_cells(nodes, edges, self.minimum_area)

    def calibrate(self, pairs: Iterable[tuple[StoredMaps, Labels]]) -> Self:
        """Search the thresholds and the minimum area."""
        frames = list(pairs)
        areas = minimum_areas(truth for _, truth in frames)
        grid = {"threshold": LEVELS, "markers.threshold": (*LEVELS, 240 / 255), "minimum_area": areas}
        return searched(self, frames, grid)

    def perfect_prediction(self, labels: Labels) -> Maps:
        """Markers and cells; the probability of cells falls towards their boundaries, so that floods meet there."""
        depth = np.minimum(label_distance_transform(labels), 64)
        cell = np.where(labels > 0, 0.87 + 0.002 * depth, 0)
        return {"marker": marker_truth(labels, self.erosion).astype(np.float32), "cell": cell.astype(np.float32)}


MU_LUX = MuLux()

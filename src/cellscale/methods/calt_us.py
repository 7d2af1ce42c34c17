"""Guerrero-Peña et al. (2019): four classes and a loss that adds Youden's J statistic to cross-entropy.

Touching pixels and narrow gaps are classes of their own; gaps count as background when decoded, and cells grow through
touching pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import permutations
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cellscale.kernels.components import connected_components
from cellscale.kernels.distances.transform import distance_transform
from cellscale.kernels.tables import WALL
from cellscale.kernels.touching import grown_through
from cellscale.methods.intensity import Intensity
from cellscale.methods.parts.decoding import (
    SQUARE,
    above,
    contact_pixels,
    flooded_cells,
    large_enough,
    marked_basins,
    renumbered,
)
from cellscale.methods.parts.optimizers import Adam, one_update
from cellscale.methods.parts.tuning import LEVELS, minimum_areas, searched
from cellscale.methods.protocol import Batch, Maps, Networks, Stage, Terms
from cellscale.networks.unet import UNetShape
from cellscale.settings.fields import setting
from cellscale.types import Box, Fragments, Labels, Mask, Reach, StoredMaps, Table

CLASSES = ("background", "cell", "touching", "gap")
GAP_RADIUS = 7
"""Radius of the disc whose closing finds gaps, px."""
SMALLEST_GAP = 8
"""Gaps of fewer pixels are background."""


def j_terms(scores: Tensor, classes: Tensor) -> Tensor:
    """Σ_i Σ_k≠i −log(½ + Σ_p z_i(p) Δ_ik(p)), Δ_ik = (y_i / n_i − y_k / n_k) / 2, of one sample.

    ½ + Σ z_i Δ_ik is the mean of z_i over class i's pixels, minus that over class k's, moved to 0 … 1. Pairs with an
    absent class are left out (ours).

    Parameters
    ----------
    scores : float tensor, (classes, y, x)
        Before softmax.
    classes : int64 tensor, (y, x)
        Truth.
    """
    truth = nn.functional.one_hot(classes, len(scores)).flatten(0, 1).float()
    counts = truth.sum(dim=0)
    means = torch.softmax(scores, dim=0).flatten(1) @ (truth / counts.clamp(min=1))
    present = counts > 0
    terms = [
        -torch.log((0.5 + (means[i, i] - means[i, k]) / 2).clamp(min=1e-6)) * (present[i] & present[k])
        for i, k in permutations(range(len(scores)), 2)
    ]
    return torch.stack(terms).sum()


def regularised_cross_entropy(networks: Networks, batch: Batch, weight: float) -> Terms:
    """Cross-entropy and λ times the J terms, means over samples."""
    scores, truth = networks["unet"](batch.image).float(), batch.targets["classes"].long()
    terms = torch.stack([j_terms(*sample) for sample in zip(scores, truth, strict=True)])
    return {"cross_entropy": nn.functional.cross_entropy(scores, truth), "youden_j": weight * terms.mean()}


def between_cells(labels: Labels) -> Mask:
    """Gaps: what a closing with a disc of GAP_RADIUS px adds to the cells, in components of SMALLEST_GAP px or more."""
    inner = slice(2 * GAP_RADIUS + 1, -2 * GAP_RADIUS - 1)
    outside = np.pad(labels == 0, 2 * GAP_RADIUS + 1, constant_values=True)
    dilated = distance_transform(outside, squared=True) <= GAP_RADIUS**2
    closed = distance_transform(dilated, squared=True) > GAP_RADIUS**2
    components, count = connected_components((closed & outside)[inner, inner], connectivity=8)
    areas = np.bincount(components.ravel(), minlength=count + 1)
    areas[0] = 0
    found: Mask = areas[components] >= SMALLEST_GAP
    return found


def four_classes(labels: Labels) -> NDArray[np.uint8]:
    """Background 0, cell 1, touching 2 (cell pixels with another cell in 3×3, and their 4 neighbours), gap 3."""
    other = contact_pixels(labels, SQUARE)
    touching = distance_transform(~other, squared=True) <= 1
    classes = np.where(between_cells(labels), np.uint8(3), (labels > 0).astype(np.uint8))
    return np.where(touching, np.uint8(2), classes)


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """Rule and thresholds for cell pixels and touching pixels; gaps count as background."""

    rule: Literal["threshold", "map", "watershed"] = "threshold"
    """Thresholds on probabilities, the most probable class, or a watershed from certain cells."""
    cell: float = setting(0.49, most=1.0)
    """A pixel is a cell's if its probability is greater (threshold); fitted by `calibrate`."""
    touching: float = setting(0.05, most=1.0)
    """A pixel is touching, also on a cell, if that probability is greater (threshold); fitted by `calibrate`."""
    growth: int = 5
    """Number of steps by which cells grow through touching pixels, px; not in the paper."""
    seed: float = setting(0.95, most=1.0)
    """A pixel is a seed's if its probability of a cell is greater (watershed)."""
    background: float = setting(0.9, most=1.0)
    """A pixel is background if its probability of background or gap is greater (watershed)."""
    minimum_area: int = 0
    """Smaller objects are dropped, px; fitted by `calibrate`; not in the paper."""

    def basins(self, maps: StoredMaps, valid: Box) -> Fragments:
        """Basins of −(z_cell − z_touching)₊, with the seeds as markers."""
        cell, touching = (maps[name].astype(np.int16) for name in ("cell", "touching"))
        outside = above((255 - np.minimum(cell + touching, 255)).astype(np.uint8), self.background)
        heights = np.minimum(255 - np.maximum(cell - touching, 0), WALL - 1).astype(np.uint8)
        return marked_basins(above(maps["cell"], self.seed), np.maximum(heights, 1), ~outside, valid)

    def masks(self, maps: StoredMaps) -> tuple[Mask, Mask]:
        """Cell and touching pixels."""
        if self.rule == "threshold":
            touching = above(maps["touching"], self.touching)
            return above(maps["cell"], self.cell) & ~touching, touching
        three = np.stack([maps[name].astype(np.int16) for name in CLASSES[1:]])
        likeliest = np.argmax(np.concatenate([255 - three.sum(axis=0, keepdims=True), three]), axis=0)
        return likeliest == 1, likeliest == 2


@dataclass(frozen=True, kw_only=True)
class CaltUS:
    """U-Net, softmax over four classes, cross-entropy and Youden's J statistic."""

    name: ClassVar[str] = "calt-us"
    paper: ClassVar[str] = (
        "F. A. Guerrero-Peña et al., J regularization improves imbalanced multiclass segmentation, arXiv:1910.09783"
    )
    summary: ClassVar[str] = "U-Net, 4 classes (touching, gap), cross-entropy and Youden's J statistic"
    join: ClassVar[Literal["links", "anchors"]] = "links"
    whole: ClassVar[Literal["exact", "windowed"]] = "exact"
    unet: UNetShape = field(default_factory=UNetShape)
    adam: Adam = field(default_factory=Adam)
    decoding: Decoding = field(default_factory=Decoding)
    intensity: Intensity = field(default_factory=Intensity)
    channels: int = setting(1, least=1)
    """Number of image channels."""
    j_weight: float = 0.05
    """λ: the weight of the J terms."""

    @cached_property
    def reaches(self) -> Reach:
        """A touching pixel takes a label of its neighbours and depends on its cell, or in a watershed on them."""
        return Reach(
            multiple=self.unet.multiple,
            reach=self.unet.reach,
            decode_reach=1 if self.decoding.rule == "watershed" else self.decoding.growth,
            link=1,
        )

    @property
    def maps(self) -> tuple[str, ...]:
        """All classes but the background."""
        return CLASSES[1:]

    def fit_statistics(self, frames: Iterable[Labels], views: Iterable[Labels] | None = None) -> Self:
        """Nothing to fit: the J terms count the classes of a sample."""
        return self

    def targets(self, labels: Labels) -> Maps:
        """`classes` (uint8) of a crop."""
        return {"classes": four_classes(labels)}

    def networks(self) -> dict[str, nn.Module]:
        """One U-Net."""
        return {"unet": self.unet.network(self.channels, len(CLASSES))}

    def stages(self) -> tuple[Stage, ...]:
        """One network, one loss."""
        return (one_update("youden-j", partial(regularised_cross_entropy, weight=self.j_weight), self.adam),)

    def predict(self, networks: Networks, windows: Tensor) -> dict[str, Tensor]:
        """Softmax, (n, y, x)."""
        z = torch.softmax(networks["unet"](windows).float(), dim=1)
        return {name: z[:, i] for i, name in enumerate(self.maps, 1)}

    def decode(self, maps: StoredMaps, valid: Box) -> Fragments:
        """4-connected components of the cells, grown through touching pixels; or basins."""
        if self.decoding.rule == "watershed":
            return self.decoding.basins(maps, valid)
        cells, touching = self.decoding.masks(maps)
        components, _ = connected_components(cells, connectivity=4)
        grown = grown_through(components, touching, steps=self.decoding.growth)
        return Fragments(labels=renumbered(grown[valid.slices]))

    def merge_objects(self, nodes: Table, edges: Table) -> NDArray[np.int64]:
        """Put basins together; drop small objects."""
        if self.decoding.rule == "watershed":
            return flooded_cells(nodes, edges, self.decoding.minimum_area)
        return large_enough(nodes, self.decoding.minimum_area)

    def calibrate(self, pairs: Iterable[tuple[StoredMaps, Labels]]) -> Self:
        """Search the thresholds and the minimum area."""
        frames = list(pairs)
        levels = LEVELS if self.decoding.rule == "threshold" else ()
        grid: dict[str, Sequence[Any]] = {
            "decoding.cell": levels,
            "decoding.touching": levels,
            "decoding.minimum_area": minimum_areas(truth for _, truth in frames),
        }
        return searched(self, frames, grid)

    def perfect_prediction(self, labels: Labels) -> Maps:
        """Touching are the cells' pixels at other cells: symmetric, so that each is nearest to its own cell."""
        touching = contact_pixels(labels, SQUARE)
        maps = {"cell": (labels > 0) & ~touching, "touching": touching, "gap": np.zeros_like(touching)}
        return {name: values.astype(np.float32) for name, values in maps.items()}


CALT_US = CaltUS()

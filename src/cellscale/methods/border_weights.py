"""Ronneberger, Fischer and Brox (2015): one probability; the weight of the pixels between cells keeps them apart.

The baseline of two papers, as they train it: a U-Net with one sigmoid channel and border-weighted binary cross-entropy.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from cellscale.kernels.touching import separated
from cellscale.kernels.weights import ronneberger
from cellscale.methods.intensity import Intensity
from cellscale.methods.parts.binary_masks import gaps_to_fill, perfect_mask, probability, weighted_bce
from cellscale.methods.parts.class_balance import Balance, counted, foreground
from cellscale.methods.parts.decoding import GAP_REACH, above
from cellscale.methods.parts.optimizers import Adam, one_update
from cellscale.methods.parts.postprocessing import Postprocessing
from cellscale.methods.parts.tuning import LEVELS, minimum_areas, searched
from cellscale.methods.protocol import Batch, Maps, Networks, Stage, Terms
from cellscale.networks.unet import UNetShape
from cellscale.settings.fields import setting
from cellscale.types import Box, Fragments, Labels, Reach, StoredMaps, Table


def border_weighted_bce(networks: Networks, batch: Batch) -> Terms:
    """Mean over pixels of w(p) · binary cross-entropy."""
    scores = networks["unet"](batch.image)[:, 0]
    return {"bce": weighted_bce(scores, batch.targets["cell"], batch.targets["weight"])}


@dataclass(frozen=True, kw_only=True)
class BorderWeightedUNet:
    """U-Net, one sigmoid channel, w = w_c + a · exp(−(d1 + d2)² / 2σ²) outside cells."""

    name: ClassVar[str] = "unet-ronneberger"
    paper: ClassVar[str] = "O. Ronneberger, P. Fischer, T. Brox, U-Net, MICCAI 2015"
    summary: ClassVar[str] = "U-Net, one sigmoid channel, border-weighted binary cross-entropy"
    join: ClassVar[Literal["links", "anchors"]] = "links"
    whole: ClassVar[Literal["exact", "windowed"]] = "exact"
    unet: UNetShape = field(default_factory=UNetShape)
    adam: Adam = field(default_factory=Adam)
    intensity: Intensity = field(default_factory=Intensity)
    channels: int = setting(1, least=1)
    """Number of image channels."""
    border: float = 10.0
    """a: additional weight where two cells meet."""
    sigma: float = 5.0
    """Width of its decay with the distances to the nearest two cells, px."""
    squares: bool = False
    """Use d1² + d2² instead of (d1 + d2)²."""
    balance: Balance = field(default_factory=Balance)
    scale: Literal["rarest", "background"] = setting("rarest", before="rarest")
    """Pixels with w_c = 1: those of the rarer class, or of the background, as Torr et al. (2020) print it. With
    cells on a fifth of the pixels the border then weighs four times less against the rest."""
    class_counts: tuple[int, ...] = setting((), fitted=True)
    """Pixels of background and cells that training sees; empty: fitted by `fit_statistics`, and both weigh 1 until
    then."""
    threshold: float = setting(0.5, most=1.0)
    """A pixel is a cell's if its probability is greater; fitted by `calibrate`."""
    fill_radius: int = 2
    """Greatest distance at which gaps of one or two pixels are assigned to the nearest cell, px; 0: gaps stay; not in
    the papers."""
    minimum_area: int = 0
    """Smaller objects are dropped, px; fitted by `calibrate`."""
    postprocessing: Postprocessing = field(default_factory=Postprocessing)
    """Holes, specks and necks, as Torr et al. (2020) clean up their baseline; nothing unless set."""

    @cached_property
    def reaches(self) -> Reach:
        """A gap pixel is linked to its cell and depends on the cells around it."""
        return Reach(
            multiple=self.unet.multiple,
            reach=self.unet.reach,
            decode_reach=max(self.fill_radius, GAP_REACH) + self.postprocessing.reach,
            link=max(1, self.fill_radius),
        )

    @property
    def maps(self) -> tuple[str, ...]:
        """One probability."""
        return ("cell",)

    def fit_statistics(self, frames: Iterable[Labels], views: Iterable[Labels] | None = None) -> Self:
        """Count background and cell pixels."""
        counts = self.class_counts or counted(frames if views is None else views, foreground, 2)
        return dataclasses.replace(self, class_counts=counts)

    def targets(self, labels: Labels) -> Maps:
        """`cell` (uint8) and `weight` (float32) of a crop; the rarer class has w_c = 1."""
        cells = separated(labels)
        inside = (cells > 0).astype(np.uint8)
        balance = self.class_weights()[inside]
        border = ronneberger(cells, w0=self.border, sigma=self.sigma, squares=self.squares)
        return {"cell": inside, "weight": (balance + np.where(inside, 0, border)).astype(np.float32)}

    def class_weights(self) -> NDArray[np.float32]:
        """w_c of background and cells, (2,)."""
        counts = self.class_counts or (1, 1)
        if self.scale == "background":
            return np.array([1, self.balance.ratio(*counts)], np.float32)
        return self.balance.of(counts)

    def networks(self) -> dict[str, nn.Module]:
        """One U-Net."""
        return {"unet": self.unet.network(self.channels, 1)}

    def stages(self) -> tuple[Stage, ...]:
        """One network, one loss."""
        return (one_update("cross-entropy", border_weighted_bce, self.adam),)

    def predict(self, networks: Networks, windows: Tensor) -> dict[str, Tensor]:
        """The sigmoid of the only channel, (n, y, x)."""
        return probability(networks, windows)

    def decode(self, maps: StoredMaps, valid: Box) -> Fragments:
        """4-connected components of the cells; narrow gaps go to the nearest."""
        cells = self.postprocessing.filled(above(maps["cell"], self.threshold))
        return self.postprocessing.fragments(
            cells, gaps_to_fill(cells, self.fill_radius), self.fill_radius, valid, maps["cell"]
        )

    def merge_objects(self, nodes: Table, edges: Table) -> NDArray[np.int64]:
        """Drop small objects."""
        return self.postprocessing.merge_objects(nodes, edges, self.minimum_area)

    def calibrate(self, pairs: Iterable[tuple[StoredMaps, Labels]]) -> Self:
        """Search the threshold, the minimum area and the post-processing."""
        frames = list(pairs)
        areas = minimum_areas(truth for _, truth in frames)
        grid = {"threshold": LEVELS, "minimum_area": areas, **self.postprocessing.choices()}
        return searched(self, frames, grid, together=self.postprocessing.together_with("threshold"))

    def perfect_prediction(self, labels: Labels) -> Maps:
        """Cells without their pixels at other cells: symmetric gaps, so that each is nearest to its own cell."""
        return perfect_mask(labels)


UNET_RONNEBERGER = BorderWeightedUNet()

"""Lin and Norouzi (2021): a loss that looks at the rims of cells, with Mask R-CNN and with U-Net.

Three losses of a mask (binary cross-entropy, focal, shape-aware: eq. 2 and 3) and two architectures. Mask R-CNN gives
instances; U-Net gives a mask whose components are the cells.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, Literal, Self, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cellscale.arrays import Box, Labels, Pieces, StoredMaps, Table
from cellscale.intensity import Intensity
from cellscale.kernels.touching import separated
from cellscale.kernels.weights import rim_weights
from cellscale.methods.descent import Adam
from cellscale.methods.objects import GAP_REACH, above, gaps, large_enough, pieces, rims
from cellscale.methods.protocol import Batch, Maps, Networks, Stage, Terms, Update
from cellscale.methods.search import LEVELS, minimum_areas, searched
from cellscale.networks.unet import UNetShape

PAPER = "S. Lin, N. Norouzi, An effective deep learning framework for cell segmentation in microscopy images, EMBC 2021"
Kind: TypeAlias = Literal["shape-aware", "bce", "focal"]


@dataclass(frozen=True, kw_only=True)
class MaskLoss:
    """What a pixel of a mask costs: binary cross-entropy, as it is or weighted."""

    kind: Kind = "shape-aware"
    """Shape-aware weights, none (bce), or (1 − p)^γ (focal)."""
    alpha: float = 10.0
    """α: what is added on a rim (shape-aware)."""
    sigma: float = 5.0
    """σ: how fast that falls with the distance to the rim, px (shape-aware)."""
    gamma: float = 2.0
    """γ: how much less a pixel counts that is right already (focal); not stated in the paper."""
    ratio: float = 1.0
    """w_c of cell pixels: background pixels for each cell pixel in the training frames (shape-aware); fitted by
    `prepared`."""

    def prepared(self, background: int, foreground: int) -> Self:
        """Fit w_c."""
        return dataclasses.replace(self, ratio=background / max(1, foreground))

    def weights(self, labels: Labels) -> NDArray[np.float32]:
        """Equation 3: w_c + α · exp(−D² / 2σ²), w_c = 1 on background; 1 everywhere for the other losses."""
        if self.kind != "shape-aware":
            return np.ones(labels.shape, np.float32)
        balance = np.where(labels > 0, np.float32(self.ratio), np.float32(1))
        return balance + rim_weights(labels, alpha=self.alpha, sigma=self.sigma)

    def of_masks(self, scores: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
        """Equation 2 as a weighted mean: Σ w · CE / Σ w of each mask (n, y, x), (n,)."""
        surprise = nn.functional.binary_cross_entropy_with_logits(scores, truth, reduction="none")
        if self.kind == "focal":
            surprise = (1 - torch.exp(-surprise)) ** self.gamma * surprise
        return (weights * surprise).sum(dim=(1, 2)) / weights.sum(dim=(1, 2))


def class_counts(labels: Iterable[Labels]) -> tuple[int, int]:
    """Background and cell pixels of frames."""
    counts = np.zeros(2, np.int64)
    for frame in labels:
        counts += np.bincount((frame > 0).ravel(), minlength=2)
    return int(counts[0]), int(counts[1])


def unet_loss(networks: Networks, batch: Batch, loss: MaskLoss) -> Terms:
    """Mean over samples."""
    scores = networks["unet"](batch.image).float()[:, 0]
    return {loss.kind: loss.of_masks(scores, batch.targets["cell"].float(), batch.targets["weight"]).mean()}


@dataclass(frozen=True, kw_only=True)
class BinaryUNet:
    """U-Net, one sigmoid channel; the cells are the components of its mask."""

    name: ClassVar[str] = "unet-binary"
    paper: ClassVar[str] = PAPER
    summary: ClassVar[str] = "U-Net, one sigmoid channel; shape-aware loss, cross-entropy or focal loss"
    join: ClassVar[Literal["links", "anchors"]] = "links"
    whole: ClassVar[Literal["exact", "windowed"]] = "exact"
    loss: MaskLoss = field(default_factory=MaskLoss)
    unet: UNetShape = field(default_factory=UNetShape)
    adam: Adam = field(default_factory=Adam)
    intensity: Intensity = field(default_factory=Intensity)
    channels: int = 1
    """Number of image channels."""
    threshold: float = 0.5
    """A pixel is a cell's if its probability is greater; fitted by `tuned`."""
    fill_radius: int = 2
    """Gaps of one or two pixels between cells go to the nearest cell at most this far away, px; 0: to none; not in
    the paper."""
    minimum_area: int = 0
    """Smaller objects are dropped, px; fitted by `tuned`; not in the paper."""

    @property
    def multiple(self) -> int:
        """Window sizes are multiples of this, px."""
        return self.unet.multiple

    @property
    def reach(self) -> int:
        """How far a prediction looks, one side, px."""
        return self.unet.reach

    @property
    def decode_reach(self) -> int:
        """A gap pixel looks for its cell and at the cells around it, px."""
        return max(self.fill_radius, GAP_REACH)

    @property
    def link(self) -> int:
        """Longest distance from a gap pixel to its cell, px."""
        return max(1, self.fill_radius)

    @property
    def maps(self) -> tuple[str, ...]:
        """One probability."""
        return ("cell",)

    def prepared(self, labels: Iterable[Labels]) -> Self:
        """Fit w_c."""
        return dataclasses.replace(self, loss=self.loss.prepared(*class_counts(map(separated, labels))))

    def targets(self, labels: Labels) -> Maps:
        """`cell` (uint8) and `weight` (float32) of a crop; a gap of one pixel parts touching cells (ours)."""
        cells = separated(labels)
        return {"cell": (cells > 0).astype(np.uint8), "weight": self.loss.weights(cells)}

    def networks(self) -> dict[str, nn.Module]:
        """One U-Net."""
        return {"unet": self.unet.network(self.channels, 1)}

    def stages(self) -> tuple[Stage, ...]:
        """One network, one loss."""
        update = Update(
            trains=("unet",),
            loss=partial(unet_loss, loss=self.loss),
            optimizer=self.adam.optimizer,
            learning_rate=self.adam.factor,
        )
        return (Stage(name=self.loss.kind, updates=(update,)),)

    def predict(self, networks: Networks, windows: Tensor) -> dict[str, Tensor]:
        """The sigmoid of the only channel, (n, y, x)."""
        return {"cell": torch.sigmoid(networks["unet"](windows).float()[:, 0])}

    def decode(self, maps: StoredMaps, valid: Box) -> Pieces:
        """4-connected components of the cells; narrow gaps go to the nearest."""
        cells = above(maps["cell"], self.threshold)
        between = gaps(cells) if self.fill_radius else np.zeros_like(cells)
        return pieces(cells, between, self.fill_radius, valid)

    def unite(self, nodes: Table, edges: Table) -> NDArray[np.int64]:
        """Drop small objects."""
        return large_enough(nodes, self.minimum_area)

    def tuned(self, pairs: Iterable[tuple[StoredMaps, Labels]]) -> Self:
        """Search the threshold and the minimum area."""
        frames = list(pairs)
        areas = minimum_areas(truth for _, truth in frames)
        return searched(self, frames, {"threshold": LEVELS, "minimum_area": areas})

    def ideal(self, labels: Labels) -> Maps:
        """Cells without their pixels at other cells: symmetric gaps, so that each is nearest to its own cell."""
        return {"cell": ((labels > 0) & ~rims(labels)).astype(np.float32)}


UNET_BINARY = BinaryUNet()

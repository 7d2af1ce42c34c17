"""Lin and Norouzi (2021): a loss with weights at the boundaries of cells, for Mask R-CNN and U-Net.

Three losses of a mask (binary cross-entropy, focal, shape-aware: eq. 2 and 3) and two architectures. Mask R-CNN gives
instances; U-Net gives a mask whose components are the cells.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, ClassVar, Literal, Self, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cellscale.errors import InputError
from cellscale.kernels.candidates import painted, unsuppressed
from cellscale.kernels.touching import separated
from cellscale.kernels.weights import boundary_weights
from cellscale.methods.intensity import Intensity
from cellscale.methods.parts.binary_masks import gaps_to_fill, perfect_mask, probability
from cellscale.methods.parts.cell_sizes import TYPICAL, Cells
from cellscale.methods.parts.class_balance import Balance, counted, foreground
from cellscale.methods.parts.decoding import GAP_REACH, above, fragments, large_enough, renumbered
from cellscale.methods.parts.focal import focal
from cellscale.methods.parts.optimizers import Adam, one_update
from cellscale.methods.parts.tuning import LEVELS, minimum_areas, searched
from cellscale.methods.protocol import Batch, Maps, Networks, Stage, Terms, Update
from cellscale.networks.unet import UNetShape
from cellscale.settings.fields import setting
from cellscale.types import Box, Candidates, Fragments, Labels, Reach, StoredMaps, Table

PAPER = "S. Lin, N. Norouzi, An effective deep learning framework for cell segmentation in microscopy images, EMBC 2021"
Kind: TypeAlias = Literal["shape-aware", "bce", "focal"]


@dataclass(frozen=True, kw_only=True)
class MaskLoss:
    """Loss of a mask's pixels: binary cross-entropy, as it is or weighted."""

    kind: Kind = "shape-aware"
    """Shape-aware weights, none (bce), or (1 − p)^γ (focal)."""
    alpha: float = 10.0
    """α: additional weight on a boundary pixel (shape-aware)."""
    sigma: float = 5.0
    """σ: width of its decay with the distance to the boundary, px (shape-aware)."""
    gamma: float = 2.0
    """γ: exponent that reduces the weight of correctly classified pixels (focal); not stated in the paper."""
    balance: Balance = field(default_factory=Balance)
    ratio: float = setting(0.0, fitted=True)
    """w_c of cell pixels: background pixels for each cell pixel in the training samples (shape-aware); 0: fitted by
    `fit_statistics`, and 1 until then."""

    def fit_statistics(self, views: Iterable[Labels], classes: Callable[[Labels], NDArray[np.uint8]]) -> Self:
        """Fit w_c on the pixels of `classes` 0 and 1."""
        return dataclasses.replace(self, ratio=self.ratio or self.balance.ratio(*counted(views, classes, 2)))

    def weights(self, labels: Labels) -> NDArray[np.float32]:
        """Equation 3: w_c + α · exp(−D² / 2σ²), w_c = 1 on background; 1 everywhere for the other losses."""
        if self.kind != "shape-aware":
            return np.ones(labels.shape, np.float32)
        balance = np.where(labels > 0, np.float32(self.ratio or 1), np.float32(1))
        return balance + boundary_weights(labels, alpha=self.alpha, sigma=self.sigma)

    def of_masks(self, scores: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
        """Equation 2 as a weighted mean: Σ w · CE / Σ w of each mask (n, y, x), (n,)."""
        surprise = nn.functional.binary_cross_entropy_with_logits(scores, truth, reduction="none")
        if self.kind == "focal":
            surprise = focal(surprise, self.gamma)
        return (weights * surprise).sum(dim=(1, 2)) / weights.sum(dim=(1, 2))


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
    channels: int = setting(1, least=1)
    """Number of image channels."""
    threshold: float = setting(0.5, most=1.0)
    """A pixel is a cell's if its probability is greater; fitted by `calibrate`."""
    fill_radius: int = 2
    """Gaps of one or two pixels between cells go to the nearest cell at most this far away, px; 0: to none; not in
    the paper."""
    minimum_area: int = 0
    """Smaller objects are dropped, px; fitted by `calibrate`; not in the paper."""

    @cached_property
    def reaches(self) -> Reach:
        """A gap pixel is linked to its cell and depends on the cells around it."""
        return Reach(
            multiple=self.unet.multiple,
            reach=self.unet.reach,
            decode_reach=max(self.fill_radius, GAP_REACH),
            link=max(1, self.fill_radius),
        )

    @property
    def maps(self) -> tuple[str, ...]:
        """One probability."""
        return ("cell",)

    def fit_statistics(self, frames: Iterable[Labels], views: Iterable[Labels] | None = None) -> Self:
        """Fit w_c."""
        return dataclasses.replace(self, loss=self.loss.fit_statistics(frames if views is None else views, foreground))

    def targets(self, labels: Labels) -> Maps:
        """`cell` (uint8) and `weight` (float32) of a crop; a gap of one pixel separates touching cells (ours)."""
        cells = separated(labels)
        return {"cell": (cells > 0).astype(np.uint8), "weight": self.loss.weights(cells)}

    def networks(self) -> dict[str, nn.Module]:
        """One U-Net."""
        return {"unet": self.unet.network(self.channels, 1)}

    def stages(self) -> tuple[Stage, ...]:
        """One network, one loss."""
        return (one_update(self.loss.kind, partial(unet_loss, loss=self.loss), self.adam),)

    def predict(self, networks: Networks, windows: Tensor) -> dict[str, Tensor]:
        """The sigmoid of the only channel, (n, y, x)."""
        return probability(networks, windows)

    def decode(self, maps: StoredMaps, valid: Box) -> Fragments:
        """4-connected components of the cells; narrow gaps go to the nearest."""
        cells = above(maps["cell"], self.threshold)
        return fragments(cells, gaps_to_fill(cells, self.fill_radius), self.fill_radius, valid)

    def merge_objects(self, nodes: Table, edges: Table) -> NDArray[np.int64]:
        """Drop small objects."""
        return large_enough(nodes, self.minimum_area)

    def calibrate(self, pairs: Iterable[tuple[StoredMaps, Labels]]) -> Self:
        """Search the threshold and the minimum area."""
        frames = list(pairs)
        areas = minimum_areas(truth for _, truth in frames)
        return searched(self, frames, {"threshold": LEVELS, "minimum_area": areas})

    def perfect_prediction(self, labels: Labels) -> Maps:
        """Cells without their pixels at other cells: symmetric gaps, so that each is nearest to its own cell."""
        return perfect_mask(labels)


UNET_BINARY = BinaryUNet()


def mask_rcnn_loss(networks: Networks, batch: Batch, loss: MaskLoss) -> Terms:
    """The five terms of Mask R-CNN."""
    from cellscale.networks.mask_rcnn import losses

    net: Any = networks["mask_rcnn"]
    return losses(net, batch.image, batch.labels, batch.targets["weight"], loss.of_masks)


def start_from(networks: Networks, source: str) -> None:
    """Start from torchvision's weights."""
    from cellscale.networks.pretrained import pretrained

    pretrained(networks, source)


@dataclass(frozen=True, kw_only=True)
class Detection:
    """Size of the network, and rules that select its candidates."""

    backbone: Literal["small", "resnet50"] = "small"
    """The paper's ResNet-50 with a feature pyramid, or one that trains on a laptop (ours)."""
    width: int = 16
    """Features of the small backbone's first layer; its pyramid has four times as many."""
    weights: str = ""
    """Torchvision's weights that the training starts from (resnet50): coco, imagenet, or a file; empty: fresh ones."""
    sizes_per_level: int = setting(0, before=2)
    """Sizes of anchors at each level, 1 or 2; 0: one with `weights`, whose proposal layers have one, else two."""
    batch_norm: Literal["auto", "trained", "frozen"] = setting("auto", before="trained")
    """Whether BatchNorm of ResNet-50 is trained, or keeps the statistics of `weights`; auto: frozen with `weights`."""
    samples: int = 64
    """Number of proposals of a crop on which the box head is trained."""
    spare: float = 4.0
    """Limit on detections, as a multiple of the cell density of the training frames; proposals: ten times as many."""
    growth: float = 1.5
    """Greatest length of a cell, as a multiple of the longest in the training frames; larger boxes are dropped and
    counted."""
    overlap: int = 0
    """Margin of windows around their cores, px; 0: the longest side of a box."""
    score: float = setting(0.5, most=1.0)
    """Candidates with a lower score are dropped; fitted by `calibrate`."""
    most_overlap: float = setting(0.5, most=1.0)
    """A candidate whose box overlaps one of a higher key more (common over joint area) is dropped."""
    minimum_area: int = 0
    """Smaller objects are dropped, px; fitted by `calibrate`; not in the paper."""

    def __post_init__(self) -> None:
        if self.sizes_per_level not in (0, 1, 2):
            raise InputError(f"Setting 'sizes_per_level' is {self.sizes_per_level}; expected 1 or 2, or 0.")
        if self.weights and self.backbone != "resnet50":
            raise InputError(
                f"Setting 'weights' is {self.weights!r}, which fits ResNet-50; the backbone is {self.backbone!r}. Set "
                "backbone=resnet50."
            )

    @property
    def frozen(self) -> bool:
        """Whether BatchNorm keeps its statistics."""
        return self.batch_norm == "frozen" or (self.batch_norm == "auto" and bool(self.weights))


@dataclass(frozen=True, kw_only=True)
class MaskRCNN:
    """Mask R-CNN with the shape-aware loss in its mask head; the other terms are torchvision's."""

    name: ClassVar[str] = "maskrcnn"
    paper: ClassVar[str] = PAPER
    summary: ClassVar[str] = "Mask R-CNN; shape-aware loss, cross-entropy or focal loss of its masks"
    join: ClassVar[Literal["links", "anchors"]] = "anchors"
    whole: ClassVar[Literal["exact", "windowed"]] = "windowed"
    maps: ClassVar[tuple[str, ...]] = ()
    mask_loss: MaskLoss = field(default_factory=MaskLoss)
    detection: Detection = field(default_factory=Detection)
    cells: Cells = field(default_factory=Cells)
    adam: Adam = field(default_factory=lambda: Adam(learning_rate=5e-4))
    intensity: Intensity = field(default_factory=Intensity)
    channels: int = setting(1, least=1)
    """Number of image channels."""
    patience: int = 0
    """Stop after this number of validations without a better score; 0: never. (The paper stops early, and divides the
    learning rate by ten every three epochs; half a cosine is ours.)"""

    def __post_init__(self) -> None:
        if self.detection.backbone == "resnet50" and self.channels not in (1, 3):
            raise InputError(
                f"Setting 'channels' is {self.channels} with the backbone 'resnet50'; expected 1 or 3, grey or "
                "colour. Set channels=1 or channels=3, or backbone=small."
            )

    @property
    def longest(self) -> int:
        """Longest side of a candidate's box, px."""
        return math.ceil(self.detection.growth * self.cells.or_else(TYPICAL).longest)

    @cached_property
    def reaches(self) -> Reach:
        """A pixel's candidates, and those that suppress them, have a pixel within a box's length of it."""
        # A prediction depends on its whole window: here `reach` is how far windows overlap.
        overlap = self.detection.overlap or self.longest
        return Reach(multiple=64, reach=overlap, decode_reach=self.longest - 1, link=1)

    def fit_statistics(self, frames: Iterable[Labels], views: Iterable[Labels] | None = None) -> Self:
        """Fit w_c and measure the cells."""
        seen = frames if views is not None else list(frames)
        loss = self.mask_loss.fit_statistics(
            seen if views is None else views, lambda labels: (labels > 0).astype(np.uint8)
        )
        return dataclasses.replace(self, mask_loss=loss, cells=self.cells.or_else(Cells.of(seen)))

    def targets(self, labels: Labels) -> Maps:
        """`weight` (float32) of a crop; boxes and masks follow from the labels."""
        return {"weight": self.mask_loss.weights(labels)}

    def networks(self) -> dict[str, nn.Module]:
        """One Mask R-CNN."""
        from cellscale.networks import mask_rcnn

        chosen = self.detection
        shape = mask_rcnn.Shape(
            backbone=chosen.backbone,
            width=chosen.width,
            cell_size=self.cells.or_else(TYPICAL).size,
            samples=chosen.samples,
            sizes_per_level=chosen.sizes_per_level or (1 if chosen.weights else 2),
            frozen=chosen.frozen,
            # As in torchvision: these weights were trained with variances alone.
            epsilon=0.0 if chosen.weights == "coco" else 1e-5,
        )
        return {"mask_rcnn": mask_rcnn.MaskRCNN(self.channels, shape)}

    def stages(self) -> tuple[Stage, ...]:
        """All parts learn together, from weights in a file if one is named."""
        update = Update(
            trains=("mask_rcnn",),
            loss=partial(mask_rcnn_loss, loss=self.mask_loss),
            optimizer=self.adam.optimizer,
            learning_rate=self.adam.factor,
        )
        learn = Stage(name=self.mask_loss.kind, updates=(update,), patience=self.patience or None)
        source = self.detection.weights
        start = Stage(name="weights", updates=(), share=0.0, on_end=partial(start_from, source=source))
        return (start, learn) if source else (learn,)

    def predict(self, networks: Networks, windows: Tensor) -> list[Candidates]:
        """Boxes, scores and masks of each window, at most as many as its area allows."""
        from cellscale.networks.mask_rcnn import detected

        net: Any = networks["mask_rcnn"]
        area = windows.shape[2] * windows.shape[3]
        most = max(16, math.ceil(self.detection.spare * self.cells.or_else(TYPICAL).density * area / 1e6))
        found = detected(net, windows, proposals=max(200, 10 * most), detections=most)
        shape = (windows.shape[2], windows.shape[3])
        return [self.candidates(one.boxes, one.scores, one.masks, one.full, shape) for one in found]

    def candidates(
        self, boxes: Tensor, scores: Tensor, masks: Tensor, full: Mapping[str, bool], shape: tuple[int, int]
    ) -> Candidates:
        """In whole numbers, without boxes that are too long."""
        short = (boxes[:, 2:] - boxes[:, :2]).amax(dim=1) <= self.longest
        found = boxes[short].cpu().numpy().astype(np.int32)
        return Candidates(
            shape=shape,
            boxes=found,
            anchors=np.maximum(found[:, :2], 0),
            scores=(scores[short].float() * 65535).round().cpu().numpy().astype(np.uint16),
            masks=(masks[short].float() * 255).round().cpu().numpy().astype(np.uint8),
            reached={**full, "longest": int((~short).sum())},
        )

    def decode(self, candidates: Candidates, valid: Box) -> Fragments:
        """One suppression step; each pixel goes to the greatest mask probability times score."""
        good = candidates.some(candidates.scores > math.floor(65535 * self.detection.score + 1e-9))
        kept = good.some(unsuppressed(good, most=self.detection.most_overlap)).within(valid)
        owner = painted(kept)
        present = np.unique(owner[owner > 0])
        return Fragments(labels=renumbered(owner.astype(np.uint32)), anchors=kept.anchors[present - 1].astype(np.int64))

    def merge_objects(self, nodes: Table, edges: Table) -> NDArray[np.int64]:
        """Drop small objects."""
        return large_enough(nodes, self.detection.minimum_area)

    def calibrate(self, pairs: Iterable[tuple[Candidates, Labels]]) -> Self:
        """Search the score and the minimum area."""
        frames = list(pairs)
        areas = minimum_areas(truth for _, truth in frames)
        return searched(self, frames, {"detection.score": LEVELS, "detection.minimum_area": areas})

    def perfect_prediction(self, labels: Labels) -> Candidates:
        """The true cells on the grids of their boxes, all certain."""
        from cellscale.networks.mask_rcnn import on_boxes, truth_of

        truth = truth_of(torch.from_numpy(labels.astype(np.int64)))
        which = torch.arange(len(truth["boxes"]))
        masks = on_boxes(truth["masks"].float()[:, None], which, truth["boxes"])
        boxes = truth["boxes"][:, [1, 0, 3, 2]].long()
        return self.candidates(boxes, torch.ones(len(which)), masks, {}, (labels.shape[0], labels.shape[1]))


MASK_RCNN = MaskRCNN()

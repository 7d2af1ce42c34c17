"""Guerrero-Peña et al. (2018): a third class for touching pixels and weights that look at the shape of cells.

A U-Net learns background, cell and touching (Algorithm 1) with weighted cross-entropy (eq. 1). Methods differ in the
weights: border (unet2, unet3), focal, distance transform (dwm, eq. 2) and shape-aware (saw, eq. 3 and 4). Algorithm 2
gives the touching pixels to their nearest cell.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, ClassVar, Literal, Self, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cellscale.kernels.touching import separated, touching_classes
from cellscale.kernels.weights import distance_weights, ronneberger, saw_tau, shape_aware_weights
from cellscale.methods.intensity import Intensity
from cellscale.methods.parts.class_balance import Balance, counted
from cellscale.methods.parts.decoding import GAP_REACH, above, contact_pixels, fragments, gaps, large_enough
from cellscale.methods.parts.focal import focal
from cellscale.methods.parts.optimizers import Adam, one_update
from cellscale.methods.parts.tuning import LEVELS, minimum_areas, searched
from cellscale.methods.protocol import Batch, Maps, Networks, Stage, Terms
from cellscale.networks.unet import UNetShape
from cellscale.settings.fields import setting
from cellscale.types import Box, Fragments, Labels, Reach, StoredMaps, Table

Classes: TypeAlias = NDArray[np.uint8]
"""(y, x): 0 background, 1 cell, 2 touching."""
Weights: TypeAlias = NDArray[np.float32]
"""(y, x): what a pixel's cross-entropy is multiplied by."""


def cross_entropy(networks: Networks, batch: Batch) -> Terms:
    """Equation 1, divided by the number of pixels: mean of −w(p) log softmax_y(p)(z(p))."""
    return {"cross_entropy": (batch.targets["weight"] * surprise(networks, batch)).mean()}


def focal_loss(networks: Networks, batch: Batch, gamma: float) -> Terms:
    """Lin et al. (2017): mean of −w(p) (1 − p_y)^γ log p_y."""
    return {"focal": (batch.targets["weight"] * focal(surprise(networks, batch), gamma)).mean()}


def surprise(networks: Networks, batch: Batch) -> Tensor:
    """−log of the true class's probability, (n, y, x)."""
    scores = networks["unet"](batch.image).float()
    return nn.functional.cross_entropy(scores, batch.targets["classes"].long(), reduction="none")


def one_stage(adam: Adam) -> tuple[Stage, ...]:
    """Weighted cross-entropy from the first step to the last."""
    return (one_update("cross-entropy", cross_entropy, adam),)


@dataclass(frozen=True, kw_only=True)
class BorderWeights:
    """Ronneberger et al. (2015): w = w0(p) + a · u · exp(−(d1 + d2)² / 2σ²), the second term outside cells.

    u is the mean of w0(p) over the training pixels, so that a means the same for two and three classes: with three, w0
    of cells and background is about 0.01, and a = 10 would outweigh them. The paper does not say.
    """

    classes: Literal[2, 3] = 3
    """2: touching pixels are background (unet2); 3: a class of their own (unet3)."""
    border: float = 10.0
    """a: additional weight where two cells meet."""
    sigma: float = 5.0
    """Width of its decay with the distances to the nearest two cells, px."""
    unit: float = setting(0.0, fitted=True)
    """u; 1: the border term as printed; 0: fitted by `fit_statistics`, and 1 until then."""

    @property
    def name(self) -> str:
        """The method's name follows from the number of classes."""
        return f"unet{self.classes}"

    @property
    def summary(self) -> str:
        """One line about the method."""
        return f"U-Net, {self.classes} classes, weights at borders"

    def fit_statistics(self, frames: Iterable[Labels], mean_weight: float) -> Self:
        """Fit u."""
        return dataclasses.replace(self, unit=self.unit or mean_weight)

    def weights(self, labels: Labels, classes: Classes, balance: Weights) -> Weights:
        """Class balance and the border term."""
        border = ronneberger(labels, w0=self.border * (self.unit or 1.0), sigma=self.sigma, where=classes != 1)
        return balance + border

    def stages(self, adam: Adam) -> tuple[Stage, ...]:
        """One stage."""
        return one_stage(adam)


@dataclass(frozen=True, kw_only=True)
class Focal:
    """Focal loss with inverse-frequency weights."""

    name: ClassVar[str] = "focal"
    summary: ClassVar[str] = "U-Net, 3 classes, focal loss"
    classes: ClassVar[Literal[2, 3]] = 3
    gamma: float = 2.0
    """Exponent that reduces the weight of correctly classified pixels."""
    warm_up: float = setting(0.0, most=1.0)
    """Share of the steps that first train with weighted cross-entropy."""

    def fit_statistics(self, frames: Iterable[Labels], mean_weight: float) -> Self:
        """Nothing to fit."""
        return self

    def weights(self, labels: Labels, classes: Classes, balance: Weights) -> Weights:
        """Class balance alone."""
        return balance

    def stages(self, adam: Adam) -> tuple[Stage, ...]:
        """Cross-entropy for the warm-up, if any, then the focal loss."""
        second = one_update("focal", partial(focal_loss, gamma=self.gamma), adam, share=1 - self.warm_up)
        first = one_update("warm-up", cross_entropy, adam, share=self.warm_up)
        return (first, second) if self.warm_up > 0 else (second,)


@dataclass(frozen=True, kw_only=True)
class DistanceTransform:
    """Equation 2: w = w0(p) · (1 − min(φ(p) / β, 1)), φ the distance to the nearest cell or touching pixel.

    As a sum, as in the authors' code: w = w0(p) + u · (1 − min(φ(p) / β, 1)), so that no background is without weight.
    """

    name: ClassVar[str] = "dwm"
    summary: ClassVar[str] = "U-Net, 3 classes, distance-transform weights"
    classes: ClassVar[Literal[2, 3]] = 3
    beta: float = 30.0
    """Background farther than this from every cell has no weight, px."""
    form: Literal["product", "sum"] = setting("product", before="product")
    """Equation 2 as printed, or the sum."""
    unit: float = setting(0.0, before=1.0, fitted=True)
    """u of the sum; 0: fitted by `fit_statistics`, the mean of w0 over the training pixels, and 1 until then."""

    def fit_statistics(self, frames: Iterable[Labels], mean_weight: float) -> Self:
        """Fit u."""
        return dataclasses.replace(self, unit=self.unit or mean_weight)

    def weights(self, labels: Labels, classes: Classes, balance: Weights) -> Weights:
        """Class balance times a linear decay outside the cells, or plus it."""
        decay = distance_weights(classes > 0, beta=self.beta)
        return balance * decay if self.form == "product" else balance + np.float32(self.unit or 1.0) * decay

    def stages(self, adam: Adam) -> tuple[Stage, ...]:
        """One stage."""
        return one_stage(adam)


@dataclass(frozen=True, kw_only=True)
class ShapeAware:
    """Equations 3 and 4: w = w0(p) + u · F_σ * w_c, w_c = 1 − φ_K / τ on contours of cells and of their concavities.

    u is the mean of w0(p) over the training pixels, as in BorderWeights; with u = 1 the contours drown the rest (SEG
    0.774 after 2,500 steps on DIC-C2DH-HeLa, against 0.779 after 600).
    """

    name: ClassVar[str] = "saw"
    summary: ClassVar[str] = "U-Net, 3 classes, shape-aware weights"
    classes: ClassVar[Literal[2, 3]] = 3
    sigma: float = 3.0
    """Width of the Gaussian that smooths the contours' weights, px; not stated in the paper."""
    radius: int = 20
    """Contour weights are copied to pixels at most this far away, px; not stated in the paper."""
    propagate: Literal["inside", "both"] = "both"
    """Sides to which contour weights are copied: into cells, or to both sides of the contour."""
    offset: float = 0.0
    """Added to w_c on contours; 0 is equation 4 as printed."""
    smooth: int = setting(5, before=1)
    """Side of the median that smooths each mask before its skeleton, hull and contours, px, odd; 1: none, as printed.
    Not in the paper: a jagged outline has a spur of the skeleton at every step, and w_c is near 1 everywhere."""
    prune: float = setting(2.0, before=0.0)
    """Spurs of a skeleton that stick out of its disc by at most this many px are dropped, and slivers between an
    outline and its hull; 0: none, as printed."""
    tau_percentile: float = setting(95.0, before=100.0, most=100.0)
    """τ is this percentile of φ_K on the contours of the training frames; 100: the greatest, as printed."""
    tau: float = setting(0.0, fitted=True)
    """τ, px; 0: fitted by `fit_statistics`, and w_c is 1 until then."""
    unit: float = setting(0.0, fitted=True)
    """u; 1: equation 3 as printed; 0: fitted by `fit_statistics`, and 1 until then."""

    def fit_statistics(self, frames: Iterable[Labels], mean_weight: float) -> Self:
        """Fit u and τ."""
        percentile = self.tau_percentile
        tau = self.tau or saw_tau(frames, percentile=percentile, smooth=self.smooth, prune=self.prune)
        return dataclasses.replace(self, tau=tau, unit=self.unit or mean_weight)

    def weights(self, labels: Labels, classes: Classes, balance: Weights) -> Weights:
        """Class balance plus the propagated complexity of the contours."""
        return balance + np.float32(self.unit or 1.0) * shape_aware_weights(
            labels,
            tau=self.tau,
            sigma=self.sigma,
            radius=self.radius,
            propagate=self.propagate,
            offset=self.offset,
            smooth=self.smooth,
            prune=self.prune,
        )

    def stages(self, adam: Adam) -> tuple[Stage, ...]:
        """One stage."""
        return one_stage(adam)


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Algorithm 2: thresholds for touching and cell pixels, and the assignment of touching pixels."""

    gamma1: float = setting(0.5, most=1.0)
    """γ1: a pixel is touching if z2 > γ1; fitted by `calibrate`."""
    gamma2: float = setting(0.5, most=1.0)
    """γ2: it is a cell's if z1 > γ2 and it is not touching; fitted by `calibrate`."""
    touching_radius: int = 8
    """Touching pixels farther than this from every cell become background, px; not in the paper."""
    fill_gaps: bool = True
    """With two classes, gaps of one or two pixels go to the nearest cell, as touching pixels do with three; not in the
    paper."""
    minimum_area: int = 0
    """Smaller objects are dropped, px; fitted by `calibrate`; not in the paper."""


@dataclass(frozen=True, kw_only=True)
class MulticlassUNet:
    """U-Net, softmax over two or three classes, weighted cross-entropy, touching pixels given to the nearest cell."""

    paper: ClassVar[str] = (
        "F. A. Guerrero-Peña et al., Multiclass weighted loss for instance segmentation of cluttered cells, ICIP 2018"
    )
    join: ClassVar[Literal["links", "anchors"]] = "links"
    whole: ClassVar[Literal["exact", "windowed"]] = "exact"
    weighting: BorderWeights | Focal | DistanceTransform | ShapeAware
    unet: UNetShape = field(default_factory=UNetShape)
    adam: Adam = field(default_factory=Adam)
    thresholds: Thresholds = field(default_factory=Thresholds)
    intensity: Intensity = field(default_factory=Intensity)
    channels: int = setting(1, least=1)
    """Number of image channels."""
    balance: Balance = field(default_factory=lambda: Balance(exponent=0.5))
    """w0 of each class; the paper has inverse frequencies (1), whose effect on a rare class no threshold corrects."""
    touching_within: float = setting(3.0, before=0.0)
    """Gaps are touching where two cells are within this distance, px; 0: all that Algorithm 1 fills, as printed,
    notches of a single cell's outline included."""
    class_counts: tuple[int, ...] = setting((), fitted=True)
    """Pixels of each class that training sees; empty: fitted by `fit_statistics`, and all classes weigh 1 until
    then."""

    @property
    def name(self) -> str:
        """The name of the weighting."""
        return self.weighting.name

    @property
    def summary(self) -> str:
        """One line for a list of methods."""
        return self.weighting.summary

    @cached_property
    def reaches(self) -> Reach:
        """A touching pixel is linked to its cell; with two classes, a gap pixel depends on the cells around it."""
        three, touching = self.weighting.classes == 3, self.thresholds.touching_radius
        return Reach(
            multiple=self.unet.multiple,
            reach=self.unet.reach,
            decode_reach=touching if three else GAP_REACH,
            link=max(1, touching) if three else 1,
        )

    @property
    def maps(self) -> tuple[str, ...]:
        """The classes that are decoded."""
        return ("cell", "touching")[: self.weighting.classes - 1]

    def classes(self, labels: Labels) -> Classes:
        """Algorithm 1 on separated labels; with two classes, touching is what it is without augmentation."""
        if self.weighting.classes == 2:
            return (labels > 0).astype(np.uint8)
        return touching_classes(labels, within=self.touching_within)

    def fit_statistics(self, frames: Iterable[Labels], views: Iterable[Labels] | None = None) -> Self:
        """Count the classes that training sees, and fit the weighting."""
        whole = frames if views is not None else list(frames)
        apart = map(separated, whole if views is None else views)
        counts = self.class_counts or counted(apart, self.classes, self.weighting.classes)
        weighting = self.weighting.fit_statistics(whole, self.balance.mean(counts))
        return dataclasses.replace(self, weighting=weighting, class_counts=counts)

    def targets(self, labels: Labels) -> Maps:
        """`classes` (uint8) and `weight` (float32) of a crop."""
        cells = separated(labels)
        classes = self.classes(cells)
        balance = self.balance.of(self.class_counts or (1,) * self.weighting.classes)
        weights = self.weighting.weights(cells, classes, balance[classes])
        return {"classes": classes, "weight": weights.astype(np.float32)}

    def networks(self) -> dict[str, nn.Module]:
        """One U-Net."""
        return {"unet": self.unet.network(self.channels, self.weighting.classes)}

    def stages(self) -> tuple[Stage, ...]:
        """The weighting's schedule."""
        return self.weighting.stages(self.adam)

    def predict(self, networks: Networks, windows: Tensor) -> dict[str, Tensor]:
        """z1 `cell` and, with three classes, z2 `touching`: softmax, (n, y, x)."""
        z = torch.softmax(networks["unet"](windows).float(), dim=1)
        return {name: z[:, i] for i, name in enumerate(self.maps, 1)}

    def decode(self, maps: StoredMaps, valid: Box) -> Fragments:
        """Algorithm 2."""
        limits = self.thresholds
        cells = above(maps["cell"], limits.gamma2)
        if self.weighting.classes == 3:
            touching = above(maps["touching"], limits.gamma1)
        else:
            touching = gaps(cells) if limits.fill_gaps else np.zeros_like(cells)
        return fragments(cells, touching, limits.touching_radius, valid)

    def merge_objects(self, nodes: Table, edges: Table) -> NDArray[np.int64]:
        """Drop small objects."""
        return large_enough(nodes, self.thresholds.minimum_area)

    def calibrate(self, pairs: Iterable[tuple[StoredMaps, Labels]]) -> Self:
        """Search γ1, γ2 and the minimum area."""
        frames = list(pairs)
        grid: dict[str, Sequence[Any]] = {
            "thresholds.gamma2": LEVELS,
            "thresholds.gamma1": LEVELS if self.weighting.classes == 3 else (),
            "thresholds.minimum_area": minimum_areas(truth for _, truth in frames),
        }
        both = ("thresholds.gamma2", "thresholds.gamma1") if self.weighting.classes == 3 else ()
        return searched(self, frames, grid, together=both)

    def perfect_prediction(self, labels: Labels) -> Maps:
        """Touching are the cells' pixels at other cells: symmetric, so that each is nearest to its own cell."""
        touching = contact_pixels(labels)
        maps = {"cell": (labels > 0) & ~touching, "touching": touching}
        return {name: maps[name].astype(np.float32) for name in self.maps}


UNET2 = MulticlassUNet(weighting=BorderWeights(classes=2))
UNET3 = MulticlassUNet(weighting=BorderWeights(classes=3))
FOCAL = MulticlassUNet(weighting=Focal())
DWM = MulticlassUNet(weighting=DistanceTransform())
SAW = MulticlassUNet(weighting=ShapeAware())

"""Arbelle and Riklin Raviv (2018): an estimator that learns from a discriminator instead of a pixel loss.

Five convolutions estimate background, cell and contour. The Rib Cage discriminator learns to tell pairs of image and
true segmentation from pairs of image and estimate (eq. 3); the estimator learns to make its estimates indistinguishable
from true segmentations. For comparison: the same estimator with cross-entropy, and with a classification network
(VGG16) as discriminator.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import ClassVar, Literal, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from cellscale.errors import InputError, RunError
from cellscale.methods.intensity import Intensity
from cellscale.methods.parts.contour_classes import CLASSES, MAPS, Contours, contour_classes, perfect_maps
from cellscale.methods.parts.decoding import large_enough
from cellscale.methods.parts.optimizers import RMSProp, one_update
from cellscale.methods.parts.tuning import minimum_areas, searched
from cellscale.methods.protocol import Batch, Maps, Networks, Stage, Terms, Update
from cellscale.networks.rib_cage import BEFORE, BEHIND, ClassificationNetwork, Estimator, RibCageNetwork
from cellscale.settings.fields import setting
from cellscale.types import Box, Fragments, Labels, Reach, StoredMaps, Table

COLLAPSE_AFTER = 100
"""Updates of the estimator after which a training may count as collapsed."""
MEMORY = 0.95
"""Share of its past that the agreement keeps at each update."""


class Agreement(nn.Module):
    """Pixels by true and estimated class over the estimator's latest updates; not part of any loss."""

    shares: Tensor
    moves: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("shares", torch.zeros(len(CLASSES), len(CLASSES)))
        self.register_buffer("moves", torch.zeros(()))

    @torch.no_grad()
    def count(self, scores: Tensor, classes: Tensor) -> None:
        """Count a batch: scores (n, 3, y, x), true classes (n, y, x)."""
        pairs = len(CLASSES) * classes.long() + scores.argmax(dim=1)
        counts = torch.bincount(pairs.flatten(), minlength=self.shares.numel()).reshape(self.shares.shape)
        self.shares.mul_(MEMORY).add_(counts / counts.sum(), alpha=1 - MEMORY)
        self.moves += 1

    def kappa(self) -> float:
        """Cohen's κ: 1 if estimate and truth are equal, 0 if they agree as often as by chance."""
        joint = self.shares / self.shares.sum()
        chance = float(joint.sum(dim=0) @ joint.sum(dim=1))
        return (float(joint.trace()) - chance) / max(1 - chance, 1e-9)


def refuse_collapse(networks: Networks, least: float) -> None:
    """End a training whose estimates do not agree with the ground truth.

    Raises
    ------
    RunError
        If κ is below `least`, after COLLAPSE_AFTER updates of the estimator or more.
    """
    agreement = cast(Agreement, networks["agreement"])
    if agreement.moves < COLLAPSE_AFTER or agreement.kappa() >= least:
        return
    estimated = (agreement.shares.sum(dim=0) / agreement.shares.sum()).tolist()
    shares = ", ".join(f"{name} {share:.0%}" for name, share in zip(CLASSES, estimated, strict=True))
    raise RunError(
        f"The adversarial training collapsed: on its latest crops the estimate ({shares}) agrees with the truth with "
        f"κ = {agreement.kappa():.2f}, expected at least {least} (0: chance). No model was saved. Start again with "
        "--overwrite and --set ema_decay=0.99, foreground_fraction=0.7, batch_size=24, crop=85; or with another seed, "
        "a lower discriminator_rate, or more steps."
    )


def inner(values: Tensor) -> Tensor:
    """Return the part of (…, y, x) for which the estimator without padding has estimates."""
    return values[..., BEFORE:-BEHIND, BEFORE:-BEHIND]


def patches(values: Tensor, side: int) -> Tensor:
    """Cut (n, c, y, x) into squares, (n · k · l, c, side, side); the rest at the lower and right border is dropped.

    Raises
    ------
    InputError
        If not one square fits.
    """
    rows, columns = values.shape[2] // side, values.shape[3] // side
    if rows * columns == 0:
        raise InputError(
            f"A crop of {values.shape[2] + BEFORE + BEHIND} px leaves {values.shape[2]} px of estimate; the "
            f"discriminator needs {side} px. Set crop to at least {side + BEFORE + BEHIND}."
        )
    cut = values[:, :, : rows * side, : columns * side].reshape(*values.shape[:2], rows, side, columns, side)
    return cut.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)


def one_hot(classes: Tensor) -> Tensor:
    """True classes (n, y, x) as probabilities 0 and 1, (n, 3, y, x)."""
    return functional.one_hot(classes.long(), len(CLASSES)).movedim(3, 1).float()


@contextmanager
def batch_statistics(network: nn.Module, on: bool) -> Iterator[None]:
    """Let a frozen network normalise by the batch, as in its own updates; its running statistics do not change."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)] if on else []
    for layer in layers:
        layer.training, layer.track_running_stats = True, False
    try:
        yield
    finally:
        for layer in layers:
            layer.training, layer.track_running_stats = False, True


@dataclass(frozen=True, kw_only=True)
class Game:
    """Turns of estimator and discriminator, and settings that keep them balanced."""

    side: int = 64
    """Side of the squares that are the discriminator's inputs, px, a multiple of 16. Crops are cut into as many as fit;
    a crop of side + 21 px is one."""
    estimator_steps: int = 1
    """Steps of the estimator in its turn; the authors' 20 learn more slowly in small batches."""
    discriminator_steps: int = 1
    """Steps of the discriminator in its turn, 20 for the authors; the ratio of the two is the balance of the game."""
    discriminator_rate: float = 2e-4
    """Learning rate of the discriminator, 1e-3 for the authors; lower rates make it less certain."""
    smoothing: float = setting(0.0, most=0.5)
    """Label smoothing: the target of true pairs is 1 − this; not in the paper."""
    noise: float = 0.5
    """σ of normal noise on both true and estimated segmentations before the discriminator, so that it cannot
    distinguish them by the values 0 and 1, which estimates never have; 0: none, as in the paper."""
    final_noise: float = setting(0.1, before=-1.0, least=-1.0)
    """σ at the end of the training, to which it falls in equal steps: the differences of nearly correct estimates would
    disappear in the initial noise; −1: as `noise`."""
    resting: Literal["batch", "running"] = "batch"
    """Whether the BatchNorm of the frozen network uses the batch's statistics, of true and estimated pairs together in
    the discriminator, as in its own updates; or its running ones, which lag behind, so that the training collapses."""
    least_agreement: float = setting(0.2, least=-1.0)
    """Least agreement with the ground truth (Cohen's κ; up to 0.2 is called slight); a training below it is an error;
    −1: never. (A training with κ = 0.12 found not one cell, one with 0.18 a third.)"""

    def __post_init__(self) -> None:
        if self.side < 16 or self.side % 16:
            raise InputError(f"Setting 'side' is {self.side}; expected a multiple of 16 px.")
        if min(self.estimator_steps, self.discriminator_steps) < 1:
            raise InputError("Settings 'estimator_steps' and 'discriminator_steps' are at least 1.")

    def noise_at(self, progress: float) -> float:
        """σ of the noise at a progress of 0 … 1 through the training."""
        return self.noise if self.final_noise < 0 else self.noise + (self.final_noise - self.noise) * progress

    def log_odds(
        self, networks: Networks, images: Tensor, true: Tensor, estimated: Tensor, progress: float
    ) -> tuple[Tensor, Tensor]:
        """Log-odds of the squares of true and of estimated segmentations; `images` are those of both, in one batch."""
        pairs = torch.cat([true, estimated])
        seen = pairs + self.noise_at(progress) * torch.randn_like(pairs)
        scores = networks["discriminator"](patches(images, self.side), patches(seen, self.side))
        first, second = torch.tensor_split(scores, [len(scores) * len(true) // len(pairs)])
        return first, second

    def estimator_loss(self, networks: Networks, batch: Batch) -> Terms:
        """−log D(I, E(I)), the form of equation 4 whose gradient does not vanish while D distinguishes the pairs."""
        scores = networks["estimator"](batch.image).float()
        classes, agreement = inner(batch.targets["classes"]), cast(Agreement, networks["agreement"])
        if agreement.training:
            agreement.count(scores, classes)
        images, estimate = inner(batch.image), torch.softmax(scores, dim=1)
        with batch_statistics(networks["discriminator"], self.resting == "batch" and networks["estimator"].training):
            _, taken = self.log_odds(networks, torch.cat([images, images]), one_hot(classes), estimate, batch.progress)
        return {"estimator": functional.softplus(-taken).mean()}

    def discriminator_loss(self, networks: Networks, batch: Batch) -> Terms:
        """Equation 3: every second sample with its ground truth, the others with their estimates, in one batch."""
        if len(batch.image) < 2:
            raise InputError(
                "A step of the discriminator needs a true and an estimated sample. Set batch_size to 2 or more."
            )
        with batch_statistics(networks["estimator"], self.resting == "batch" and networks["discriminator"].training):
            estimate = torch.softmax(networks["estimator"](batch.image[1::2]).float(), dim=1)
        images = torch.cat([inner(batch.image[::2]), inner(batch.image[1::2])])
        true, estimated = self.log_odds(
            networks, images, one_hot(inner(batch.targets["classes"][::2])), estimate, batch.progress
        )
        wanted = torch.full_like(true, 1 - self.smoothing)
        return {
            "true": functional.binary_cross_entropy_with_logits(true, wanted),
            "estimated": functional.softplus(estimated).mean(),
        }

    def stages(self, rmsprop: RMSProp) -> tuple[Stage, ...]:
        """One stage of alternating turns."""
        period = self.estimator_steps + self.discriminator_steps
        other = dataclasses.replace(rmsprop, learning_rate=self.discriminator_rate)
        estimator = Update(
            trains=("estimator", "agreement"),
            loss=self.estimator_loss,
            optimizer=rmsprop.optimizer,
            learning_rate=rmsprop.factor,
            every=period,
            turn=(0, self.estimator_steps),
        )
        discriminator = Update(
            trains=("discriminator",),
            loss=self.discriminator_loss,
            optimizer=other.optimizer,
            learning_rate=other.factor,
            every=period,
            turn=(self.estimator_steps, period),
        )
        end = partial(refuse_collapse, least=self.least_agreement)
        rounds = period / self.estimator_steps
        return (Stage(name="adversarial", updates=(estimator, discriminator), batches_per_update=rounds, on_end=end),)


@dataclass(frozen=True, kw_only=True)
class RibCage:
    """Adversarial training against the Rib Cage discriminator."""

    name: ClassVar[str] = "ribcage"
    summary: ClassVar[str] = "five convolutions, adversarial training against the Rib Cage discriminator"
    game: Game = field(default_factory=Game)
    features: int = 8
    """Features of the first block of the printed list; the third has eight times as many."""
    printed: Literal["ribs", "spine"] = "ribs"
    """Network that the printed list describes: the ribs, with half as many features in the spine (the authors' code);
    or the spine, with twice as many in the ribs (the other reading of the text)."""
    closing: bool = True
    """The last convolution, C(4, 64), which is in the paper but not in the authors' code."""

    def networks(self, channels: int) -> dict[str, nn.Module]:
        """Discriminator that the estimator is trained against."""
        ribs = self.features if self.printed == "ribs" else 2 * self.features
        network = RibCageNetwork(
            channels, len(CLASSES), self.game.side, ribs=ribs, width=8 * self.features, closing=self.closing
        )
        return {"discriminator": network, "agreement": Agreement()}

    def stages(self, rmsprop: RMSProp) -> tuple[Stage, ...]:
        """Alternating turns."""
        return self.game.stages(rmsprop)


@dataclass(frozen=True, kw_only=True)
class ClassDisc:
    """Adversarial training against a classification network."""

    name: ClassVar[str] = "classdisc"
    summary: ClassVar[str] = "five convolutions, adversarial training against a VGG16 classification network"
    game: Game = field(default_factory=Game)
    features: int = 64
    """Features of the first block; the last two have four times as many."""
    hidden: int = 4096
    """Features of the fully connected layers."""

    def networks(self, channels: int) -> dict[str, nn.Module]:
        """Discriminator that the estimator is trained against."""
        network = ClassificationNetwork(
            channels + len(CLASSES), self.game.side, features=self.features, hidden=self.hidden
        )
        return {"discriminator": network, "agreement": Agreement()}

    def stages(self, rmsprop: RMSProp) -> tuple[Stage, ...]:
        """Alternating turns."""
        return self.game.stages(rmsprop)


def cross_entropy(networks: Networks, batch: Batch) -> Terms:
    """Mean of −log of the true class's probability."""
    scores = networks["estimator"](batch.image).float()
    return {"cross_entropy": functional.cross_entropy(scores, inner(batch.targets["classes"]).long())}


@dataclass(frozen=True, kw_only=True)
class CrossEntropy:
    """Training by cross-entropy, without weights."""

    name: ClassVar[str] = "ribcage-ce"
    summary: ClassVar[str] = "the estimator of ribcage, trained by cross-entropy"

    def networks(self, channels: int) -> dict[str, nn.Module]:
        """Only the estimator: no discriminator."""
        return {}

    def stages(self, rmsprop: RMSProp) -> tuple[Stage, ...]:
        """One network, one loss."""
        return (one_update("cross-entropy", cross_entropy, rmsprop, trains=("estimator",)),)


@dataclass(frozen=True, kw_only=True)
class ContourEstimator:
    """Five convolutions, softmax over background, cell and contour, trained against the chosen discriminator."""

    paper: ClassVar[str] = (
        "A. Arbelle, T. Riklin Raviv, Microscopy cell segmentation via adversarial neural networks, ISBI 2018"
    )
    join: ClassVar[Literal["links", "anchors"]] = "links"
    whole: ClassVar[Literal["exact", "windowed"]] = "exact"
    maps: ClassVar[tuple[str, ...]] = MAPS
    training: RibCage | ClassDisc | CrossEntropy
    width: int = 16
    """Features of the estimator's first convolution; the third and fourth have four times as many."""
    rmsprop: RMSProp = field(default_factory=RMSProp)
    contours: Contours = field(default_factory=Contours)
    intensity: Intensity = field(default_factory=Intensity)
    channels: int = setting(1, least=1)
    """Number of image channels."""

    @property
    def name(self) -> str:
        """The name of the training."""
        return self.training.name

    @property
    def summary(self) -> str:
        """One line for a list of methods."""
        return self.training.summary

    @cached_property
    def reaches(self) -> Reach:
        """A contour pixel is linked to its cell."""
        contour = self.contours.contour_radius
        return Reach(reach=max(BEFORE, BEHIND), decode_reach=contour, link=max(1, contour))

    def fit_statistics(self, frames: Iterable[Labels], views: Iterable[Labels] | None = None) -> Self:
        """Nothing to fit."""
        return self

    def targets(self, labels: Labels) -> Maps:
        """`classes` (uint8) of a crop."""
        return {"classes": contour_classes(labels)}

    def networks(self) -> dict[str, nn.Module]:
        """The estimator, and what its training needs."""
        return {
            "estimator": Estimator(self.channels, len(CLASSES), self.width),
            **self.training.networks(self.channels),
        }

    def stages(self) -> tuple[Stage, ...]:
        """The schedule of the training."""
        return self.training.stages(self.rmsprop)

    def predict(self, networks: Networks, windows: Tensor) -> dict[str, Tensor]:
        """Softmax of the estimator, whose input is mirrored at the window's border, (n, y, x)."""
        mode = "reflect" if min(windows.shape[2:]) > self.reaches.reach else "replicate"
        seen = functional.pad(windows, (BEFORE, BEHIND, BEFORE, BEHIND), mode=mode)
        shares = torch.softmax(networks["estimator"](seen).float(), dim=1)
        return {name: shares[:, number] for number, name in enumerate(MAPS, 1)}

    def decode(self, maps: StoredMaps, valid: Box) -> Fragments:
        """The most probable class; components of the cells, contour pixels to the nearest."""
        return self.contours.decode(maps, valid)

    def merge_objects(self, nodes: Table, edges: Table) -> NDArray[np.int64]:
        """Drop small objects."""
        return large_enough(nodes, self.contours.minimum_area)

    def calibrate(self, pairs: Iterable[tuple[StoredMaps, Labels]]) -> Self:
        """Search the minimum area."""
        frames = list(pairs)
        return searched(self, frames, {"contours.minimum_area": minimum_areas(truth for _, truth in frames)})

    def perfect_prediction(self, labels: Labels) -> Maps:
        """The true classes."""
        return perfect_maps(labels)


RIBCAGE = ContourEstimator(training=RibCage())
RIBCAGE_CE = ContourEstimator(training=CrossEntropy())
CLASSDISC = ContourEstimator(training=ClassDisc())

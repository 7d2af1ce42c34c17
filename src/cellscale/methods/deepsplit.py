"""Torr et al. (2020), DeepSplit: learn the mask of all cells first, then the separation of touching cells.

A U-Net segments; a second part, the separation, reads its features. It is a decoder with cross connections (deepsplit),
three more blocks (branchnet) or a second, smaller U-Net (double-unet). Cumulative: stage one trains the U-Net alone and
its result stays; stage two trains both, starting from it. The final mask is stage one's without stage two's separation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import pairwise
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cellscale.errors import InputError
from cellscale.kernels.touching import contact_regions, separated
from cellscale.kernels.weights import ronneberger
from cellscale.methods.intensity import Intensity
from cellscale.methods.parts.binary_masks import weighted_bce
from cellscale.methods.parts.class_balance import Balance, counted, foreground
from cellscale.methods.parts.decoding import above, contact_pixels
from cellscale.methods.parts.optimizers import Adam, one_update
from cellscale.methods.parts.postprocessing import Postprocessing
from cellscale.methods.parts.tuning import LEVELS, minimum_areas, searched
from cellscale.methods.protocol import Batch, Maps, Networks, Stage, Terms
from cellscale.networks.unet import CONVOLUTIONS, UNetShape, unet_reach, xavier_normal
from cellscale.settings.fields import setting
from cellscale.types import Box, Fragments, Labels, Reach, StoredMaps, Table

BRANCH_BLOCKS = 3
"""Blocks that Branch-Net adds."""


class Features(NamedTuple):
    """Features of the segmentation network, input of the separation."""

    encoded: list[Tensor]
    """Features of each block of the encoder, full resolution first."""
    decoded: list[Tensor]
    """Features of each block of the decoder, full resolution first."""
    scores: Tensor
    """Before the sigmoid, (n, y, x)."""


class Decoder(nn.Module):
    """Up-sampling 2×2 to the nearest pixel; a block at each level sees this and the skips."""

    def __init__(self, shape: UNetShape, *, skips: int) -> None:
        """Make the blocks for the given number of skips at each level, and a head of one channel."""
        super().__init__()
        sizes = shape.sizes[:-1]
        self.blocks = nn.ModuleList(shape.block((skips + 2) * size, size) for size in sizes)
        self.up = nn.Upsample(scale_factor=2)
        self.head = nn.Conv2d(shape.width, 1, 1)
        xavier_normal(self)

    def forward(self, deepest: Tensor, skips: Sequence[Sequence[Tensor]]) -> tuple[list[Tensor], Tensor]:
        """Features of each level and scores, from the deepest features and the skips of each level."""
        features = [deepest]
        for merge, level in zip(reversed(self.blocks), reversed(skips), strict=True):
            features.insert(0, merge(torch.cat([*level, self.up(features[0])], dim=1)))
        return features[:-1], self.head(features[0])[:, 0]


class Segmentation(nn.Module):
    """The U-Net: an encoder of blocks with 2×2 pooling and a decoder."""

    def __init__(self, channels: int, shape: UNetShape) -> None:
        """Make `depth` poolings; level i has width · 2^i features."""
        super().__init__()
        sizes = [channels, *shape.sizes]
        self.encoder = nn.ModuleList(shape.block(i, o) for i, o in pairwise(sizes))
        self.pool = nn.MaxPool2d(2)
        xavier_normal(self)
        self.decoder = Decoder(shape, skips=1)

    def forward(self, image: Tensor) -> Features:
        """Features and scores of images (n, channels, y, x)."""
        encoded = [self.encoder[0](image)]
        for down in self.encoder[1:]:
            encoded.append(down(self.pool(encoded[-1])))
        decoded, scores = self.decoder(encoded[-1], [[skip] for skip in encoded[:-1]])
        return Features(encoded, decoded, scores)


class CrossedDecoder(nn.Module):
    """DeepSplit's separation: a second decoder, with cross connections from the first at every level."""

    def __init__(self, shape: UNetShape) -> None:
        """Make a decoder of the same shape."""
        super().__init__()
        self.decoder = Decoder(shape, skips=2)

    def forward(self, seen: Features) -> Tensor:
        """Scores, (n, y, x)."""
        _, scores = self.decoder(seen.encoded[-1], list(zip(seen.encoded, seen.decoded, strict=False)))
        return torch.as_tensor(scores)


class Branch(nn.Module):
    """Branch-Net's separation: three more blocks on the last features."""

    def __init__(self, shape: UNetShape) -> None:
        """Make blocks of the U-Net's width."""
        super().__init__()
        made = [shape.block(shape.width, shape.width) for _ in range(BRANCH_BLOCKS)]
        self.layers = nn.Sequential(*made, nn.Conv2d(shape.width, 1, 1))
        xavier_normal(self)

    def forward(self, seen: Features) -> Tensor:
        """Scores, (n, y, x)."""
        return torch.as_tensor(self.layers(seen.decoded[0])[:, 0])


class SecondUNet(nn.Module):
    """Double-U-Net's separation: a smaller U-Net on the last features."""

    def __init__(self, features: int, shape: UNetShape) -> None:
        """Make a U-Net that reads this many features."""
        super().__init__()
        self.unet = Segmentation(features, shape)

    def forward(self, seen: Features) -> Tensor:
        """Scores, (n, y, x)."""
        found: Features = self.unet(seen.decoded[0])
        return found.scores


def crossed_reach(depth: int) -> int:
    """Reach of the second decoder, px: V(0) = c, V(d) = c + max(U(d), c + 2 V(d − 1) + 1), with U that of the first."""
    if depth == 0:
        return CONVOLUTIONS
    return CONVOLUTIONS + max(unet_reach(depth), CONVOLUTIONS + 2 * crossed_reach(depth - 1) + 1)


def segmentation_loss(networks: Networks, batch: Batch) -> Terms:
    """Stage one."""
    scores = networks["stage_one"](batch.image).scores
    return {"segmentation": weighted_bce(scores, batch.targets["cell"], batch.targets["weight"])}


def joint_loss(networks: Networks, batch: Batch, *, share: float, detached: bool) -> Terms:
    """`share` · segmentation + 1 · separation."""
    seen = networks["segmentation"](batch.image)
    scores = separation_scores(networks, seen, detached=detached)
    targets = batch.targets
    return {
        "segmentation": share * weighted_bce(seen.scores, targets["cell"], targets["weight"]),
        "separation": weighted_bce(scores, targets["separation"], targets["separation_weight"]),
    }


def separation_scores(networks: Networks, seen: Features, *, detached: bool = False) -> Tensor:
    """Apply the separation to the features of the segmentation."""
    decoded = [features.detach() for features in seen.decoded] if detached else seen.decoded
    scores: Tensor = networks["separation"](seen._replace(decoded=decoded))
    return scores


class NoSeparation(nn.Module):
    """Stand-in for a separation that is not trained yet."""

    def forward(self, seen: Features) -> Tensor:
        """Scores of a probability of 0, (n, y, x)."""
        return torch.full_like(seen.scores, -torch.inf)


def mask_of_stage_one(networks: Networks) -> Networks:
    """Validate stage one by its own mask: the untrained separation decoder is above ½ on half of all pixels."""
    return {**networks, "segmentation": networks["stage_one"], "separation": NoSeparation()}


def start_from_stage_one(networks: Networks) -> None:
    """Start stage two with a copy of stage one, which itself does not change any more."""
    networks["segmentation"].load_state_dict(networks["stage_one"].state_dict())


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Weights of pixels in the two losses."""

    border: float = 10.0
    """ω0: additional weight where two cells meet; not printed in the paper."""
    sigma: float = 5.0
    """σ: width of its decay with the distances to the nearest two cells, px; not printed."""
    squares: bool = True
    """d1² + d2² as printed, or (d1 + d2)² as Ronneberger et al."""
    contact: float = 22.6
    """Weight of pixels between adjacent cells, in the separation."""
    cell: float = 5.0
    """Weight of the other pixels of cells there; background has 1."""


@dataclass(frozen=True, kw_only=True)
class DeepSplit:
    """Segmentation and separation of adjacent cells as two tasks."""

    paper: ClassVar[str] = "A. Torr et al., DeepSplit, MIUA 2020"
    join: ClassVar[Literal["links", "anchors"]] = "links"
    whole: ClassVar[Literal["exact", "windowed"]] = "exact"
    architecture: Literal["deepsplit", "branchnet", "double-unet"] = "deepsplit"
    """Network of the separation: a crossed decoder, three blocks or a second U-Net."""
    schedule: Literal["cumulative", "simultaneous"] = "cumulative"
    """The segmentation first and kept, or both from the start."""
    unet: UNetShape = field(default_factory=lambda: UNetShape(dropout=0.2))
    second_width: int = setting(0, before=0)
    """Features of the first block of the second U-Net (double-unet); 0: half of the first one's; shown in a figure
    without numbers."""
    second_depth: int = setting(0, before=0)
    """Its poolings; 0: two fewer than the first one has, at least one."""
    adam: Adam = field(default_factory=Adam)
    intensity: Intensity = field(default_factory=lambda: Intensity(rule="equalise"))
    channels: int = setting(1, least=1)
    """Number of image channels."""
    weights: Weights = field(default_factory=Weights)
    contact_width: float = 6.0
    """Sum of the distances to the two nearest cells up to which a pixel is separation, px; not stated in the paper."""
    segmentation_share: float = 0.3
    """Weight of the segmentation's loss in stage two; 1 when both are learned from the start."""
    stage_one: float = 0.5
    """Share of the steps of stage one; the paper trains until it converges."""
    detached: bool = False
    """Whether the separation's gradient stops at the features of the segmentation's decoder."""
    balance: Balance = field(default_factory=Balance)
    class_counts: tuple[int, ...] = setting((), fitted=True)
    """Pixels of background and cells that training sees; empty: fitted by `fit_statistics`, and both weigh 1 until
    then."""
    threshold: float = setting(0.5, most=1.0)
    """A pixel is a cell's if its probability is greater; fitted by `calibrate`."""
    separation: float = setting(0.5, most=1.0)
    """A pixel separates cells if its probability of separation is greater; fitted by `calibrate`."""
    band_radius: int = 6
    """Greatest distance at which separating pixels are assigned to a cell, px; 0: to none; not in the paper."""
    minimum_area: int = 0
    """Smaller objects are dropped, px; fitted by `calibrate`."""
    postprocessing: Postprocessing = field(
        default_factory=lambda: Postprocessing(fill_holes_px=16, min_object_px=9, split_neck_px=8)
    )

    def __post_init__(self) -> None:
        if self.schedule == "cumulative" and not 0 < self.stage_one < 1:
            raise InputError(
                f"Setting 'stage_one' is {self.stage_one}; expected a share above 0 and below 1: without steps, "
                "the mask or the separation is not trained."
            )
        if self.unet.up != "transposed":
            raise InputError(
                f"Setting 'unet.up' is {self.unet.up!r}; expected 'transposed', the one that the decoders of "
                f"{self.name!r} have. Leave it out, or set unet.up=transposed."
            )
        if self.second.depth > self.unet.depth:
            raise InputError(
                f"Setting 'second_depth' is {self.second_depth}; expected at most the depth of the first, "
                f"{self.unet.depth}."
            )

    @property
    def second(self) -> UNetShape:
        """Size of the second U-Net."""
        return dataclasses.replace(
            self.unet,
            width=self.second_width or max(1, self.unet.width // 2),
            depth=self.second_depth or max(1, self.unet.depth - 2),
        )

    @property
    def name(self) -> str:
        """The name of the architecture."""
        return self.architecture

    @property
    def summary(self) -> str:
        """One line for a list of methods."""
        parts = {"deepsplit": "a second decoder", "branchnet": "three more blocks", "double-unet": "a second U-Net"}
        return f"U-Net for the mask, {parts[self.architecture]} for the separation of touching cells"

    @cached_property
    def reaches(self) -> Reach:
        """A separating pixel is linked to its cell, whose pixels depend on holes and sizes."""
        if self.architecture == "deepsplit":
            reach = crossed_reach(self.unet.depth)
        else:
            more = BRANCH_BLOCKS * CONVOLUTIONS if self.architecture == "branchnet" else self.second.reach
            reach = self.unet.reach + more
        return Reach(
            multiple=self.unet.multiple,
            reach=reach,
            decode_reach=self.band_radius + self.postprocessing.reach,
            link=max(1, self.band_radius),
        )

    @property
    def maps(self) -> tuple[str, ...]:
        """Two probabilities."""
        return ("cell", "separation")

    def fit_statistics(self, frames: Iterable[Labels], views: Iterable[Labels] | None = None) -> Self:
        """Count background and cell pixels."""
        counts = self.class_counts or counted(frames if views is None else views, foreground, 2)
        return dataclasses.replace(self, class_counts=counts)

    def targets(self, labels: Labels) -> Maps:
        """`cell`, `separation` (uint8), `weight` (eq. 1) and `separation_weight` (float32) of a crop."""
        cells, w = separated(labels), self.weights
        inside, contact = cells > 0, contact_regions(labels, width=self.contact_width)
        cell = self.balance.ratio(*(self.class_counts or (1, 1)))
        border = ronneberger(cells, w0=w.border, sigma=w.sigma, squares=w.squares)
        return {
            "cell": inside.astype(np.uint8),
            "weight": np.where(inside, cell, 1 + border).astype(np.float32),
            "separation": contact.astype(np.uint8),
            "separation_weight": np.where(contact, w.contact, np.where(inside, w.cell, 1)).astype(np.float32),
        }

    def networks(self) -> dict[str, nn.Module]:
        """The U-Net, the separation and, with the cumulative schedule, the U-Net of stage one."""
        made: dict[str, Callable[[], nn.Module]] = {
            "deepsplit": lambda: CrossedDecoder(self.unet),
            "branchnet": lambda: Branch(self.unet),
            "double-unet": lambda: SecondUNet(self.unet.width, self.second),
        }
        networks: dict[str, nn.Module] = {
            "segmentation": Segmentation(self.channels, self.unet),
            "separation": made[self.architecture](),
        }
        if self.schedule == "cumulative":
            networks["stage_one"] = Segmentation(self.channels, self.unet)
        return networks

    def stages(self) -> tuple[Stage, ...]:
        """Segmentation, then both; or both from the start."""
        both = ("segmentation", "separation")
        if self.schedule == "simultaneous":
            return (one_update("both", self._joint(1.0), self.adam, trains=both),)
        one = one_update("segmentation", segmentation_loss, self.adam, trains=("stage_one",), share=self.stage_one)
        loss = self._joint(self.segmentation_share)
        two = one_update("separation", loss, self.adam, trains=both, share=1 - self.stage_one)
        return (dataclasses.replace(one, validated_as=mask_of_stage_one, on_end=start_from_stage_one), two)

    def _joint(self, share: float) -> Any:
        return partial(joint_loss, share=share, detached=self.detached)

    def predict(self, networks: Networks, windows: Tensor) -> dict[str, Tensor]:
        """Sigmoid of the segmentation, stage one's where there is one, and of the separation, (n, y, x)."""
        seen = networks["segmentation"](windows)
        kept = networks["stage_one"](windows) if self.schedule == "cumulative" else seen
        scores = {"cell": kept.scores, "separation": separation_scores(networks, seen)}
        return {name: torch.sigmoid(values.float()) for name, values in scores.items()}

    def decode(self, maps: StoredMaps, valid: Box) -> Fragments:
        """The mask without the separation, post-processed; separating pixels are assigned to the nearest cell."""
        mask = self.postprocessing.filled(above(maps["cell"], self.threshold))
        parting = above(maps["separation"], self.separation)
        return self.postprocessing.fragments(mask & ~parting, mask & parting, self.band_radius, valid, maps["cell"])

    def merge_objects(self, nodes: Table, edges: Table) -> NDArray[np.int64]:
        """Cut only at short necks; drop small objects."""
        return self.postprocessing.merge_objects(nodes, edges, self.minimum_area)

    def calibrate(self, pairs: Iterable[tuple[StoredMaps, Labels]]) -> Self:
        """Search both thresholds, the minimum area and the length of a neck."""
        frames = list(pairs)
        areas = minimum_areas(truth for _, truth in frames)
        grid: dict[str, Sequence[Any]] = {"threshold": LEVELS, "separation": LEVELS, "minimum_area": areas}
        together = self.postprocessing.together_with("threshold")
        return searched(self, frames, grid | self.postprocessing.choices(), together=together)

    def perfect_prediction(self, labels: Labels) -> Maps:
        """All cells, separated at their pixels next to other cells, each of which is nearest to its own cell."""
        return {"cell": (labels > 0).astype(np.float32), "separation": contact_pixels(labels).astype(np.float32)}


DEEPSPLIT = DeepSplit()
BRANCHNET = DeepSplit(architecture="branchnet")
DOUBLE_UNET = DeepSplit(architecture="double-unet")

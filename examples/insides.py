"""A method in one file, outside the package: a small network predicts cells and their insides.

    cellscale train examples.insides:INSIDES movie.zarr --output model --validation-frames 8:10

A pixel is inside a cell if none of its 4 neighbours has another label. Insides of touching cells do not touch, so they
are the cells' cores; the other pixels of cells are assigned to the nearest core.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cellscale.methods.intensity import Intensity
from cellscale.methods.parts.decoding import above, contact_pixels, fragments, large_enough
from cellscale.methods.parts.optimizers import Adam, one_update
from cellscale.methods.parts.tuning import minimum_areas, searched
from cellscale.methods.protocol import Batch, Maps, Networks, Stage, Terms
from cellscale.types import Box, Fragments, Labels, Reach, StoredMaps, Table

DILATIONS = (1, 2, 4)
"""Dilations of three 5 × 5 convolutions."""


def network(channels: int, width: int) -> nn.Module:
    """Three dilated convolutions and two scores for each pixel; no pooling, no layer over the whole window."""
    layers: list[nn.Module] = []
    for before, dilation in zip((channels, width, width), DILATIONS, strict=True):
        layers += [nn.Conv2d(before, width, 5, padding=2 * dilation, dilation=dilation, bias=False)]
        layers += [nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(width, 2, 1))


def cross_entropy(networks: Networks, batch: Batch) -> Terms:
    """Mean binary cross-entropy of cells and insides."""
    scores = networks["dilated"](batch.image).float()
    truth = torch.stack([batch.targets["cell"], batch.targets["inside"]], dim=1).float()
    return {"bce": nn.functional.binary_cross_entropy_with_logits(scores, truth)}


@dataclass(frozen=True, kw_only=True)
class Insides:
    """Cells and insides by a small network."""

    name: ClassVar[str] = "examples.insides:INSIDES"
    paper: ClassVar[str] = "an example of the documentation"
    summary: ClassVar[str] = "three dilated convolutions, cells and their insides"
    join: ClassVar[Literal["links", "anchors"]] = "links"
    whole: ClassVar[Literal["exact", "windowed"]] = "exact"
    maps: ClassVar[tuple[str, ...]] = ("cell", "inside")
    adam: Adam = field(default_factory=lambda: Adam(learning_rate=0.01))
    intensity: Intensity = field(default_factory=Intensity)
    channels: int = 1
    """Number of image channels."""
    width: int = 12
    """Feature maps of each convolution."""
    threshold: float = 0.5
    """A pixel is inside if its probability is greater; fitted by `calibrate`."""
    radius: int = 2
    """Greatest distance at which a pixel is assigned to the nearest core, px."""
    minimum_area: int = 0
    """Smaller cells are dropped, px; fitted by `calibrate`."""

    @cached_property
    def reaches(self) -> Reach:
        """Radius of the receptive field, of the maps that decoding needs, and of a link."""
        return Reach(reach=2 * sum(DILATIONS), decode_reach=self.radius, link=self.radius)

    def fit_statistics(self, frames: Iterable[Labels], views: Iterable[Labels] | None = None) -> Self:
        """Nothing is counted in the training frames."""
        return self

    def targets(self, labels: Labels) -> Maps:
        """Targets of the network for a crop."""
        return {
            "cell": (labels > 0).astype(np.uint8),
            "inside": ((labels > 0) & ~contact_pixels(labels)).astype(np.uint8),
        }

    def networks(self) -> dict[str, nn.Module]:
        """One network."""
        return {"dilated": network(self.channels, self.width)}

    def stages(self) -> tuple[Stage, ...]:
        """One network, one loss."""
        return (one_update("cross-entropy", cross_entropy, self.adam, trains=("dilated",)),)

    def predict(self, networks: Networks, windows: Tensor) -> dict[str, Tensor]:
        """Two probabilities, (n, y, x)."""
        cell, inside = torch.sigmoid(networks["dilated"](windows).float()).unbind(dim=1)
        return {"cell": cell, "inside": inside}

    def decode(self, maps: StoredMaps, valid: Box) -> Fragments:
        """Components of the insides; other cell pixels are assigned to the nearest."""
        inside = above(maps["inside"], self.threshold)
        return fragments(inside, above(maps["cell"], 0.5) & ~inside, self.radius, valid)

    def merge_objects(self, nodes: Table, edges: Table) -> NDArray[np.int64]:
        """Drop small cells, once, after all tiles are joined."""
        return large_enough(nodes, self.minimum_area)

    def calibrate(self, pairs: Iterable[tuple[StoredMaps, Labels]]) -> Self:
        """Search the threshold and the minimum area on the validation frames."""
        frames = list(pairs)
        areas = minimum_areas(truth for _, truth in frames)
        return searched(self, frames, {"threshold": (0.3, 0.4, 0.5, 0.6, 0.7), "minimum_area": areas})

    def perfect_prediction(self, labels: Labels) -> Maps:
        """The perfect prediction."""
        return {name: target.astype(np.float32) for name, target in self.targets(labels).items()}


INSIDES = Insides()

"""A method in one file, outside of the package: a fixed blur and a threshold, real networks and real decoding."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from cellscale.methods.intensity import Intensity
from cellscale.methods.parts.decoding import above, fragments, large_enough
from cellscale.methods.protocol import Maps, Networks, Stage
from cellscale.models.model import Model
from cellscale.types import Box, Fragments, Labels, Reach, StoredMaps, Table

FULL_RANGE = Intensity(low=0.0, high=100.0)


@dataclass(frozen=True, kw_only=True)
class Blobs:
    name: ClassVar[str] = "tests.blobs:BLOBS"
    paper: ClassVar[str] = "none"
    summary: ClassVar[str] = "blur and threshold"
    join: ClassVar[Literal["links", "anchors"]] = "links"
    whole: ClassVar[Literal["exact", "windowed"]] = "exact"
    intensity: Intensity = FULL_RANGE
    channels: int = 1
    threshold: float = 0.4
    radius: int = 3
    minimum_area: int = 12
    maps: ClassVar[tuple[str, ...]] = ("cell", "touching")

    @property
    def reaches(self) -> Reach:
        return Reach(multiple=4, reach=2, decode_reach=self.radius, link=self.radius)

    def fit_statistics(self, frames: Iterable[Labels], views: Iterable[Labels] | None = None) -> Self:
        return self

    def targets(self, labels: Labels) -> Maps:
        return {"cell": (labels > 0).astype(np.uint8)}

    def networks(self) -> dict[str, nn.Module]:
        blur = nn.Conv2d(self.channels, 1, 5, padding=2, bias=False)
        nn.init.constant_(blur.weight, 1 / (25 * self.channels))
        return {"blur": blur}

    def stages(self) -> tuple[Stage, ...]:
        return ()

    def predict(self, networks: Networks, windows: Tensor) -> dict[str, Tensor]:
        seen = networks["blur"](windows).float()[:, 0].clamp(0, 1)
        return {"cell": seen, "touching": (2 * seen).clamp(0, 1)}

    def decode(self, maps: StoredMaps, valid: Box) -> Fragments:
        cells = above(maps["cell"], self.threshold)
        return fragments(cells, above(maps["touching"], self.threshold) & ~cells, self.radius, valid)

    def merge_objects(self, nodes: Table, edges: Table) -> NDArray[np.int64]:
        return large_enough(nodes, self.minimum_area)

    def calibrate(self, pairs: Iterable[tuple[StoredMaps, Labels]]) -> Self:
        return self

    def perfect_prediction(self, labels: Labels) -> Maps:
        cell = (labels > 0).astype(np.float32)
        return {"cell": cell, "touching": np.zeros_like(cell)}


BLOBS = Blobs()


def blobs_model(**settings: Any) -> Model:
    """The method with its networks, ready to segment."""
    method = Blobs(**settings)
    return Model(method=method, networks={name: network.eval() for name, network in method.networks().items()})


def blurred_noise(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.uint16]:
    """Smooth random intensities with cells of any size, uint16, (…, y, x)."""
    from scipy import ndimage

    noise = np.random.default_rng(seed).standard_normal(shape)
    smooth = ndimage.gaussian_filter(noise, [0] * (len(shape) - 2) + [3, 3])
    return np.asarray(np.clip(2000 + 9000 * smooth / smooth.std() / 6, 0, 65535), np.uint16)

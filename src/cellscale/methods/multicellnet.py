"""Multi-CellNet: a region and an edge network, losses balanced by a min–max, cells from coupled active contours.

Two coupled U-Nets predict f_r and f_e; E = λ E1 + √(1 − λ²) E2 (eq. 2) of two Dice losses (eq. 3–5) is minimal over the
networks and maximal over λ, in closed form (eq. 9). Contours start from clustered seeds and are inflated by the balloon
force f_r (1 − f_e). Each contour depends only on its surroundings, so cells are joined by anchors.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

from cellscale.errors import InputError
from cellscale.kernels.contours.evolve import Contours, Motion, evolve
from cellscale.kernels.distances.transform import nearest_label
from cellscale.kernels.seeds import class_limits, hierarchical_seeds, level_errors
from cellscale.methods.intensity import Intensity
from cellscale.methods.parts.cell_sizes import boxes_of_cells
from cellscale.methods.parts.decoding import above, fragments, large_enough, renumbered
from cellscale.methods.parts.optimizers import Adam, one_update
from cellscale.methods.parts.tuning import median_area, minimum_areas, searched
from cellscale.methods.protocol import Batch, Maps, Networks, Stage, Terms
from cellscale.networks.unet import UNetShape, chained_reach
from cellscale.settings.fields import setting
from cellscale.types import Box, Fragments, Labels, Reach, StoredMaps, Table, Whole

EQUAL_LEVELS = (26, 51, 77, 102, 128, 153, 179, 204, 230)
"""Levels between ten classes of equal width, of 255."""
LARGEST, EXTENT = 5000, 128
"""Largest area of a seed, and its largest number of rows and columns, before cells are measured, px."""
EPSILON = 1.0
"""Added to both parts of a Dice coefficient, px: two empty images are equal."""


def dice(target: Tensor, found: Tensor, squared: bool) -> Tensor:
    """Equation 5 of each sample (n, y, x), (n,); with squares below, a soft target is its own best match."""
    shared = 2 * (target * found).sum(dim=(1, 2))
    sums = target.square() + found.square() if squared else target + found
    return (shared + EPSILON) / (sums.sum(dim=(1, 2)) + EPSILON)


def maps_of(networks: Networks, images: Tensor) -> tuple[Tensor, Tensor]:
    """f_r and f_e, (n, y, x); the edge network sees the region network's first two and last features, not the image."""
    downs, last = networks["region"].features(images)  # type: ignore[operator]
    second = nn.functional.interpolate(downs[1], scale_factor=2, mode="bilinear", align_corners=False)
    edge = networks["edge"](torch.cat([downs[0], second, last], dim=1))
    region = networks["region"].head(last)  # type: ignore[operator]
    return torch.sigmoid(region.float()[:, 0]), torch.sigmoid(edge.float()[:, 0])


def min_max_weight(e1: Tensor, e2: Tensor) -> Tensor:
    """λ* of equation 9; 1/√2 if there is no loss."""
    norm = torch.hypot(e1, e2)
    return torch.where(norm > 0, e1 / norm.clamp_min(torch.finfo(norm.dtype).tiny), torch.full_like(norm, 0.5**0.5))


class EpochWeight(nn.Module):
    """λ* of the mean losses of the latest epoch; 1/√2 in the first."""

    sums: Tensor
    batches: Tensor
    weight: Tensor

    def __init__(self, every: int) -> None:
        """Count epochs of `every` batches."""
        super().__init__()
        self.every = every
        self.register_buffer("sums", torch.zeros(2))
        self.register_buffer("batches", torch.zeros(()))
        self.register_buffer("weight", torch.tensor(0.5**0.5))

    @torch.no_grad()
    def add(self, e1: Tensor, e2: Tensor) -> None:
        """Add the losses of a batch; the last one of an epoch sets λ*."""
        self.sums += torch.stack([e1, e2])
        self.batches += 1
        if self.batches >= self.every:
            self.weight.copy_(min_max_weight(*self.sums))
            self.sums.zero_()
            self.batches.zero_()


def coupled_dice(networks: Networks, batch: Batch, weights: str, squared: bool) -> Terms:
    """λ E1 and √(1 − λ²) E2 (eq. 2); λ* follows from the losses of all workers and has no gradient."""
    region, edge = maps_of(networks, batch.image)
    e1 = (1 - dice(batch.targets["region"].float(), region, squared)).mean()
    e2 = (1 - dice(batch.targets["edge"], edge, squared)).mean()
    means = batch.mean(e1.detach()), batch.mean(e2.detach())
    epoch = networks.get("epoch")
    best = min_max_weight(*means) if epoch is None else torch.as_tensor(epoch.weight)
    weight = best if weights == "min-max" else torch.full_like(best, 0.5**0.5)
    terms = {"region": weight * e1, "edge": (1 - weight.square()).sqrt() * e2}
    if isinstance(epoch, EpochWeight) and epoch.training:
        epoch.add(*means)
    return terms


def edges(labels: Labels, sigma: float) -> NDArray[np.float32]:
    """Largest smoothed gradient of any one cell, |∇(G_σ * 1_cell)| σ √(2π), 1 on a straight outline; (y, x)."""
    out = np.zeros(labels.shape, np.float32)
    margin = int(np.ceil(4 * sigma)) + 1
    for number, found in boxes_of_cells(labels).items():
        box = found.grow(margin).clip(Box.of(out.shape))
        cell = (labels[box.slices] == number).astype(np.float32)
        slope = ndimage.gaussian_gradient_magnitude(cell, sigma, mode="nearest")
        out[box.slices] = np.maximum(out[box.slices], slope * sigma * np.sqrt(2 * np.pi))
    return out.clip(0, 1)


@dataclass(frozen=True, kw_only=True)
class Seeding:
    """Hierarchical clustering: settings that choose the seeds. The paper refers to another paper for it."""

    map: Literal["force", "region"] = "force"
    """f_r (1 − f_e), or f_r; ours."""
    classes: int = setting(10, least=2)
    """Classes of the k-means between which the levels lie."""
    levels: tuple[int, ...] = setting((), fitted=True)
    """Thresholds of the seed map, 0 … 255; empty: fitted by `fit_statistics` on perfect maps, equal steps until then.
    `calibrate` fits them on predicted maps."""
    smallest: int = 20
    """Components of fewer pixels are no seeds."""
    largest: int = setting(0, fitted=True)
    """Components of more pixels wait for the next level; 0: fitted by `fit_statistics` (5,000 without any cell), then
    by `calibrate`."""
    extent: int = setting(0, fitted=True)
    """Greatest number of rows and columns of a seed, px; 0: fitted by `fit_statistics`, 128 or the largest cell's."""

    def __post_init__(self) -> None:
        steps = itertools.pairwise((0, *self.levels, 256))
        if not all(low < high for low, high in steps):
            raise InputError(
                f"Setting 'levels' is {list(self.levels)}; expected ascending thresholds from 1 to 255, or none."
            )

    def or_else(self, levels: Iterable[int], largest: int, extent: int) -> Seeding:
        """Replace unset values by the arguments."""
        return dataclasses.replace(
            self,
            levels=self.levels or tuple(levels),
            largest=self.largest or largest,
            extent=self.extent or extent,
        )


@dataclass(frozen=True, kw_only=True)
class Balloon:
    """Settings of the motion of contours, see `cellscale.kernels.contours.evolve`."""

    radius: int = 48
    """Greatest distance of a contour from its seed, px; cells that would be larger are flagged `cut`."""
    coupling: Literal["basins", "icy"] = "basins"
    """Contours stay within the pixels nearest to their seed (exact under tiling), or push each other (not exact)."""
    motion: Motion = field(default_factory=Motion)
    still: float = 0.05
    """s0: forces up to this have no effect; fitted by `calibrate`."""
    full: float = 0.25
    """s1: a force of s0 + s1 moves a vertex by 1 px; fitted by `calibrate`."""
    fill: int = 6
    """Greatest distance at which region pixels outside a contour are assigned to it, px; ours: 3 σ."""

    def __post_init__(self) -> None:
        if not self.full > 0:
            raise InputError(f"Setting 'full' is {self.full}; expected more than 0.")

    def evolve(self, force: NDArray[np.int32], seeds: Labels, within: Box) -> Contours:
        """Inflate seeds by a force 0 … 255²."""
        speed = np.clip((force / 255**2 - self.still) / self.full, 0, 1)
        return evolve(speed, seeds, radius=self.radius, coupling=self.coupling, within=within, motion=self.motion)


@dataclass(frozen=True, kw_only=True)
class MultiCellNet:
    """Two coupled U-Nets and coupled active contours."""

    name: ClassVar[str] = "multicellnet"
    paper: ClassVar[str] = "Multi-CellNet: region and edge networks with min–max weights and coupled active contours"
    summary: ClassVar[str] = "two coupled U-Nets (region, edge), min–max weighted Dice, coupled active contours"
    maps: ClassVar[tuple[str, ...]] = ("region", "edge")
    unet: UNetShape = field(default_factory=UNetShape)
    adam: Adam = field(default_factory=lambda: Adam(decay="exponential"))
    """The paper trains for thousands of epochs at 1e-4; this library's short trainings start at 1e-3."""
    seeding: Seeding = field(default_factory=Seeding)
    balloon: Balloon = field(default_factory=Balloon)
    intensity: Intensity = field(default_factory=Intensity)
    channels: int = setting(1, least=1)
    """Number of image channels."""
    sigma: float = 2.0
    """σ of the edge target, px; ours."""
    weights: Literal["min-max", "equal"] = "min-max"
    """λ by equation 9 for each batch, or 1/√2."""
    lambda_every: int = setting(1, before=1)
    """λ* follows from the mean losses of this many batches: 1 as in Algorithm 1, or an epoch's as in the text."""
    squared: bool = setting(True, before=False)
    """Squares in the denominator of the Dice loss. As printed, without, the loss of a soft edge cannot fall below about
    0.2, whatever is predicted, and λ* falls with the region's loss alone."""
    decoding: Literal["contours", "difference", "region"] = "contours"
    """Cells are contours; or, for comparison, components of f_r > ½ without f_e > ½, or of f_r > ½."""
    minimum_area: int = 0
    """Smaller objects are dropped, px; fitted by `calibrate`."""

    def __post_init__(self) -> None:
        if not self.sigma > 0:
            raise InputError(f"Setting 'sigma' is {self.sigma} px; expected more than 0.")

    @property
    def join(self) -> Literal["links", "anchors"]:
        """Contours are found around their seeds."""
        return "anchors" if self.decoding == "contours" else "links"

    @property
    def whole(self) -> Whole:
        """Contours that push each other depend on all contours of their tile."""
        return "tiled" if self.decoding == "contours" and self.balloon.coupling == "icy" else "exact"

    @cached_property
    def reaches(self) -> Reach:
        """The edge network follows the region network; a pixel depends on a chain of decisions.

        A pixel depends on a contour (fill), a contour on its seed (radius), a seed on its pixels (extent − 1), their
        basin on its pixels (radius), these on other seeds (radius), and seeds on their pixels (extent). Contours need
        no links; without them an edge pixel goes to its nearest component.
        """
        contours, fill = self.decoding == "contours", self.balloon.fill
        return Reach(
            multiple=self.unet.multiple,
            reach=chained_reach(self.unet.depth, self.unet.up),
            decode_reach=fill + 3 * self.balloon.radius + 2 * self.seeds.extent - 1 if contours else fill,
            link=1 if contours else max(1, fill),
        )

    @property
    def seeds(self) -> Seeding:
        """The seeding, with default values for everything that is not fitted yet."""
        return self.seeding.or_else(EQUAL_LEVELS, LARGEST, EXTENT)

    def fit_statistics(self, frames: Iterable[Labels], views: Iterable[Labels] | None = None) -> Self:
        """Fit the seeds' levels and limits on perfect maps of the training frames.

        At the tips of two cells that meet, both edges are faint: no seed is taken below the level with the fewest
        errors.
        """
        counts, areas, sides = np.zeros(256, np.int64), [np.zeros(0, np.int64)], [EXTENT]
        errors = np.zeros(256, np.int64)
        for frame in frames:
            maps = {
                name: np.rint(255 * values).astype(np.uint8) for name, values in self.perfect_prediction(frame).items()
            }
            values = self.seed_map(maps)
            counts += np.bincount(values.ravel(), minlength=256)
            errors += level_errors(values, frame, smallest=self.seeding.smallest)
            areas.append(np.unique(frame[frame > 0], return_counts=True)[1])
            sides += [max(box.shape) for box in boxes_of_cells(frame).values()]
        found = np.concatenate(areas)
        limits = class_limits(counts, self.seeding.classes) or EQUAL_LEVELS
        levels = np.unique(np.maximum(limits, errors.argmin())).tolist()
        largest = int(found.max()) if len(found) else LARGEST
        return dataclasses.replace(self, seeding=self.seeding.or_else(levels, largest, max(sides)))

    def targets(self, labels: Labels) -> Maps:
        """`region` (uint8) and `edge` (float32) of a crop."""
        return {"region": (labels > 0).astype(np.uint8), "edge": edges(labels, self.sigma)}

    def networks(self) -> dict[str, nn.Module]:
        """A U-Net on images, another one on its features."""
        features = 4 * self.unet.width
        made = {"region": self.unet.network(self.channels, 1), "edge": self.unet.network(features, 1)}
        return made | ({"epoch": EpochWeight(self.lambda_every)} if self.lambda_every > 1 else {})

    def stages(self) -> tuple[Stage, ...]:
        """Both networks, one loss."""
        loss = partial(coupled_dice, weights=self.weights, squared=self.squared)
        trains = ("region", "edge", "epoch") if self.lambda_every > 1 else ("region", "edge")
        return (one_update("dice", loss, self.adam, trains=trains),)

    def predict(self, networks: Networks, windows: Tensor) -> dict[str, Tensor]:
        """f_r and f_e, (n, y, x)."""
        return dict(zip(self.maps, maps_of(networks, windows), strict=True))

    def seed_map(self, maps: StoredMaps) -> NDArray[np.uint8]:
        """The map whose components are seeds, 0 … 255."""
        return maps["region"] if self.seeding.map == "region" else (force_of(maps) // 255).astype(np.uint8)

    def contours(self, maps: StoredMaps, within: Box) -> Contours:
        """Contours of all cells that may have a pixel in a box."""
        s = self.seeds
        seeds = hierarchical_seeds(
            self.seed_map(maps), s.levels, smallest=s.smallest, largest=s.largest, extent=s.extent
        )
        return self.balloon.evolve(force_of(maps), seeds, within)

    def decode(self, maps: StoredMaps, valid: Box) -> Fragments:
        """Seeds, contours, and region pixels that no contour reached."""
        region = above(maps["region"], 0.5)
        if self.decoding != "contours":
            edge = above(maps["edge"], 0.5) if self.decoding == "difference" else np.zeros_like(region)
            return fragments(region & ~edge, region & edge, self.balloon.fill, valid)
        near = valid.grow(self.balloon.fill).clip(Box.of(region.shape))
        contours = self.contours(maps, near)
        cells = contours.labels()[near.slices]
        nearest, _ = nearest_label(cells, radius=self.balloon.fill)
        filled = np.where((cells == 0) & region[near.slices], nearest, cells)[valid.within(near).slices]
        return anchored(filled, contours, valid)

    def merge_objects(self, nodes: Table, edges: Table) -> NDArray[np.int64]:
        """Drop small objects."""
        return large_enough(nodes, self.minimum_area)

    def calibrate(self, pairs: Iterable[tuple[StoredMaps, Labels]]) -> Self:
        """Cluster the predicted maps, then search the seeds' largest area, the forces and the minimum area."""
        frames = list(pairs)
        counts = sum(
            (np.bincount(self.seed_map(maps).ravel(), minlength=256) for maps, _ in frames), np.zeros(256, int)
        )
        levels = class_limits(counts, self.seeding.classes) or self.seeds.levels
        start = dataclasses.replace(self, seeding=dataclasses.replace(self.seeding, levels=levels))
        typical = 4 * max(2, round(median_area(truth for _, truth in frames) / 4))
        grid: dict[str, Any] = {
            "seeding.smallest": [round(share * typical) for share in (0.02, 0.05, 0.1, 0.2)],
            "seeding.largest": [round(share * typical) for share in (0.6, 0.8, 1.0, 1.3, 1.7)],
            "balloon.still": (0.05, 0.15, 0.3),
            "balloon.full": (0.1, 0.25, 0.5),
            "minimum_area": minimum_areas(truth for _, truth in frames),
        }
        return searched(start, frames, grid)

    def perfect_prediction(self, labels: Labels) -> Maps:
        """The targets."""
        return {"region": (labels > 0).astype(np.float32), "edge": edges(labels, self.sigma)}


def force_of(maps: StoredMaps) -> NDArray[np.int32]:
    """F_s = f_r (1 − f_e) in whole numbers, 0 … 255²."""
    force: NDArray[np.int32] = maps["region"].astype(np.int32) * (255 - maps["edge"].astype(np.int32))
    return force


def anchored(cells: Labels, contours: Contours, valid: Box) -> Fragments:
    """Fragments of a box, with the first pixels of their seeds as anchors and the flags of their contours."""
    seen = np.unique(cells[cells > 0]).astype(np.int64)
    size = len(contours.origins)
    flags = {
        "cut": np.bincount(contours.owners[contours.cut], minlength=size),
        "unconverged": np.bincount(contours.owners[~contours.converged], minlength=size),
    }
    return Fragments(
        labels=renumbered(cells),
        anchors=contours.origins[seen] - (valid.y0, valid.x0),
        flags={name: np.minimum(values[seen], 1) for name, values in flags.items()},
    )


MULTICELLNET = MultiCellNet()

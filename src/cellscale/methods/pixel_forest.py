"""A random forest on the responses of filters at several scales, for comparison with ilastik in the papers.

C. Sommer et al., Ilastik: interactive learning and segmentation toolkit, ISBI 2011; the list of filters follows it. The
filters are direct convolutions with truncated kernels, so that a response is the same in every window. Three classes,
background, cell and contour, as in Arbelle and Riklin Raviv (2018).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any, ClassVar, Literal, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from skimage.feature import hessian_matrix_eigvals, structure_tensor_eigenvalues
from sklearn.ensemble import RandomForestClassifier
from torch import Tensor, nn

from cellscale.errors import InputError
from cellscale.kernels.forests import VOTE, forest_votes
from cellscale.methods.intensity import Intensity
from cellscale.methods.parts.contour_classes import CLASSES, MAPS, Contours, contour_classes, perfect_maps
from cellscale.methods.parts.decoding import large_enough
from cellscale.methods.parts.tuning import minimum_areas, searched
from cellscale.methods.protocol import Batch, Maps, Networks, Stage
from cellscale.settings.fields import setting
from cellscale.types import Box, Fragments, Labels, Reach, StoredMaps, Table

Plane = NDArray[np.floating[Any]]
"""A channel or a response, (y, x)."""
TRUNCATE = 3.0
"""Radius at which Gaussians are cut, in σ."""
FINER = 0.66
"""σ of the second Gaussian of a difference, as a share of the first's."""
AROUND = 0.5
"""σ of the window of a structure tensor, as a share of its gradient's."""
RESPONSES = 8
"""Responses of a channel at each scale."""
ROWS_AT_ONCE = 512
"""Rows that are processed together."""


def radius(sigma: float) -> int:
    """Radius at which a Gaussian is cut, px."""
    return math.ceil(TRUNCATE * sigma)


def blurred(plane: Plane, sigma: float) -> Plane:
    """Gaussian, mirrored at the border."""
    found: Plane = ndimage.gaussian_filter(plane, sigma, mode="mirror", radius=radius(sigma))
    return found


def slope(plane: Plane, axis: int) -> Plane:
    """Central difference along an axis."""
    found: Plane = ndimage.correlate1d(plane, [-0.5, 0.0, 0.5], axis=axis, mode="mirror")
    return found


def bend(plane: Plane, axis: int) -> Plane:
    """Second difference along an axis."""
    found: Plane = ndimage.correlate1d(plane, [1.0, -2.0, 1.0], axis=axis, mode="mirror")
    return found


def responses(plane: Plane, sigma: float) -> Iterator[Plane]:
    """Gaussian, Laplacian, gradient magnitude, difference of Gaussians, eigenvalues of structure tensor and Hessian."""
    smooth = blurred(plane, sigma)
    dy, dx = slope(smooth, 0), slope(smooth, 1)
    yy, xx = bend(smooth, 0), bend(smooth, 1)
    yield smooth
    yield yy + xx
    yield np.sqrt(dy**2 + dx**2)
    yield smooth - blurred(plane, FINER * sigma)
    tensor = [blurred(part, AROUND * sigma) for part in (dy * dy, dy * dx, dx * dx)]
    yield from structure_tensor_eigenvalues(tensor)
    yield from hessian_matrix_eigvals([yy, slope(dy, 1), xx])


class Forest(nn.Module):
    """Trees as flat arrays of fixed size; before fitting, each is one leaf that votes equally for all classes."""

    def __init__(self, trees: int, leaves: int) -> None:
        """Allocate arrays for trees with this number of leaves."""
        super().__init__()
        nodes = (trees, 2 * leaves - 1)
        self.register_buffer("feature", torch.zeros(nodes, dtype=torch.int32))
        self.register_buffer("threshold", torch.zeros(nodes, dtype=torch.float32))
        self.register_buffer("child", torch.zeros((*nodes, 2), dtype=torch.int32))
        self.register_buffer("votes", torch.full((*nodes, len(CLASSES)), VOTE // len(CLASSES), dtype=torch.int32))

    def take(self, fitted: RandomForestClassifier) -> None:
        """Copy the trees of a forest that was fitted on some of the classes 0 … 2."""
        known = fitted.classes_.astype(int)
        for arrays in zip(
            *(self._array(name) for name in ("feature", "threshold", "child", "votes")), fitted, strict=True
        ):
            feature, threshold, child, votes, tree = *arrays[:4], arrays[4].tree_
            n = tree.node_count
            feature[:n] = np.maximum(tree.feature, 0)
            threshold[:n] = at_most(tree.threshold)
            child[:n] = np.maximum(np.stack([tree.children_left, tree.children_right], axis=1), 0)
            votes[...] = 0
            votes[:n, known] = np.rint(VOTE * tree.value[:, 0])

    def _array(self, name: str) -> NDArray[Any]:
        """A view of a buffer."""
        found: NDArray[Any] = self.get_buffer(name).numpy()
        return found

    def forward(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Share of the votes for each class, (points, 3), of responses (points, features)."""
        arrays = {name: buffer.cpu().numpy() for name, buffer in self.named_buffers()}
        votes = forest_votes(values, **arrays)
        shares: NDArray[np.float32] = (votes / (VOTE * len(arrays["feature"]))).astype(np.float32)
        return shares


def at_most(threshold: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the greatest float32 that is not above: comparing a float32 with either gives the same."""
    nearest = threshold.astype(np.float32)
    return np.where(nearest > threshold, np.nextafter(nearest, np.float32(-np.inf)), nearest)


@dataclass(frozen=True, kw_only=True)
class PixelForest:
    """Filter responses at several scales, a random forest, components of the most probable class."""

    name: ClassVar[str] = "pixel-forest"
    paper: ClassVar[str] = "C. Sommer et al., Ilastik: interactive learning and segmentation toolkit, ISBI 2011"
    summary: ClassVar[str] = "random forest on filter responses at several scales; trains in seconds"
    join: ClassVar[Literal["links", "anchors"]] = "links"
    whole: ClassVar[Literal["exact", "windowed"]] = "exact"
    maps: ClassVar[tuple[str, ...]] = MAPS
    scales: tuple[float, ...] = setting((0.7, 1.0, 1.6, 3.5, 5.0, 10.0), trained=True)
    """σ of the filters, px."""
    trees: int = 100
    """Trees of the forest."""
    leaves: int = 200
    """Most leaves of a tree."""
    batches: int = 10
    """Batches of crops whose pixels the forest is fitted on."""
    pixels: int = 1500
    """Pixels drawn from each batch, the same number of each class as long as there are enough."""
    contours: Contours = field(default_factory=Contours)
    intensity: Intensity = field(default_factory=Intensity)
    channels: int = setting(1, trained=True, least=1)
    """Number of image channels."""

    def __post_init__(self) -> None:
        if not self.scales or min(self.scales) <= 0:
            raise InputError(f"Setting 'scales' is {self.scales}; expected σ above 0 px.")
        if min(self.trees, self.leaves - 1, self.batches, self.pixels) < 1:
            raise InputError("Settings 'trees', 'batches' and 'pixels' are at least 1, 'leaves' at least 2.")

    @cached_property
    def reaches(self) -> Reach:
        """A contour pixel is linked to its cell."""
        # A gradient of the widest Gaussian, averaged over the window of its structure tensor.
        reach = radius(max(self.scales)) + 1 + radius(AROUND * max(self.scales))
        contour = self.contours.contour_radius
        return Reach(reach=reach, decode_reach=contour, link=max(1, contour))

    def fit_statistics(self, frames: Iterable[Labels], views: Iterable[Labels] | None = None) -> Self:
        """Nothing to fit."""
        return self

    def targets(self, labels: Labels) -> Maps:
        """`classes` (uint8) of a crop."""
        return {"classes": contour_classes(labels)}

    def networks(self) -> dict[str, nn.Module]:
        """The forest."""
        return {"forest": Forest(self.trees, self.leaves)}

    def stages(self) -> tuple[Stage, ...]:
        """No steps: the forest is fitted at once."""
        return (Stage(name="forest", updates=(), fit=self.fit),)

    def features(self, image: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """All responses of (c, y, x): (c · scales · 8, y, x)."""
        return np.stack([one for plane in image for sigma in self.scales for one in responses(plane, sigma)])

    def fit(self, networks: Networks, batches: Iterable[Batch]) -> None:
        """Fit the forest on pixels of the first batches."""
        seed = int(torch.randint(2**31, ()))
        rng = np.random.default_rng(seed)
        drawn = [self.drawn(batch, rng) for batch in islice(batches, self.batches)]
        values, classes = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
        forest = RandomForestClassifier(self.trees, max_leaf_nodes=self.leaves, random_state=seed)
        cast(Forest, networks["forest"]).take(forest.fit(values, classes))

    def drawn(self, batch: Batch, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Responses (pixels, features) and classes (pixels,) of random pixels that depend only on their crop.

        Raises
        ------
        InputError
            If a crop has no such pixel.
        """
        reach = self.reaches.reach
        inner = np.s_[..., reach:-reach, reach:-reach]
        classes = batch.targets["classes"].cpu().numpy()[inner]
        if classes.size == 0:
            raise InputError(
                f"The filters have a reach of {reach} px: in a crop of {batch.image.shape[-1]} px every pixel "
                f"depends on pixels outside it. Set crop to at least {2 * reach + 1}, or choose smaller scales."
            )
        values = np.stack([self.features(image)[inner] for image in batch.image.cpu().numpy()]).swapaxes(0, 1)
        shuffled = rng.permutation(classes.size)
        places = [shuffled[classes.ravel()[shuffled] == number] for number in range(len(CLASSES))]
        chosen = np.concatenate([of[: -(-self.pixels // len(CLASSES))] for of in places])
        return values.reshape(len(values), -1)[:, chosen].T.astype(np.float32), classes.ravel()[chosen]

    def predict(self, networks: Networks, windows: Tensor) -> dict[str, Tensor]:
        """Shares of the votes, (n, y, x); rows are processed in bands, to hold few responses at once."""
        forest, height = networks["forest"], windows.shape[2]
        found = np.empty((len(windows), len(CLASSES), *windows.shape[2:]), np.float32)
        for window, out in zip(windows.cpu().numpy(), found, strict=True):
            for y in range(0, height, ROWS_AT_ONCE):
                first, stop = max(0, y - self.reaches.reach), min(height, y + ROWS_AT_ONCE)
                seen = self.features(window[:, first : stop + self.reaches.reach])[:, y - first : stop - first]
                shares = forest(np.ascontiguousarray(seen.reshape(len(seen), -1).T, np.float32))
                out[:, y:stop] = shares.T.reshape(len(CLASSES), stop - y, -1)
        return {name: torch.from_numpy(found[:, number]) for number, name in enumerate(MAPS, 1)}

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


PIXEL_FOREST = PixelForest()

"""Arbelle and Riklin Raviv (2018): the estimator, the Rib Cage discriminator and a classification discriminator.

Every layer of the estimator is local. The even kernel looks one pixel farther down and to the right than up and to the
left. The discriminators read squares of one size and are needed only in training.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

KERNELS = (9, 7, 5, 4)
"""Sides of the estimator's convolutions before the last, px."""
BEFORE = sum((side - 1) // 2 for side in KERNELS)
"""Reach of an estimate up and to the left, px."""
BEHIND = sum(side // 2 for side in KERNELS)
"""Reach of an estimate down and to the right, px: one more, because of the even kernel."""
LEAK = 0.1
"""Slope of the leaky ReLU below 0."""


def convolution(inputs: int, outputs: int, side: int) -> list[nn.Module]:
    """Convolution without padding and bias, BatchNorm, leaky ReLU."""
    return [nn.Conv2d(inputs, outputs, side, bias=False), nn.BatchNorm2d(outputs), nn.LeakyReLU(LEAK)]


def same(inputs: int, outputs: int, side: int) -> list[nn.Module]:
    """The same with zeros around the input, so that the size stays."""
    before, behind = (side - 1) // 2, side // 2
    return [nn.ZeroPad2d((before, behind, before, behind)), *convolution(inputs, outputs, side)]


def scorer(*sizes: int) -> nn.Sequential:
    """Fully connected layers with leaky ReLU, the last one without: (n, …) to (n, last)."""
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.LeakyReLU(LEAK)]
    return nn.Sequential(*layers[:-1])


class Estimator(nn.Sequential):
    """C(9, 16) C(7, 32) C(5, 64) C(4, 64) C(1, 3) without padding: scores before softmax, (n, 3, y − 21, x − 21)."""

    def __init__(self, channels: int, classes: int, width: int) -> None:
        """Make fresh weights; the first convolution has `width` features."""
        sizes = (channels, width, 2 * width, 4 * width, 4 * width)
        layers = [part for i, side in enumerate(KERNELS) for part in convolution(sizes[i], sizes[i + 1], side)]
        super().__init__(*layers, nn.Conv2d(sizes[-1], classes, 1))


class RibCageBlock(nn.Module):
    """Figure 1: each rib convolves its own input, the spine both ribs' inputs and the former spine's output."""

    def __init__(self, inputs: tuple[int, int, int], ribs: int, spine: int, side: int) -> None:
        """Features of the inputs, and of the outputs; convolutions of `side` px."""
        super().__init__()
        sizes = {"image": (inputs[0], ribs), "segmentation": (inputs[1], ribs), "spine": (sum(inputs), spine)}
        parts = {name: nn.Sequential(*same(*size, side), nn.MaxPool2d(2)) for name, size in sizes.items()}
        self.image, self.segmentation, self.spine = parts.values()

    def forward(self, image: Tensor, segmentation: Tensor, spine: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Half the size of the inputs."""
        joined = torch.cat([image, segmentation, spine], dim=1)
        return self.image(image), self.segmentation(segmentation), self.spine(joined)


class RibCageNetwork(nn.Module):
    """Figure 2: three blocks, their outputs joined, then fully connected layers."""

    def __init__(self, channels: int, classes: int, side: int, *, ribs: int, width: int, closing: bool) -> None:
        """Read squares of `side` px; the ribs have `ribs` features in the first block, the spine half of that."""
        super().__init__()
        inputs, spine = (channels, classes, 0), ribs // 2
        blocks = []
        for kernel, factor in ((9, 1), (5, 4), (3, 8)):
            blocks.append(RibCageBlock(inputs, factor * ribs, factor * spine, kernel))
            inputs = (factor * ribs, factor * ribs, factor * spine)
        self.blocks = nn.ModuleList(blocks)
        self.close = nn.Sequential(*same(sum(inputs), width, 4)) if closing else nn.Identity()
        self.score = scorer((width if closing else sum(inputs)) * (side // 8) ** 2, width, width, 1)

    def forward(self, image: Tensor, segmentation: Tensor) -> Tensor:
        """Log-odds that the segmentations (n, 3, y, x) of images (n, c, y, x) are true, (n,)."""
        spine = image[:, :0]
        for block in self.blocks:
            image, segmentation, spine = block(image, segmentation, spine)
        scores: Tensor = self.score(self.close(torch.cat([image, segmentation, spine], dim=1)))
        return scores.float()[:, 0]


class ClassificationNetwork(nn.Module):
    """Image and segmentation joined; four blocks of 3×3 convolutions, pooled after each; fully connected layers."""

    def __init__(self, inputs: int, side: int, *, features: int, hidden: int) -> None:
        """Read squares of `side` px with `inputs` channels, image and segmentation together."""
        super().__init__()
        layers: list[nn.Module] = []
        for factor, count in ((1, 2), (2, 2), (4, 3), (4, 3)):
            for _ in range(count):
                layers += same(inputs, factor * features, 3)
                inputs = factor * features
            layers.append(nn.MaxPool2d(2))
        self.layers = nn.Sequential(*layers, scorer(inputs * (side // 16) ** 2, hidden, hidden, 1))

    def forward(self, image: Tensor, segmentation: Tensor) -> Tensor:
        """Log-odds that the segmentations (n, 3, y, x) of images (n, c, y, x) are true, (n,)."""
        scores: Tensor = self.layers(torch.cat([image, segmentation], dim=1))
        return scores.float()[:, 0]

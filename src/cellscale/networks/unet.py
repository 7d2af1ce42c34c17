"""U-Net: zero-padded convolutions, 2×2 pooling, transposed 2×2 convolutions or interpolation, skips by concatenation.

Every layer is local, so a pixel of the output depends only on the inputs within `unet_reach` px.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from cellscale.errors import InputError
from cellscale.settings.fields import setting

Up: TypeAlias = Literal["transposed", "bilinear"]
Dropout: TypeAlias = Literal["features", "values"]

CONVOLUTIONS = 2
"""3×3 convolutions in each block."""
MAX_DEPTH = 10
"""Deepest U-Net: windows are multiples of 2^depth px, and features double with each level."""


def unet_multiple(depth: int) -> int:
    """Input sizes are multiples of this, px."""
    return 1 << depth


def unet_reach(depth: int, up: Up = "transposed") -> int:
    """Radius of the receptive field of an output pixel, px: R(0) = c, R(d) = c + 2 R(d − 1) + 1 + u + c.

    c is the number of convolutions of a block. A radius of r px in the pooled plane is one of 2r + 1 px in the plane
    before the pooling. u is 1 if pooled pixels are interpolated, since a pixel then also depends on the next pooled one
    on its nearer side, and 0 otherwise.
    """
    if depth == 0:
        return CONVOLUTIONS
    return 2 * CONVOLUTIONS + 2 * unet_reach(depth - 1, up) + 1 + (up == "bilinear")


def farthest(pixel: int, depth: int, up: Up = "transposed") -> int:
    """Return the last input on which an output pixel depends, which varies with its place in the pooling grid."""
    if depth == 0:
        return pixel + CONVOLUTIONS
    # Interpolation: an odd pixel lies between its pooled one and the next, an even one between that and the one before.
    pooled = (pixel + CONVOLUTIONS + (up == "bilinear")) // 2
    return 2 * farthest(pooled, depth - 1, up) + 1 + CONVOLUTIONS


def chained_reach(depth: int, up: Up = "transposed") -> int:
    """Radius of the receptive field of two U-Nets in series, px: less than twice that of one."""
    return max(farthest(farthest(pixel, depth, up), depth, up) - pixel for pixel in range(unet_multiple(depth)))


def block(
    inputs: int, outputs: int, *, norm: bool = True, dropout: float = 0.0, dropped: Dropout = "features"
) -> nn.Sequential:
    """Two 3×3 convolutions, each with BatchNorm (if `norm`) and ReLU; then dropout of whole features or of values."""
    layers: list[nn.Module] = []
    for features in (inputs, outputs):
        layers.append(nn.Conv2d(features, outputs, 3, padding=1, bias=not norm))
        layers += [nn.BatchNorm2d(outputs)] if norm else []
        layers.append(nn.ReLU(inplace=True))
    if dropout > 0:
        layers.append(nn.Dropout2d(dropout) if dropped == "features" else nn.Dropout(dropout))
    return nn.Sequential(*layers)


def xavier_normal(network: nn.Module) -> None:
    """Draw the convolutions' weights as Glorot and Bengio (2010); biases are 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class UNet(nn.Module):
    """Ronneberger, Fischer and Brox (2015), with padding, so that the output has the size of the input."""

    def __init__(self, channels: int, classes: int, shape: UNetShape) -> None:
        """Make `depth` poolings; level i has width · 2^i features.

        A transposed convolution halves the features on the way up; interpolation keeps them, and the block behind it
        halves them.
        """
        super().__init__()
        sizes = shape.sizes
        finer = sizes[-2::-1]
        self.down = nn.ModuleList(shape.block(i, o) for i, o in pairwise([channels, *sizes]))
        if shape.up == "transposed":
            self.up = nn.ModuleList(nn.ConvTranspose2d(size * 2, size, 2, stride=2) for size in finer)
            self.merge = nn.ModuleList(shape.block(size * 2, size) for size in finer)
        else:
            self.up = nn.ModuleList(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False) for _ in finer)
            self.merge = nn.ModuleList(shape.block(size * 3, size) for size in finer)
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Conv2d(shape.width, classes, 1)
        xavier_normal(self)

    def features(self, image: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the features of each block of the encoder before pooling, finest first, and those of the last
        block.
        """
        downs = [self.down[0](image)]
        for down in self.down[1:]:
            downs.append(down(self.pool(downs[-1])))
        features = downs[-1]
        for up, merge, skip in zip(self.up, self.merge, reversed(downs[:-1]), strict=True):
            features = merge(torch.cat([skip, up(features)], dim=1))
        return downs, features

    def forward(self, image: Tensor) -> Tensor:
        """Scores before softmax or sigmoid, (n, classes, y, x), of images (n, channels, y, x)."""
        scores: Tensor = self.head(self.features(image)[1])
        return scores


@dataclass(frozen=True, kw_only=True)
class UNetShape:
    """Size of a U-Net."""

    width: int = 16
    """Features of the first block; each pooling doubles them."""
    depth: int = 4
    """Number of 2×2 poolings."""
    norm: bool = True
    """BatchNorm after each convolution."""
    dropout: float = 0.0
    """Share of the features that a block drops in training."""
    dropped: Dropout = setting("features", before="features")
    """Whether dropout takes whole feature maps, or single values."""
    up: Up = setting("transposed", before="transposed")
    """Up-sampling of features: by a transposed 2×2 convolution, or interpolated."""

    @property
    def sizes(self) -> list[int]:
        """Features of each level, finest first."""
        return [self.width * 2**level for level in range(self.depth + 1)]

    def block(self, inputs: int, outputs: int) -> nn.Sequential:
        """Make a block with the normalisation and dropout of this network."""
        return block(inputs, outputs, norm=self.norm, dropout=self.dropout, dropped=self.dropped)

    def __post_init__(self) -> None:
        if self.width < 1 or not 0 <= self.depth <= MAX_DEPTH:
            raise InputError(
                f"Settings 'width' and 'depth' are {self.width} and {self.depth}; "
                f"expected a width of at least 1 and a depth of 0 to {MAX_DEPTH}."
            )
        if not 0 <= self.dropout < 1:
            raise InputError(f"Setting 'dropout' is {self.dropout}; expected a share of at least 0 and below 1.")

    @property
    def multiple(self) -> int:
        """Input sizes are multiples of this, px."""
        return unet_multiple(self.depth)

    @property
    def reach(self) -> int:
        """Radius of the receptive field of an output pixel, px."""
        return unet_reach(self.depth, self.up)

    def network(self, channels: int, classes: int) -> UNet:
        """Make a network with fresh weights from torch's generator."""
        return UNet(channels, classes, self)

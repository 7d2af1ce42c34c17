"""U-Net: zero-padded convolutions, 2×2 pooling, transposed 2×2 convolutions, skips by concatenation.

Every layer is local, so a pixel of the output depends on the inputs within `unet_reach` px and on nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cellscale.errors import InputError

CONVOLUTIONS = 2
"""3×3 convolutions in each block."""
MAX_DEPTH = 10
"""Deepest U-Net: windows are multiples of 2^depth px, and features double with each level."""


def unet_multiple(depth: int) -> int:
    """Input sizes are multiples of this, px."""
    return 1 << depth


def unet_reach(depth: int) -> int:
    """How far an output pixel looks, one side, px: R(0) = c, R(d) = c + 2 R(d − 1) + 1 + c, c convolutions a block.

    A pixel that looks r pixels far in the pooled plane looks 2r + 1 far in the plane before the pooling.
    """
    if depth == 0:
        return CONVOLUTIONS
    return 2 * CONVOLUTIONS + 2 * unet_reach(depth - 1) + 1


def farthest(pixel: int, depth: int) -> int:
    """Return the last input that an output pixel sees; how far depends on the pixel's place in the pooling grid."""
    if depth == 0:
        return pixel + CONVOLUTIONS
    return 2 * farthest((pixel + CONVOLUTIONS) // 2, depth - 1) + 1 + CONVOLUTIONS


def chained_reach(depth: int) -> int:
    """How far an output pixel of a U-Net looks that sees the output of another one, px: less than twice as far."""
    return max(farthest(farthest(pixel, depth), depth) - pixel for pixel in range(unet_multiple(depth)))


def block(inputs: int, outputs: int, *, norm: bool = True, dropout: float = 0.0) -> nn.Sequential:
    """Two 3×3 convolutions, each with BatchNorm (if `norm`) and ReLU; then dropout of whole features."""
    layers: list[nn.Module] = []
    for features in (inputs, outputs):
        layers.append(nn.Conv2d(features, outputs, 3, padding=1, bias=not norm))
        layers += [nn.BatchNorm2d(outputs)] if norm else []
        layers.append(nn.ReLU(inplace=True))
    layers += [nn.Dropout2d(dropout)] if dropout > 0 else []
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

    def __init__(
        self, channels: int, classes: int, *, width: int = 16, depth: int = 4, norm: bool = True, dropout: float = 0.0
    ) -> None:
        """Make `depth` poolings; level i has width · 2^i features."""
        super().__init__()
        sizes = [width * 2**level for level in range(depth + 1)]
        inputs = [channels, *sizes[:-1]]
        self.down = nn.ModuleList(block(i, o, norm=norm, dropout=dropout) for i, o in zip(inputs, sizes, strict=True))
        self.up = nn.ModuleList(nn.ConvTranspose2d(size * 2, size, 2, stride=2) for size in reversed(sizes[:-1]))
        self.merge = nn.ModuleList(block(size * 2, size, norm=norm, dropout=dropout) for size in reversed(sizes[:-1]))
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Conv2d(width, classes, 1)
        xavier_normal(self)

    def features(self, image: Tensor) -> tuple[list[Tensor], Tensor]:
        """What each block on the way down returns before pooling, finest first, and what the last block returns."""
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

    def __post_init__(self) -> None:
        if self.width < 1 or not 0 <= self.depth <= MAX_DEPTH:
            raise InputError(
                f"Settings 'width' and 'depth' are {self.width} and {self.depth}; "
                f"expected a width of at least 1 and a depth of 0 to {MAX_DEPTH}."
            )

    @property
    def multiple(self) -> int:
        """Input sizes are multiples of this, px."""
        return unet_multiple(self.depth)

    @property
    def reach(self) -> int:
        """How far an output pixel looks, one side, px."""
        return unet_reach(self.depth)

    def network(self, channels: int, classes: int) -> UNet:
        """Make a network with fresh weights from torch's generator."""
        return UNet(channels, classes, width=self.width, depth=self.depth, norm=self.norm, dropout=self.dropout)

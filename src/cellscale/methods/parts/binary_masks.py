"""One probability for each pixel: its loss, its prediction, and the objects of its mask."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from cellscale.methods.parts.decoding import contact_pixels, gaps
from cellscale.methods.protocol import Maps, Networks
from cellscale.types import Labels, Mask


def weighted_bce(scores: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean over pixels of w(p) · binary cross-entropy of scores before the sigmoid, all (n, y, x)."""
    return nn.functional.binary_cross_entropy_with_logits(scores.float(), target.float(), weight=weight)


def probability(networks: Networks, windows: Tensor) -> dict[str, Tensor]:
    """`cell`: the sigmoid of the only channel of the network `unet`, (n, y, x)."""
    return {"cell": torch.sigmoid(networks["unet"](windows).float()[:, 0])}


def gaps_to_fill(cells: Mask, radius: int) -> Mask:
    """Gaps of one or two pixels between cells, which go to the nearest cell; none with a radius of 0."""
    return gaps(cells) if radius else np.zeros_like(cells)


def perfect_mask(labels: Labels) -> Maps:
    """Cells without their pixels at other cells: symmetric gaps, so that each is nearest to its own cell."""
    return {"cell": ((labels > 0) & ~contact_pixels(labels)).astype(np.float32)}

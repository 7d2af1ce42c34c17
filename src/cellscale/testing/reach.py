"""Measured receptive fields: change one input pixel and see how far the prediction changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor


def measured_reach(
    predict: Callable[[Tensor], Mapping[str, Tensor]], *, channels: int, multiple: int, radius: int
) -> int:
    """Return how far a change of one input pixel travels through `predict`, one side, px.

    The pixel is changed at `multiple` places on a diagonal, so that it meets the pooling grids in every phase.

    Parameters
    ----------
    predict : callable
        Windows (n, c, y, x) to maps (n, y, x) by name, in evaluation mode; pure.
    channels : int
        Number of image channels.
    multiple : int
        Window sizes are multiples of this, px.
    radius : int
        The window reaches at least this far from the pixel; what the window cuts cannot be measured.

    Examples
    --------
    >>> convolution = torch.nn.Conv2d(1, 1, 5, padding=2)
    >>> with torch.inference_mode():
    ...     measured_reach(lambda window: {"map": convolution(window)[:, 0]}, channels=1, multiple=1, radius=6)
    2
    """
    size = -(-(2 * radius + 2 * multiple) // multiple) * multiple
    window = torch.rand(1, channels, size, size, generator=torch.Generator().manual_seed(0))
    before = predict(window)
    farthest = 0
    for at in range(size // 2, size // 2 + multiple):
        changed = window.clone()
        changed[..., at, at] += 100.0
        after = predict(changed)
        for name, values in before.items():
            places = (values != after[name]).nonzero()[:, -2:] - at
            farthest = max(farthest, int(places.abs().max()) if len(places) else 0)
    return farthest

"""The focal loss: cross-entropy that counts less where the network is right already."""

from __future__ import annotations

import torch
from torch import Tensor


def focal(surprise: Tensor, gamma: float) -> Tensor:
    """Multiply −log p by (1 − p)^γ, elementwise (Lin et al., 2017).

    Parameters
    ----------
    surprise : float tensor
        −log of the true class's probability p, of any shape.
    gamma : float
        γ ≥ 0; 0 changes nothing.

    Examples
    --------
    >>> import torch
    >>> focal(-torch.log(torch.tensor([0.5, 0.9])), gamma=2)
    tensor([0.1733, 0.0011])
    """
    # 1 − p without cancellation. Where p rounds to 1 it is 0, whose power has an infinite slope for γ < 1: times the
    # surprise, also 0, the gradient would be NaN.
    wrong = (-torch.expm1(-surprise)).clamp_min(torch.finfo(surprise.dtype).tiny)
    return wrong**gamma * surprise

"""Check that outputs of networks are finite: NaN is above no threshold and would pass for background."""

from __future__ import annotations

import torch
from torch import Tensor

from cellscale.errors import InputError


class NotFiniteError(InputError):
    """A prediction that contains NaN or infinities."""

    def __init__(self, name: str, sample: int) -> None:
        """Name the map, and the sample of the batch."""
        super().__init__(name, sample)
        self.sample = sample

    def __str__(self) -> str:
        """Say what to do."""
        return (
            f"The prediction {self.args[0]!r} has numbers that are not finite. The model may have been trained to NaN, "
            "or its numbers leave the range of the precision: train again, or try --set precision=fp32."
        )


def check_finite(name: str, values: Tensor, first: int = 0) -> None:
    """Raise NotFiniteError for the first sample of (n, …) with NaN or infinities; samples are numbered from `first`."""
    finite = torch.isfinite(values).flatten(1).all(dim=1)
    if not finite.all():
        raise NotFiniteError(name, first + int((~finite).nonzero()[0]))

"""The workers of one training: alone, or a torch process group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Workers:
    """Rank of this worker, and operations over all workers."""

    rank: int = 0
    """Number of this worker."""
    world: int = 1
    """Number of workers."""
    local: int = 1
    """Number of workers on this machine, which share its processors."""
    elastic: bool = False
    """Whether a training may continue with another number of workers, which changes its weights."""

    def mean(self, value: Tensor) -> Tensor:
        """Mean of a tensor over the workers, without gradient."""
        if self.world == 1:
            return value.detach()
        total = value.detach().clone()
        distributed.all_reduce(total)
        return total / self.world

    def average(self, parameters: Sequence[nn.Parameter], statistics: Sequence[Tensor]) -> None:
        """Replace gradients and statistics by their means over the workers, in one exchange.

        One exchange after the backward pass works with several forward passes and with unused parameters; a missing
        gradient counts as 0.
        """
        if self.world == 1:
            return
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        values = [p.grad for p in parameters if p.grad is not None] + list(statistics)
        joined = self.mean(torch.cat([value.reshape(-1).float() for value in values]))
        for value, part in zip(values, torch.split(joined, [value.numel() for value in values]), strict=True):
            value.copy_(part.reshape(value.shape))

    def copy(self, values: Sequence[Tensor]) -> None:
        """Replace tensors by those of worker 0."""
        if self.world > 1:
            for value in values:
                distributed.broadcast(value, src=0)

    def share(self, value: float) -> float:
        """Worker 0's number, on every worker."""
        if self.world == 1:
            return value
        held = [value]
        distributed.broadcast_object_list(held, src=0)
        return held[0]

    def gather(self, value: T) -> list[T]:
        """Every worker's value, in the order of their numbers, on every worker."""
        if self.world == 1:
            return [value]
        held: list[Any] = [None] * self.world
        distributed.all_gather_object(held, value)
        return held

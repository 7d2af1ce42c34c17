"""Optimizers and learning rates of a method's networks as settings."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from cellscale.methods.protocol import Batch, Networks, Stage, Terms, Update
from cellscale.settings.fields import setting


@dataclass(frozen=True, kw_only=True)
class Adam:
    """Kingma and Ba (2015)."""

    learning_rate: float = 1e-3
    """At the start of a stage."""
    decay: Literal["cosine", "exponential", "none"] = "cosine"
    """Decay of the rate over a stage: to 0 along half a cosine, by equal factors to 1 %, or not at all."""
    fused: bool = False
    """One kernel for all parameters: less time, last bits differ."""

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Make the optimizer of these parameters."""
        return torch.optim.Adam(parameters, lr=self.learning_rate, fused=self.fused or None)

    def factor(self, progress: float) -> float:
        """Factor on the learning rate at a progress of 0 … 1 through the stage."""
        if self.decay == "exponential":
            return math.pow(0.01, progress)
        return half_cosine(progress) if self.decay == "cosine" else 1.0


@dataclass(frozen=True, kw_only=True)
class RMSProp:
    """Tieleman and Hinton (2012)."""

    learning_rate: float = 1e-3
    """At the start of a stage."""
    memory: float = setting(0.9, most=1.0)
    """Share of the mean squared gradient that a step keeps."""
    decay: Literal["cosine", "none"] = "none"
    """Decay of the rate over a stage: to 0 along half a cosine, or not at all."""

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Make the optimizer of these parameters."""
        return torch.optim.RMSprop(parameters, lr=self.learning_rate, alpha=self.memory)

    def factor(self, progress: float) -> float:
        """Factor on the learning rate at a progress of 0 … 1 through the stage."""
        return half_cosine(progress) if self.decay == "cosine" else 1.0


def half_cosine(progress: float) -> float:
    """From 1 to 0 along half a cosine."""
    return (1 + math.cos(math.pi * progress)) / 2


def one_update(
    name: str,
    loss: Callable[[Networks, Batch], Terms],
    descent: Adam | RMSProp,
    *,
    trains: tuple[str, ...] = ("unet",),
    share: float = 1.0,
) -> Stage:
    """A stage in which some networks are trained on one loss."""
    update = Update(trains=trains, loss=loss, optimizer=descent.optimizer, learning_rate=descent.factor)
    return Stage(name=name, updates=(update,), share=share)

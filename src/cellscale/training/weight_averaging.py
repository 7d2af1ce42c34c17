"""Copies of the weights: their running average over the steps, and those of the best validation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TypeAlias

import torch
from torch import Tensor

from cellscale.methods.protocol import Networks
from cellscale.models.model import named_tensors

Weights: TypeAlias = dict[str, Tensor]
"""Parameters and statistics of all networks as network.name; empty: none are kept."""


def copied(networks: Networks) -> Weights:
    """Copy all parameters and statistics."""
    return {name: value.detach().clone() for name, value in named_tensors(networks).items()}


def put(networks: Networks, weights: Mapping[str, Tensor]) -> None:
    """Put weights into the networks; those without an entry stay."""
    with torch.no_grad():
        for name, value in named_tensors(networks).items():
            if name in weights:
                value.copy_(weights[name])


def follow(average: Weights, networks: Networks, decay: float, step: int) -> None:
    """Move an average towards the networks, in place: a ← a + (1 − d) (w − a); integer buffers are copied.

    d = min(decay, (1 + step) / (10 + step)), so that the weights of the first steps soon lose their influence.
    """
    weight = 1 - min(decay, (1 + step) / (10 + step))
    for name, value in named_tensors(networks).items():
        held = average[name] = average[name].to(value.device)
        if value.is_floating_point():
            held.lerp_(value, weight)
        else:
            held.copy_(value)


@contextmanager
def holding(networks: Networks, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Give the networks other weights, if there are any, inside the context."""
    own = copied(networks) if weights else {}
    put(networks, weights)
    try:
        yield
    finally:
        put(networks, own)

"""A limit on the size of networks from a model's description: no more numbers than the file of weights can fill."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from cellscale.errors import DamagedError

_FACTORIES = (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn)
SPARE = 2_000_000
"""Elements allowed beyond those of the weights, for constants and slightly different settings (8 MB)."""


class Budget(TorchFunctionMode):
    """A context in which tensors with at most a given total number of elements can be created, and no empty ones.

    Elements are counted before memory is allocated: a network of width 10⁶ ends at its first layer.
    """

    def __init__(self, elements: int, message: str) -> None:
        """Allow this number of elements; `message` is the text of the DamagedError."""
        super().__init__()
        self.left = elements
        self.message = message

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Count the elements of created tensors."""
        if func in _FACTORIES:
            sides = _sides(args, kwargs or {})
            self.left -= math.prod(sides)
            if self.left < 0 or min(sides, default=1) < 1:
                raise DamagedError(self.message)
        return func(*args, **(kwargs or {}))


def _sides(args: Sequence[Any], options: Mapping[str, Any]) -> list[int]:
    """Shape of the tensor that a call asks for, as (2, 3), [2, 3], 2, 3 or size=(2, 3)."""
    size = options.get("size", args[0] if args and not isinstance(args[0], int) else args)
    return [int(side) for side in size]

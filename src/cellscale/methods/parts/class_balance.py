"""Weights of classes in a loss, by their frequency in the training samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellscale.kernels.touching import separated
from cellscale.kernels.weights import class_balance
from cellscale.settings.fields import setting
from cellscale.types import Labels


@dataclass(frozen=True, kw_only=True)
class Balance:
    """Weights of classes from their numbers of pixels; a class that never occurs has none."""

    exponent: float = setting(1.0, before=1.0)
    """Weights are inverse frequencies to this power: 1 as printed in the papers, ½ where a rare class would outweigh
    the others, 0 for equal weights."""
    cap: float = setting(0.0, before=0.0)
    """The rarest class weighs at most this many times the most frequent one; 0: no limit."""

    def of(self, counts: tuple[int, ...]) -> NDArray[np.float32]:
        """Weight of each class, 1 for the rarest that occurs, 0 for those that do not; (classes,)."""
        return class_balance(counts, exponent=self.exponent, cap=self.cap)

    def ratio(self, background: int, foreground: int) -> float:
        """Weight of a foreground pixel where one of the background has 1; 1 where either never occurs."""
        weights = self.of((background, foreground))
        return float(weights[1] / weights[0]) if weights.all() else 1.0

    def mean(self, counts: tuple[int, ...]) -> float:
        """Mean weight of a training pixel; 1 without any."""
        pixels = np.asarray(counts, np.float64)
        return float((pixels * self.of(counts)).sum() / pixels.sum()) if pixels.sum() > 0 else 1.0


def counted(frames: Iterable[Labels], classes: Callable[[Labels], NDArray[Any]], number: int) -> tuple[int, ...]:
    """Count the pixels of each class over label images."""
    counts = np.zeros(number, np.int64)
    for frame in frames:
        counts += np.bincount(classes(frame).ravel(), minlength=number)
    return tuple(counts.tolist())


def foreground(labels: Labels) -> NDArray[np.uint8]:
    """1 on cells, a gap of one pixel between touching ones, 0 elsewhere."""
    return (separated(labels) > 0).astype(np.uint8)

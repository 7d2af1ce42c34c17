"""Optional profiling of the training loop: seconds for each part of a step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TypeAlias

import torch

Clock: TypeAlias = Callable[[str], AbstractContextManager[None]]
"""Called with the name of a part; returns a context in which the part is executed."""


def no_clock(part: str) -> AbstractContextManager[None]:
    """Measure nothing."""
    return nullcontext()


@dataclass(frozen=True, kw_only=True)
class Stopwatch:
    """A clock that adds up; on a GPU it waits for the device at both ends of a part, which costs some speed."""

    device: torch.device
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Add the time in this context to a part's."""
        began = self._now()
        yield
        self.seconds[part] = self.seconds.get(part, 0.0) + self._now() - began

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

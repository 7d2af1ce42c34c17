"""Several requests at once, from code that waits for each of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

T = TypeVar("T")
REQUESTS = 32
"""Most requests of one process to a store at the same time."""


def together(calls: Sequence[Callable[[], T]]) -> list[T]:
    """Call functions that wait for requests, each in a thread, and return their results in their order.

    Their requests are counted with those of the caller. The first error is raised when all have ended.
    """
    if len(calls) < 2:
        return [call() for call in calls]
    with ThreadPoolExecutor(min(REQUESTS, len(calls))) as threads:
        waiting = [threads.submit(copy_context().run, call) for call in calls]
    return [one.result() for one in waiting]

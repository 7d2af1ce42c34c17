"""Prefetch: a thread reads the next item while the current one is processed."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import TypeVar

T = TypeVar("T")


def prefetch(items: Iterator[T]) -> Iterator[T]:
    """Yield the items, none of them None, in their order; a thread computes the next one meanwhile.

    An error is raised instead of its item.
    """
    # What the thread reads is counted with what its caller reads.
    following = partial(copy_context().run, next, items, None)
    with ThreadPoolExecutor(max_workers=1) as thread:
        coming = thread.submit(following)
        while (item := coming.result()) is not None:
            coming = thread.submit(following)
            yield item

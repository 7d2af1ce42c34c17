"""Memory between tasks: results that are kept no longer than needed, and freed pages that go back to the system."""

from __future__ import annotations

import ctypes
import sys
import weakref
from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import TypeVar

R = TypeVar("R")


def kept(method: Callable[..., R], most: int) -> Callable[..., R]:
    """Return a method of an object that keeps its latest results; the object may hold it.

    The object is not held in turn: that circle, and all results with it, would stay until Python's collector of circles
    runs, which arrays do not cause to happen.

    Parameters
    ----------
    method : callable
        A bound method of hashable arguments.
    most : int
        Number of results that are kept.
    """
    found = weakref.WeakMethod(method)

    @lru_cache(maxsize=most)
    def call(*arguments: Hashable) -> R:
        bound = found()
        assert bound is not None, "only the object itself calls it"
        return bound(*arguments)

    return call


def release_memory() -> None:
    """Release the free pages of glibc's heap, which would grow from task to task; no effect with other C libraries."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)

"""The heap of processes that live long."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

M_MMAP_THRESHOLD = -3
"""Number of the option in glibc's malloc.h."""
LARGE = 2**20
"""Blocks of so many bytes are given back to the system as soon as they are free."""


@cache
def steady_heap() -> None:
    """Keep a process of many tasks from growing: fix the size from which blocks have pages of their own (glibc only).

    Left alone, glibc raises that size to 32 MB with the blocks that are freed, and a heap of windows and tiles of many
    sizes is fragmented by and by.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGE)

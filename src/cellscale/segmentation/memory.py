"""Return freed memory to the operating system between tasks."""

from __future__ import annotations

import ctypes
import sys


def release_memory() -> None:
    """Release the free pages of glibc's heap, which would grow from task to task; no effect with other C libraries."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)

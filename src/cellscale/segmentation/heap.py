"""The C heap of a process that does one task after another."""

from __future__ import annotations

import ctypes
import sys


def give_back() -> None:
    """Give free pages back to the system, where the C library is glibc: its heap would grow from task to task."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)

"""Reads that are repeated where bytes did not arrive whole: they flip on the way, too, not only where they lie."""

from __future__ import annotations

import contextlib
import sys
import zlib
from collections.abc import Callable
from typing import TypeVar

from cellscale.errors import DamagedError

T = TypeVar("T")
ATTEMPTS = 3
"""How often something is read whose bytes are not whole."""
_CHECKSUMS = {"botocore.exceptions": "FlexibleChecksumError", "gcsfs.retry": "ChecksumError"}
"""Errors of the storage libraries for bytes that do not fit the checksum that came with them."""


def garbled() -> tuple[type[Exception], ...]:
    """Exceptions of bytes that are not whole: they do not fit their checksum, or cannot be decoded."""
    loaded = [(sys.modules[module], name) for module, name in _CHECKSUMS.items() if module in sys.modules]
    checksums = [getattr(module, name) for module, name in loaded if hasattr(module, name)]
    return (DamagedError, RuntimeError, ValueError, EOFError, zlib.error, *checksums)


def read_again(read: Callable[[], T]) -> T:
    """Read; again where the bytes were not whole, a bounded number of times: the last error is raised."""
    for _ in range(ATTEMPTS - 1):
        with contextlib.suppress(*garbled()):
            return read()
    return read()

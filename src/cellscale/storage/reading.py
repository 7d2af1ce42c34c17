"""Repeated reads of damaged bytes: bytes may flip in transfer, not only in storage."""

from __future__ import annotations

import contextlib
import sys
import zlib
from collections.abc import Callable
from typing import TypeVar

from cellscale.errors import DamagedError

T = TypeVar("T")
ATTEMPTS = 3
"""Attempts to read bytes that arrive damaged."""
_CHECKSUMS = {"botocore.exceptions": "FlexibleChecksumError", "gcsfs.retry": "ChecksumError"}
"""Errors of the storage libraries for bytes whose checksum does not match."""


def decode_errors() -> tuple[type[Exception], ...]:
    """Exceptions for damaged bytes: their checksum does not match, or they cannot be decoded."""
    loaded = [(sys.modules[module], name) for module, name in _CHECKSUMS.items() if module in sys.modules]
    checksums = [getattr(module, name) for module, name in loaded if hasattr(module, name)]
    return (DamagedError, RuntimeError, ValueError, EOFError, zlib.error, *checksums)


def read_again(read: Callable[[], T]) -> T:
    """Read; repeat a bounded number of times if the bytes are damaged; raise the last error."""
    for _ in range(ATTEMPTS - 1):
        with contextlib.suppress(*decode_errors()):
            return read()
    return read()

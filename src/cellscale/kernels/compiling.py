"""Compilation of kernels: on first call, cached on disk, releasing the GIL, without fast-math.

A compiled function is one file, named by all that it depends on: the sources, the versions of Python and Numba, the
processor and the types of the arguments. Processes that compile at the same time may write the same file twice, but
never overwrite a different kernel's. (Numba's own cache numbers its files in an index; of two processes that compile at
the same time, one may load the other's code.) A damaged file is replaced. Where no folder can be written, kernels are
compiled in each process. Without fast-math, floating-point sums keep the order in which they are written, so that
results are equal on every run.

Casts such as `np.uint16(a + b)` in kernels have a purpose. Numba computes with integers of at least 64 bits, whatever
the types of the operands (Numba Enhancement Proposal 1). Only when every intermediate result is cast back can LLVM use
vector lanes of 8 or 16 bits, four to eight times as many per instruction. The cast also says where a number may wrap
around. For the same reason, inner loops run over slices of rows taken before the loop, and have no branches.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import pickle
import re
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba import njit
from numba.core import serialize

log = logging.getLogger("cellscale")

F = TypeVar("F", bound=Callable[..., Any])
PICKLED: Callable[[object], bytes] = serialize.dumps
"""Numba's serialiser, with a type."""
CHECKSUM_BYTES = hashlib.sha256().digest_size
"""A file begins with the SHA-256 of the rest: damaged machine code must not be run."""


@lru_cache
def _digest_of(source: Path) -> str:
    """Digest of a source file and of the kernel modules that it imports, as their code is inlined into its own."""
    text = source.read_text()
    imported = re.findall(r"^from cellscale\.kernels\.([\w.]+) import", text, re.MULTILINE)
    parts = [
        text,
        *(_digest_of(Path(__file__).parent.joinpath(*name.split(".")).with_suffix(".py")) for name in imported),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """Cache files of the compiled forms of one function, instead of Numba's index and data files."""

    folder: Path
    """Folder of Numba's cache for the source file."""
    source: Path
    """Source file of the function."""
    name: str
    """Qualified name of the function."""

    @property
    def _stem(self) -> str:
        return f"{self.source.stem}.{self.name}-"

    def _path(self, key: object) -> Path:
        digest = hashlib.sha256(f"{numba.__version__} {sys.version} {key!r}".encode()).hexdigest()
        return self.folder / f"{self._stem}{_digest_of(self.source)[:24]}-{digest[:24]}.nbc"

    def load(self, key: object) -> Any:
        """Return what was saved under a key; None if nothing was, or the file is damaged or cannot be read."""
        try:
            content = self._path(key).read_bytes()
        except OSError:
            return None
        checksum, data = content[:CHECKSUM_BYTES], content[CHECKSUM_BYTES:]
        known = hashlib.sha256(data).digest() == checksum
        return pickle.loads(data) if known else None  # noqa: S301 — the folder is written by this user, like the code

    def save(self, key: object, data: object) -> None:
        """Write a file atomically; delete the files of other versions of the sources."""
        path, pickled = self._path(key), PICKLED(data)
        part = path.with_suffix(f".{uuid.uuid4().hex}")
        try:
            part.write_bytes(hashlib.sha256(pickled).digest() + pickled)
            os.replace(part, path)
        except OSError:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise
        for other in self.folder.glob(f"{self._stem}*.nbc"):
            if not other.name.startswith(f"{self._stem}{_digest_of(self.source)[:24]}"):
                other.unlink(missing_ok=True)


@lru_cache(maxsize=1)
def warn_uncached() -> None:
    """Say, once in a process, that compiled kernels cannot be kept."""
    log.warning(
        "compiled kernels cannot be kept: neither the installation nor the home folder can be written, so that each "
        "process compiles them again. Set NUMBA_CACHE_DIR to a folder that can be written and that processes share."
    )


def _if_writable(save: Callable[[object, object], None]) -> Callable[[object, object], None]:
    """Let a folder that cannot be written (any more) cost time, not the run."""

    def attempt(signature: object, data: object) -> None:
        try:
            save(signature, data)
        except OSError:
            warn_uncached()

    return attempt


def kernel(function: F) -> F:
    """Compile a function of arrays and numbers; its results are equal on every run and in every thread.

    Division by zero gives inf or nan as in NumPy (`error_model`), which saves a test per division.
    """
    made: Any = njit(nogil=True, error_model="numpy")(function)
    try:
        made.enable_caching()
    except RuntimeError:  # Numba finds no folder that it can write.
        warn_uncached()
        return cast(F, made)
    cache = made._cache
    cache._cache_file = Compiled(
        folder=Path(cache.cache_path), source=Path(function.__code__.co_filename), name=function.__qualname__
    )
    cache.save_overload = _if_writable(cache.save_overload)
    return cast(F, made)

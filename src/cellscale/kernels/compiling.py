"""Compilation of kernels: on first call, cached on disk, releasing the GIL, without fast-math.

A compiled function is one file, named by all that it depends on: the sources, the versions of Python and Numba, the
processor and the types of the arguments. Processes that compile at the same time may write the same file twice, but
never overwrite a different kernel's. (Numba's own cache numbers its files in an index; of two processes that compile at
the same time, one may load the other's code.) Without fast-math, floating-point sums keep the order in which they are
written, so that results are equal on every run.
"""

from __future__ import annotations

import hashlib
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

F = TypeVar("F", bound=Callable[..., Any])
PICKLED: Callable[[object], bytes] = serialize.dumps
"""Numba's serialiser, with a type."""


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
    """Cache files of the compiled forms of one function, in the place of Numba's index and data files."""

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
        """Return what was saved under a key, or None if nothing was."""
        try:
            return pickle.loads(self._path(key).read_bytes())
        except FileNotFoundError:
            return None

    def save(self, key: object, data: object) -> None:
        """Write a file atomically; delete the files of other versions of the sources."""
        path = self._path(key)
        part = path.with_suffix(f".{uuid.uuid4().hex}")
        part.write_bytes(PICKLED(data))
        os.replace(part, path)
        for other in self.folder.glob(f"{self._stem}*.nbc"):
            if not other.name.startswith(f"{self._stem}{_digest_of(self.source)[:24]}"):
                other.unlink(missing_ok=True)


def kernel(function: F) -> F:
    """Compile a function of arrays and numbers; its results are equal on every run and in every thread.

    Division by zero gives inf or nan as in NumPy (`error_model`), which saves a test per division.
    """
    made: Any = njit(nogil=True, cache=True, error_model="numpy")(function)
    cache = made._cache
    cache._cache_file = Compiled(
        folder=Path(cache.cache_path), source=Path(function.__code__.co_filename), name=function.__qualname__
    )
    return cast(F, made)

"""How kernels are compiled: on first call, cached on disk, without the interpreter's lock and without fast-math.

A compiled function is one file, named by all that it depends on: the sources, the versions of Python and
Numba, the processor and the types of the arguments. Processes that start at once may write a file twice, but never
another's. (Numba's own index numbers the files; of two processes that compile at once, one may get the other's code.)
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
"""Numba's pickles; it has no types."""


@lru_cache
def _digest_of(source: Path) -> str:
    """Digest of a file and of the kernels' files that it imports: their code may be compiled into its own."""
    text = source.read_text()
    imported = re.findall(r"^from cellscale\.kernels\.([\w.]+) import", text, re.MULTILINE)
    parts = [
        text,
        *(_digest_of(Path(__file__).parent.joinpath(*name.split(".")).with_suffix(".py")) for name in imported),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """The compiled forms of one function on disk, in the place of Numba's index and data files."""

    folder: Path
    """Where Numba would keep them."""
    source: Path
    """The file in which the function is."""
    name: str
    """The function's."""

    @property
    def _stem(self) -> str:
        return f"{self.source.stem}.{self.name}-"

    def _path(self, key: object) -> Path:
        digest = hashlib.sha256(f"{numba.__version__} {sys.version} {key!r}".encode()).hexdigest()
        return self.folder / f"{self._stem}{_digest_of(self.source)[:24]}-{digest[:24]}.nbc"

    def load(self, key: object) -> Any:
        """Return what was saved under a key, or None."""
        try:
            return pickle.loads(self._path(key).read_bytes())
        except FileNotFoundError:
            return None

    def save(self, key: object, data: object) -> None:
        """Write a file whole or not at all; what other sources left goes."""
        path = self._path(key)
        part = path.with_suffix(f".{uuid.uuid4().hex}")
        part.write_bytes(PICKLED(data))
        os.replace(part, path)
        for other in self.folder.glob(f"{self._stem}*.nbc"):
            if not other.name.startswith(f"{self._stem}{_digest_of(self.source)[:24]}"):
                other.unlink(missing_ok=True)


def kernel(function: F) -> F:
    """Compile a function of arrays and numbers; its results are equal on every run and in every thread."""
    made: Any = njit(nogil=True, cache=True, error_model="numpy")(function)
    cache = made._cache
    cache._cache_file = Compiled(
        folder=Path(cache.cache_path), source=Path(function.__code__.co_filename), name=function.__qualname__
    )
    return cast(F, made)

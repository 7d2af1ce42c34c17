"""How kernels are compiled: on first call, cached on disk, without the interpreter's lock and without fast-math."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Compile a function of arrays and numbers; its results are equal on every run and in every thread."""
    return cast(F, njit(nogil=True, cache=True, error_model="numpy")(function))

"""Kernels are compiled on their first call, so no example has a deadline; several threads also work on small arrays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings

from cellscale.kernels import threads

settings.register_profile("compiled", deadline=None)
settings.load_profile("compiled")


@pytest.fixture(autouse=True, scope="module")
def threads_on_small_arrays() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads, "SMALL", 0)
        yield

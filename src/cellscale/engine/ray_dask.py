"""Graphs of dask on a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ray.util.dask import ray_dask_get

from cellscale.engine.ray_map import cluster


@contextmanager
def dask_on_ray(address: str | None) -> Iterator[Callable[..., Any]]:
    """Connect to a Ray cluster, or start one on this machine; yield what dask takes as `scheduler=`.

    Parameters
    ----------
    address : str or None
        As for `cellscale.engine.ray_map.cluster`.

    Raises
    ------
    RunError
        If no cluster answers at the address.
    """
    with cluster(address):
        yield ray_dask_get

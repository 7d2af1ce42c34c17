"""A bounded parallel map over a Ray cluster: from coordinates to summaries.

At most a few tasks for each processor are submitted at any time, so that a million tasks do not stall the scheduler.
Data shared by all tasks are sent once, through the object store.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import ray
from ray._private import ray_constants
from ray.exceptions import RayError

from cellscale.engine.addresses import is_local
from cellscale.engine.resources import check_alive, check_fits, room_for
from cellscale.engine.watchdog import agent_watchdog
from cellscale.errors import RunError
from cellscale.segmentation.executor import attempted

LOOK_S = 0.05
"""Longest pause between two checks of the pending tasks, s."""
GROWTH_S = 1.0
"""Pause between two checks of the size of the cluster, s."""
MOST_WARM = 64
"""Greatest number of workers that load their modules ahead of the first task."""
TOKEN = Path("~/.ray/auth_token")
"""File in which Ray keeps the token of clusters that it starts."""
MOST_PENDING = 50_000
"""Greatest number of submitted tasks on any cluster; 100,000 stall Ray's scheduler."""


@dataclass(frozen=True, kw_only=True)
class RayExecutor:
    """An executor on a Ray cluster, with settings on which no result depends."""

    attempts: int = 3
    """Number of attempts before a task's error is returned."""
    backoff_s: float = 0.5
    """Pause before the second attempt, doubled for each further one, s."""
    pending_per_cpu: int = 3
    """Tasks submitted at any time for each processor of the cluster."""
    cpus: float = 1.0
    """Processors for each task of a segmentation."""
    gpus: float | Literal["auto"] = "auto"
    """GPUs for each task that predicts, and for each training worker; auto: one where the cluster has some."""
    failures: int = 2
    """Number of restarts of training workers that died; they continue from the last checkpoint."""
    least_workers: int = 0
    """Least number of training workers when nodes are added or lost; 0: always the requested number."""

    def __call__(
        self, work: Callable[[Any, Any], Any], shared: Any, tasks: Sequence[Any], *, gpu: bool = False
    ) -> Iterator[tuple[Any, Any]]:
        """Yield (task, result) or (task, error) as tasks end, in any order."""
        gpus = self.gpus_of_tasks() if gpu else 0.0
        check_alive()
        check_fits(self.cpus, gpus)
        common = ray.put(shared)
        # Without max_calls=0 a worker that holds a GPU is restarted after every call.
        extra = {"num_gpus": gpus, "max_calls": 0} if gpus else {}
        # Ray's own retries have no bound for tasks that run out of memory.
        options: dict[str, Any] = {"num_cpus": self.cpus, "max_retries": 0, **extra}
        remote = ray.remote(**options)(_attempted)
        waiting = deque((task, 1) for task in tasks)
        pending: dict[Any, tuple[Any, int]] = {}
        limit, looked = self._limit(), time.monotonic()
        try:
            while waiting or pending:
                check_alive()
                if time.monotonic() - looked > GROWTH_S:
                    limit, looked = self._limit(), time.monotonic()
                while waiting and len(pending) < limit:
                    task, attempt = waiting.popleft()
                    # In a list, the reference itself travels; as an argument, each task would unpack the object anew.
                    pending[remote.remote(work, [common], task, self.attempts, self.backoff_s)] = task, attempt
                # All that have ended at once: a look for each of them would cost hours on large clusters.
                done, _ = ray.wait(list(pending), num_returns=len(pending), timeout=LOOK_S)
                for reference in done:
                    task, attempt = pending.pop(reference)
                    result = _result(reference)
                    if isinstance(result, RayError) and attempt < self.attempts:
                        waiting.append((task, attempt + 1))
                    else:
                        yield task, result
        finally:
            # The caller has stopped, or failed: on a cluster of others the tasks would go on.
            for reference in pending:
                ray.cancel(reference)

    def gpus_of_tasks(self) -> float:
        """GPUs for each task that predicts."""
        return float(room_for(self.cpus, 1.0, 1) > 0) if self.gpus == "auto" else self.gpus

    def _limit(self) -> int:
        """Greatest number of submitted tasks; it grows with the cluster."""
        resources: dict[str, float] = ray.cluster_resources()
        return min(MOST_PENDING, max(2, int(self.pending_per_cpu * resources.get("CPU", 0))))


@lru_cache(maxsize=1)
def _unpacked(reference: Any) -> Any:
    """Value that the tasks of a map share, unpacked once in each worker: networks stay on the device between tasks."""
    return ray.get(reference)


def _attempted(work: Callable[[Any, Any], Any], common: list[Any], task: Any, attempts: int, backoff_s: float) -> Any:
    return attempted(work, _unpacked(common[0]), task, attempts, backoff_s)


def _result(reference: Any) -> Any:
    """Result or error of a task; a RayError where its worker or node died."""
    try:
        return ray.get(reference)
    except RayError as error:
        cause = getattr(error, "cause", None)
        return cause if isinstance(cause, Exception) else error


def warm_up(tasks: int, cpus: float = 1.0) -> None:
    """Let workers of the cluster load what the tasks of a segmentation need, while the driver prepares them.

    A new worker takes about four seconds for it.

    Parameters
    ----------
    tasks : int
        Number of tasks that will be there at the same time; no more workers are started.
    cpus : float
        Processors for each task.
    """
    load = ray.remote(num_cpus=cpus, max_retries=0)(_load)
    for _ in range(min(tasks, MOST_WARM, int(ray.cluster_resources().get("CPU", 0) / cpus))):
        load.remote()


def _load() -> None:
    importlib.import_module("cellscale.segmentation.run")


@contextmanager
def _own_handler() -> Iterator[None]:
    """Keep this process's handler of SIGTERM: Ray puts one in its place that ends the process, at times by a crash."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    if handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Bind the Ray that is started meanwhile to 127.0.0.1, with a token that only this user can read.

    Ray takes an address that other machines reach instead of a loopback address, but where this constant says that
    clusters are of one machine, as on macOS and Windows. It writes its token for every user of the machine to read.
    """
    known = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = known
    with contextlib.suppress(OSError):
        TOKEN.expanduser().chmod(0o600)


@contextmanager
def cluster(address: str | None) -> Iterator[None]:
    """Connect to a Ray cluster, or start one on this machine and stop it at the end; an existing connection is used.

    Parameters
    ----------
    address : str or None
        Address of the cluster, e.g. "auto" or "ray://host:10001"; None: RAY_ADDRESS if it is set, else this machine.

    Raises
    ------
    RunError
        If no cluster answers at the address.
    """
    if ray.is_initialized():
        yield
        return
    alone = is_local(address)
    try:
        with _on_loopback() if alone else nullcontext(), _own_handler():
            dashboard = False if address is None else None
            ray.init(address=address, log_to_driver=False, include_dashboard=dashboard, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise RunError(f"No Ray cluster answers at {address!r}: {error}. Start one with `ray start --head`.") from error
    with agent_watchdog():
        try:
            yield
        finally:
            ray.shutdown()

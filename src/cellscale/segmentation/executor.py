"""Executors: map work over tasks. `Serial` works in this process; `engine` has the executor for Ray.

Both repeat a task after failures that may be temporary: of storage, of memory and of the libraries below.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from cellscale.errors import CellscaleError, StoreError
from cellscale.segmentation.memory import release_memory
from cellscale.segmentation.work_items import Task

log = logging.getLogger("cellscale")

T = TypeVar("T")


class Executor(Protocol):
    """Map work over tasks, in any order, and store what is computed; an error is yielded as a value."""

    def __call__(
        self, work: Callable[[Any, Task], Any], shared: Any, tasks: Sequence[Task], *, gpu: bool = False
    ) -> Iterator[tuple[Task, Any]]:
        """Yield each task with its result or its error."""
        ...


def passing(error: Exception) -> bool:
    """Return whether a second attempt may succeed: storage, memory, or a library's RuntimeError (torch)."""
    if isinstance(error, CellscaleError):
        return isinstance(error, StoreError)
    return isinstance(error, (OSError, MemoryError, RuntimeError))


@dataclass(frozen=True)
class Computed(Generic[T]):
    """A task that is computed, and not yet stored: the next one may be computed meanwhile."""

    store: Callable[[], T]
    """Stores the results and returns the value of the task."""


def attempted(work: Callable[[Any, Any], Any], shared: Any, task: Any, attempts: int, backoff_s: float) -> Any:
    """Do a task; repeat it after failures that may be temporary, at most `attempts` times in all.

    Parameters
    ----------
    work : callable
        Called with `shared` and `task`; returns the value of the task, or Computed.
    shared, task : Any
        Data shared by all tasks, and the task.
    attempts : int
        At least 1; the error of the last one is raised.
    backoff_s : float
        Pause before the second attempt, doubled for each further one, s.
    """
    return _repeated(lambda: _store(work(shared, task)), attempts, backoff_s)


def _repeated(call: Callable[[], T], attempts: int, backoff_s: float) -> T:
    for attempt in range(attempts - 1):
        try:
            return call()
        except Exception as error:
            if not passing(error):
                raise
            log.debug("attempt %d of %d failed: %r", attempt + 1, attempts, error)
        release_memory()
        time.sleep(backoff_s * 2**attempt)
    return call()


def _store(made: Any) -> Any:
    """Store what a task has computed and return the task's value; another value is returned as it is."""
    return made.store() if isinstance(made, Computed) else made


@dataclass(frozen=True, kw_only=True)
class Serial:
    """Do all tasks in this process, in order; any error of a task is yielded as its result, as on Ray.

    A task is stored while the next one is computed: one that is stored late holds up nothing but the end.
    """

    attempts: int = 3
    """Number of attempts before a task's error is returned."""
    backoff_s: float = 0.5
    """Pause before the second attempt, doubled for each further one, s."""

    def __call__(
        self, work: Callable[[Any, Any], Any], shared: Any, tasks: Sequence[Any], *, gpu: bool = False
    ) -> Iterator[tuple[Any, Any]]:
        """Yield (task, result) or (task, error) in the order of the tasks."""
        with ThreadPoolExecutor(max_workers=1) as thread:
            before: tuple[Any, Future[Any]] | None = None
            for task in tasks:
                compute = partial(work, shared, task)
                made = [self._outcome(compute)]
                if before is not None:
                    yield before[0], before[1].result()
                store = partial(_store_or_repeat, made, compute)
                before = task, thread.submit(copy_context().run, self._outcome, store)
            if before is not None:
                yield before[0], before[1].result()

    def _outcome(self, call: Callable[[], Any]) -> Any:
        try:
            return _repeated(call, self.attempts, self.backoff_s)
        except Exception as error:  # noqa: BLE001
            # A task may raise anything, as on Ray; the driver names it. The frames of a traceback hold arrays of the
            # task, and all failed tasks are kept to the end of a step.
            return error.with_traceback(None)


def _store_or_repeat(made: list[Any], compute: Callable[[], Any]) -> Any:
    """Store the computed task in the list; called again after a failure, compute it anew."""
    return _store(made.pop() if made else compute())


one_by_one = Serial(attempts=1)
"""Executor in this process without second attempts."""

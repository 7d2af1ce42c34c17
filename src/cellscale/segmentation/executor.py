"""Executors: map work over tasks. `Serial` works in this process; `engine` has the executor for Ray.

Both repeat a task after failures that may be temporary: of storage, of memory and of the libraries below.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cellscale.errors import CellscaleError, StoreError
from cellscale.segmentation.memory import release_memory
from cellscale.segmentation.work_items import Task

log = logging.getLogger("cellscale")


class Executor(Protocol):
    """Map work over tasks, in any order; an error is yielded as a value."""

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


def attempted(work: Callable[[Any, Any], Any], shared: Any, task: Any, attempts: int, backoff_s: float) -> Any:
    """Do a task; repeat it after failures that may be temporary, at most `attempts` times in all.

    Parameters
    ----------
    work : callable
        Called with `shared` and `task`.
    shared, task : Any
        Data shared by all tasks, and the task.
    attempts : int
        At least 1; the error of the last one is raised.
    backoff_s : float
        Pause before the second attempt, doubled for each further one, s.
    """
    for attempt in range(attempts - 1):
        try:
            return work(shared, task)
        except Exception as error:
            if not passing(error):
                raise
            log.debug("attempt %d of %d failed: %r", attempt + 1, attempts, error)
        release_memory()
        time.sleep(backoff_s * 2**attempt)
    return work(shared, task)


@dataclass(frozen=True, kw_only=True)
class Serial:
    """Do all tasks in this process, in order; any error of a task is yielded as its result, as on Ray."""

    attempts: int = 3
    """Number of attempts before a task's error is returned."""
    backoff_s: float = 0.5
    """Pause before the second attempt, doubled for each further one, s."""

    def __call__(
        self, work: Callable[[Any, Any], Any], shared: Any, tasks: Sequence[Any], *, gpu: bool = False
    ) -> Iterator[tuple[Any, Any]]:
        """Yield (task, result) or (task, error) in the order of the tasks."""
        for task in tasks:
            yield task, _outcome(work, shared, task, self.attempts, self.backoff_s)


def _outcome(work: Callable[[Any, Any], Any], shared: Any, task: Any, attempts: int, backoff_s: float) -> Any:
    try:
        return attempted(work, shared, task, attempts, backoff_s)
    except Exception as error:  # noqa: BLE001
        # A task may raise anything, as on Ray; the driver names it. The frames of a traceback hold arrays of the task,
        # and all failed tasks are kept to the end of a step.
        return error.with_traceback(None)


one_by_one = Serial(attempts=1)
"""Executor in this process without second attempts."""

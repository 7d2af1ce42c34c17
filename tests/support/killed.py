"""Drivers that die by signal 9, as processes of their own, and are started again."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from cellscale.segmentation.executor import Executor, attempted
from cellscale.segmentation.work_items import Task


def dying(records: int = 1) -> Executor:
    """An executor that does tasks, which write their records, and kills its process after a number of them."""
    done = itertools.count(1)

    def executor(
        work: Callable[[Any, Task], Any], shared: Any, tasks: Sequence[Task], *, gpu: bool = False
    ) -> Iterator[Any]:
        for task in tasks:
            yield task, attempted(work, shared, task, 1, 0.0)
            if next(done) == records:
                os.kill(os.getpid(), signal.SIGKILL)

    return executor


def killed_until_done(drive: Callable[..., None], *arguments: Any) -> int:
    """Start drivers, `drive(*arguments)`, until one ends by itself; return how many were killed.

    Parameters
    ----------
    drive : callable
        A function of a module, since it is called in another process; it kills its process, by `dying` or otherwise.
    *arguments : Any
        Its arguments.
    """
    context = multiprocessing.get_context("forkserver")
    # The processes are copies of one that has imported everything: a start takes no seconds.
    context.set_forkserver_preload([drive.__module__])
    kills = 0
    while True:
        driver = context.Process(target=drive, args=arguments)
        driver.start()
        driver.join()
        if driver.exitcode == 0:
            return kills
        assert driver.exitcode == -signal.SIGKILL
        kills += 1

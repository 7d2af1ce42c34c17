"""Drivers that die by signal 9, as processes of their own, and are started again."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from cellscale.segmentation.work_items import Task


def dying(work: Callable[[Any, Task], Any], shared: Any, tasks: Sequence[Task], *, gpu: bool = False) -> Iterator[Any]:
    """Do a task, which writes its record, and die."""
    for task in tasks:
        yield task, work(shared, task)
        os.kill(os.getpid(), signal.SIGKILL)


def killed_until_done(drive: Callable[..., None], *words: Any) -> int:
    """Start drivers, `drive(*words)`, until one ends by itself; return how many were killed.

    Parameters
    ----------
    drive : callable
        A function of a module, since it is called in another process; it kills its process, by `dying` or otherwise.
    *words : Any
        Its arguments.
    """
    context = multiprocessing.get_context("forkserver")
    # The processes are copies of one that has imported everything: a start takes no seconds.
    context.set_forkserver_preload([drive.__module__])
    kills = 0
    while True:
        driver = context.Process(target=drive, args=words)
        driver.start()
        driver.join()
        if driver.exitcode == 0:
            return kills
        assert driver.exitcode == -signal.SIGKILL
        kills += 1

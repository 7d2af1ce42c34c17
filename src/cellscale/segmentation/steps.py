"""Carry out the steps of a run: tasks with a record are not done again, failed ones are tried item by item.

A task writes its record when all that it has made is there. How tasks are mapped over workers is an argument; this
module knows neither Ray nor what a step computes.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np

from cellscale.errors import ChangedError, OvertakenError, RunError
from cellscale.progress import Progress
from cellscale.segmentation import failures, placeholders
from cellscale.segmentation.executor import Computed, Executor
from cellscale.segmentation.failures import FailedTile, Region
from cellscale.segmentation.memory import release_memory
from cellscale.segmentation.ownership import Ownership
from cellscale.segmentation.records import WORK_ITEMS, Arrays, Made, get, put
from cellscale.segmentation.report import Report
from cellscale.segmentation.work_items import RecordName, Step, Task, WorkItem
from cellscale.storage.traffic import Traffic, counting

log = logging.getLogger("cellscale")

R = TypeVar("R")
"""Type of the data that all tasks of a run share."""
Work: TypeAlias = Callable[[Any, Sequence[WorkItem]], Arrays | Made]
Summary: TypeAlias = Callable[[Arrays], Any]
"""Reduces a task's record, in the process of the task, to the summary that the driver needs."""


@dataclass(frozen=True, kw_only=True)
class _Shared:
    owner: Ownership
    work: Work
    argument: Any
    summary: Summary


def nothing(record: Arrays) -> None:
    """Return no summary of a record."""


def _perform(shared: _Shared, task: Task) -> Computed[tuple[Any, Traffic]]:
    """Compute a task."""
    with counting() as traffic:
        made = shared.work(shared.argument, task.items)
    release_memory()
    made = made if isinstance(made, Made) else Made(columns=made, objects={})
    return Computed(store=partial(_store, shared, task, made, traffic))


def _store(shared: _Shared, task: Task, made: Made, before: Traffic) -> tuple[Any, Traffic]:
    """Write a task's objects, then its record, unless another driver has taken over the run meanwhile."""
    record = {WORK_ITEMS: np.array(task.items, np.int64), **made.columns}
    with counting() as traffic:
        for name, arrays in made.objects.items():
            put(shared.owner.scratch, name, arrays)
        shared.owner.check_if_due()
        put(shared.owner.scratch, task.record.path, record)
    return shared.summary(record), before + traffic


def _close(results: Iterator[Any]) -> None:
    """Close an executor's results early: remaining tasks are not started."""
    if isinstance(results, Generator):
        results.close()


@dataclass(frozen=True, kw_only=True)
class Steps(Generic[R]):
    """Executes steps and keeps the report."""

    run: R
    place: Callable[[R, Step, WorkItem], tuple[int | None, Region]]
    """Returns the number of a work item in its frame, and its place, for the report."""
    owner: Ownership
    executor: Executor
    report: Report
    on_progress: Progress
    on_status: Callable[[str, str], None] = lambda step, note: None
    full_report: str = "--report FOLDER lists all of them."
    """Place of the full list of failed work items, or a way to get it, for messages that name the first ones."""
    begun: bool = True
    """Whether an earlier driver may have left records."""
    records: dict[str, list[RecordName]] = field(default_factory=dict)
    """Names of the records of each step that is done; a listing may not have the latest of them."""

    def do(
        self,
        step: Step,
        work: Work,
        argument: Any,
        *,
        gpu: bool = False,
        instead: Work | None = None,
        summary: Summary = nothing,
    ) -> list[Any]:
        """Do the tasks of a step that have no record; try the work items of failed tasks one by one.

        Work items that fail again end the run, unless `instead` makes placeholders for them.

        Returns
        -------
        list
            The summary of each record of the step.

        Raises
        ------
        RunError
            Naming the first work items that failed, with their reasons.
        OvertakenError
            If another driver has taken over the run.
        """
        self.owner.check_if_due()
        began = time.perf_counter()
        todo, records = self._todo(step)
        self.report.tasks[step.name], self.report.reused[step.name] = len(step), len(step) - len(todo)
        if len(todo) < len(step):
            log.info("%s: %d of %d tasks reused", step.name, len(step) - len(todo), len(step))
        found = [] if summary is nothing else [summary(get(self.owner.scratch, name.path)) for name in records]
        shared = _Shared(owner=self.owner, work=work, argument=argument, summary=summary)
        failed = self._try(shared, todo, step, gpu, found)
        if failed:
            self.owner.check()
        split = {task.record for task, _ in failed}
        alone = [one for task, _ in failed for one in task.alone()]
        if alone:
            text = "%s: %d tasks failed; their %d work items are tried one by one"
            log.warning(text, step.name, len(failed), len(alone))
            self.report.retried[step.name] = len(alone)
            failed = self._try(shared, alone, step, gpu, found)
        if failed and instead is not None:
            reasons = {task.items[0]: failures.reason_of(error) for task, error in failed}
            log.warning("%s: %d work items failed again", step.name, len(failed))
            missing = placeholders.Failed(run=self.run, reasons=reasons)
            shared = dataclasses.replace(shared, work=instead, argument=missing)
            failed = self._try(shared, [task for task, _ in failed], step, False, found)
        self.report.seconds[step.name] = time.perf_counter() - began
        if failed:
            raise RunError(self._failure(step, failed))
        done = [task.record for task in todo if task.record not in split]
        self.records[step.name] = sorted([*records, *done, *(task.record for task in alone)])
        return found

    def _todo(self, step: Step) -> tuple[list[Task], list[RecordName]]:
        """Tasks without a record, and the records of the others: one of the task, or one of each work item."""
        done = self.owner.scratch.names(step.name) if self.begun else frozenset()
        todo, records = [], list[RecordName]()
        for number in range(len(step)):
            if (whole := step.record_name(number)).file in done:
                records.append(whole)
                continue
            task = step.task(number)
            alone = [one.record for one in task.alone()]
            if all(name.file in done for name in alone):
                records += alone
            else:
                todo.append(task)
        return todo, records

    def _try(
        self, shared: _Shared, tasks: list[Task], step: Step, gpu: bool, found: list[Any]
    ) -> list[tuple[Task, Exception]]:
        """Do tasks, add their summaries to `found` and return those that failed, with their errors."""
        failed, items, began = [], 0, time.perf_counter()
        self.on_progress(step.name, 0, len(tasks))
        results = self.executor(_perform, shared, tasks, gpu=gpu)
        for done, (task, result) in enumerate(results, 1):
            if isinstance(result, (OvertakenError, ChangedError)):
                _close(results)
                raise result
            if isinstance(result, Exception):
                failed.append((task, result))
            else:
                summary, traffic = result
                found.append(summary)
                self.report.add_io(step.name, traffic)
            items += len(task.items)
            self.on_status(step.name, self._status(step, items, time.perf_counter() - began))
            self.on_progress(step.name, done, len(tasks))
        return failed

    def _status(self, step: Step, items: int, seconds: float) -> str:
        """Status message: work items done, their rate, and work items of the step that were tried again."""
        pace = f"{items * step.item_px / 1e6 / max(seconds, 1e-9):.1f} Mpx/s"
        pace = f"{items} {step.item_kind}{'s' * (items != 1)}, {pace}"
        again = self.report.retried.get(step.name, 0)
        return pace + (f", {again} tried again" if again else "")

    def _failure(self, step: Step, failed: list[tuple[Task, Exception]]) -> str:
        items = sorted((task.items[0], failures.reason_of(error)) for task, error in failed)
        found = [FailedTile.of(step, *self.place(self.run, step, item), reason) for item, reason in items]
        self.report.failed_tiles += found
        where = failures.first_of(map(str, found), " | ", self.full_report)
        return f"{step.name}: {len(found)} work item(s) failed, nothing was published. {where}"

"""Carry out the steps of a run: tasks with a record are not done again, failed ones are tried unit by unit.

A task writes its record when all that it has made is there. How tasks are mapped over workers is an argument; this
module knows neither Ray nor what a step computes.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np

from cellscale.errors import ChangedError, OvertakenError, RunError
from cellscale.progress import Progress
from cellscale.segmentation import placeholders
from cellscale.segmentation.executor import Executor, Task
from cellscale.segmentation.memory import release_memory
from cellscale.segmentation.ownership import Ownership
from cellscale.segmentation.plan import Step, Unit
from cellscale.segmentation.records import Arrays, get, put
from cellscale.segmentation.report import Report

log = logging.getLogger("cellscale")

R = TypeVar("R")
"""Type of the data that all tasks of a run share."""
Work: TypeAlias = Callable[[Any, Sequence[Unit]], Arrays]
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


def _perform(shared: _Shared, task: Task) -> Any:
    """Do a task, then write its record, unless another driver has signed the run meanwhile."""
    name, units = task
    record = {"units": np.array(units, np.int64), **shared.work(shared.argument, units)}
    shared.owner.check()
    put(shared.owner.scratch, name, record)
    release_memory()
    return shared.summary(record)


def _close(results: Iterator[Any]) -> None:
    """Close an executor's results early: remaining tasks are not started."""
    if isinstance(results, Generator):
        results.close()


@dataclass(frozen=True, kw_only=True)
class Steps(Generic[R]):
    """Executes steps and keeps the report."""

    run: R
    place: Callable[[R, Step, Unit], Mapping[str, Any]]
    """Returns the place of a unit of a step, for the report: frame, slice, box."""
    owner: Ownership
    executor: Executor
    report: Report
    on_progress: Progress
    on_status: Callable[[str, str], None] = lambda step, note: None
    full_report: str = "--report FOLDER lists all of them."
    """Place of the full list of failed units, or a way to get it, for messages that name the first ones."""
    records: dict[str, list[str]] = field(default_factory=dict)
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
        """Do the tasks of a step that have no record; set aside the work items that fail again when tried alone.

        Failed work items end the run, unless `instead` makes placeholders of them.

        Returns
        -------
        list
            The summary of each record of the step.

        Raises
        ------
        RunError
            Naming the first units that failed, with their reasons.
        OvertakenError
            If another driver has signed the run.
        """
        self.owner.check()
        began = time.perf_counter()
        todo, records = self._todo(step)
        self.report.tasks[step.name], self.report.reused[step.name] = len(step), len(step) - len(todo)
        if len(todo) < len(step):
            log.info("%s: %d of %d tasks reused", step.name, len(step) - len(todo), len(step))
        found = [] if summary is nothing else [summary(get(self.owner.scratch, name)) for name in records]
        shared = _Shared(owner=self.owner, work=work, argument=argument, summary=summary)
        tasks = [(step.record_name(task), step.units(task)) for task in todo]
        failed = self._try(shared, tasks, step, gpu, found)
        if failed:
            self.owner.check()
        alone = [(f"{name}-{i:05d}", [unit]) for (name, units), _ in failed for i, unit in enumerate(units)]
        if alone:
            log.warning(
                "%s: %d tasks failed; their %d work items are tried one by one", step.name, len(failed), len(alone)
            )
            self.report.retried[step.name] = len(alone)
            failed = self._try(shared, alone, step, gpu, found)
        if failed and instead is not None:
            reasons = {units[0]: placeholders.reason_of(error) for (_, units), error in failed}
            log.warning("%s: %d work items failed and become background", step.name, len(failed))
            missing = placeholders.Failed(run=self.run, reasons=reasons)
            shared = dataclasses.replace(shared, work=instead, argument=missing)
            failed = self._try(shared, [task for task, _ in failed], step, False, found)
        self.report.seconds[step.name] = time.perf_counter() - began
        if failed:
            raise RunError(self._set_aside(step, failed))
        again = {name.rpartition("-")[0] for name, _ in alone}
        done = [name for name, _ in tasks if name not in again]
        self.records[step.name] = sorted([*records, *done, *(name for name, _ in alone)])
        return found

    def _todo(self, step: Step) -> tuple[list[int], list[str]]:
        """Tasks without a record, and the records of the others: one of the task, or one of each unit."""
        done = self.owner.scratch.names(step.name)
        todo, records = [], []
        for task in range(len(step)):
            whole = step.record_name(task)
            alone = [step.record_name(task, i) for i in range(len(step.units(task)))] if whole not in done else []
            if whole.split("/")[1] in done:
                records.append(whole)
            elif all(name.split("/")[1] in done for name in alone):
                records += alone
            else:
                todo.append(task)
        return todo, records

    def _try(
        self, shared: _Shared, tasks: list[Task], step: Step, gpu: bool, found: list[Any]
    ) -> list[tuple[Task, Exception]]:
        """Do tasks, add their summaries to `found` and return those that failed, with their errors."""
        failed, units, began = [], 0, time.perf_counter()
        self.on_progress(step.name, 0, len(tasks))
        results = self.executor(_perform, shared, tasks, gpu=gpu)
        for done, (task, result) in enumerate(results, 1):
            if isinstance(result, (OvertakenError, ChangedError)):
                _close(results)
                raise result
            if isinstance(result, Exception):
                failed.append((task, result))
            else:
                found.append(result)
            units += len(task[1])
            self.on_status(step.name, self._note(step, units, time.perf_counter() - began))
            self.on_progress(step.name, done, len(tasks))
        return failed

    def _note(self, step: Step, units: int, seconds: float) -> str:
        """Status message: units done, their rate, and units of the step that were tried again."""
        pace = f"{units} {step.kind}{'s' * (units != 1)}, {units * step.unit_px / 1e6 / max(seconds, 1e-9):.1f} Mpx/s"
        again = self.report.retried.get(step.name, 0)
        return pace + (f", {again} tried again" if again else "")

    def _set_aside(self, step: Step, failed: list[tuple[Task, Exception]]) -> str:
        found = [
            placeholders.described(step, units[0], self.place(self.run, step, units[0]), placeholders.reason_of(error))
            for (_, units), error in failed
        ]
        self.report.failed_tiles += found
        where = placeholders.first_of([placeholders.named(unit) for unit in found], " | ", self.full_report)
        return f"{step.name}: {len(found)} work item(s) failed, nothing was published. {where}"

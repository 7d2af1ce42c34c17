"""A segmentation: Plan → Predict → Decode → Join → Publish → Clean.

Each step may be repeated at any time: it writes only what it computes from inputs that do not change. Tasks with a
record are not done again. How tasks are spread over workers is an argument; this module knows no Ray.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from cellscale.errors import CellscaleError, ChangedError, OvertakenError, RunError
from cellscale.methods.inference import fuse_batchnorm
from cellscale.methods.protocol import Networks
from cellscale.ngff.labels import (
    LabelLayer,
    discard_labels,
    publish_labels,
    stage_labels,
)
from cellscale.ngff.metadata import read_node
from cellscale.ngff.stores import Store
from cellscale.progress import Progress, silent
from cellscale.segmentation import failures, placeholders, verification
from cellscale.segmentation.decode import decode
from cellscale.segmentation.executor import Executor, one_by_one
from cellscale.segmentation.failures import FailedTile, Region
from cellscale.segmentation.intensity_statistics import measure_planes, missing_chunks
from cellscale.segmentation.join import cells_in_earlier_slices, counted, join, join_row_groups
from cellscale.segmentation.memory import release_memory
from cellscale.segmentation.ownership import Ownership, sign
from cellscale.segmentation.plan import Run
from cellscale.segmentation.predict import predict, reached_in_record
from cellscale.segmentation.publish import Publication, layer_metadata, publish, tables
from cellscale.segmentation.records import WORK_ITEMS, Arrays, get, put
from cellscale.segmentation.report import Report, stored_report, write_copy, write_report
from cellscale.segmentation.seam_quality import count_seams, layer_quality
from cellscale.segmentation.target import CHANGED, Target, resumed
from cellscale.segmentation.work_items import (
    ABOUT_THE_LAYER,
    RecordName,
    Step,
    Task,
    WorkItem,
    step_of_folder,
)
from cellscale.tiling.row_groups import Rows

log = logging.getLogger("cellscale")

Work: TypeAlias = Callable[[Any, Sequence[WorkItem]], Arrays]
Summary: TypeAlias = Callable[[Arrays], Any]
"""Makes of a task's record, where the task is done, the little that the driver wants of it."""


@dataclass(frozen=True, kw_only=True)
class _Shared:
    owner: Ownership
    work: Work
    argument: Any
    summary: Summary


def nothing(record: Arrays) -> None:
    """Want nothing of a record."""


def _perform(shared: _Shared, task: Task) -> Any:
    """Do a task, then write its record, unless another driver has signed the run meanwhile."""
    record = {WORK_ITEMS: np.array(task.items, np.int64), **shared.work(shared.argument, task.items)}
    shared.owner.check()
    put(shared.owner.scratch, task.record.path, record)
    release_memory()
    return shared.summary(record)


def _close(results: Iterator[Any]) -> None:
    """Close an executor's results early: tasks that are still to come are not done."""
    if isinstance(results, Generator):
        results.close()


@dataclass(frozen=True, kw_only=True)
class Steps:
    """Carries out steps and keeps the report."""

    run: Run
    owner: Ownership
    executor: Executor
    report: Report
    on_progress: Progress
    on_status: Callable[[str, str], None] = lambda step, note: None
    full_report: str = "--report FOLDER lists all of them."
    """Where all failed work items are listed, or how to get the list, for messages that name the first ones."""
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
        """Do the tasks of a step that have no record; try the work items of those that fail one by one.

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
            If another driver has signed the run.
        """
        self.owner.check()
        began = time.perf_counter()
        todo, records = self._todo(step)
        self.report.tasks[step.name], self.report.reused[step.name] = len(step), len(step) - len(todo)
        if len(todo) < len(step):
            log.info("%s: %d of %d tasks reused", step.name, len(step) - len(todo), len(step))
        found = [] if summary is nothing else [summary(get(self.run.scratch, name.path)) for name in records]
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
            log.warning("%s: %d work items failed and become failed regions", step.name, len(failed))
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
        done = set(self.run.scratch.names(step.name))
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
                found.append(result)
            items += len(task.items)
            self.on_status(step.name, self._status(step, items, time.perf_counter() - began))
            self.on_progress(step.name, done, len(tasks))
        return failed

    def _status(self, step: Step, items: int, seconds: float) -> str:
        """Status message: how many work items are done, how fast, and how many of the step were tried again."""
        pace = f"{items * step.item_px / 1e6 / max(seconds, 1e-9):.1f} Mpx/s"
        pace = f"{items} {step.item_kind}{'s' * (items != 1)}, {pace}"
        again = self.report.retried.get(step.name, 0)
        return pace + (f", {again} tried again" if again else "")

    def placeholders(self, step: Step) -> list[FailedTile]:
        """Work items of a step that were recorded as placeholders, in order."""
        return failures.recorded(self.run, step, self.records[step.name])

    def _failure(self, step: Step, failed: list[tuple[Task, Exception]]) -> str:
        found = [FailedTile.of(self.run, step, task.items[0], failures.reason_of(error)) for task, error in failed]
        self.report.failed_tiles += found
        where = failures.first_of(map(str, found), " | ", self.full_report)
        return f"{step.name}: {len(found)} work item(s) failed, nothing was published. {where}"


def _measure_intensities(steps: Steps, target: Target) -> None:
    """Read all frames once; blocks that cannot be read end the run here, unless placeholders are wanted."""
    run, report = steps.run, steps.report
    try:
        missing = steps.do(
            run.intensity_statistics, measure_planes, run, instead=placeholders.measure_readable, summary=missing_chunks
        )
        skipped = failures.skipped_blocks(run, steps.records[run.intensity_statistics.name])
        if skipped and not target.allow_failed_tiles:
            report.failed_tiles += steps.placeholders(run.intensity_statistics)
            raise RunError(failures.unreadable(run, skipped, report.failed_tiles, steps.full_report))
    except RunError:
        steps.owner.finish()
        raise
    report.unreadable_blocks = [Region.of(run, plane, box) for plane, box in skipped]
    report.missing_chunks = sum(missing)
    if report.missing_chunks:
        log.warning("%d chunks are missing in %s and read as its fill value", report.missing_chunks, run.image.url)


def _staged(run: Run, target: Target, attempt: str, metadata: dict[str, Any]) -> LabelLayer:
    """Make the layer's arrays, unlisted; those of this attempt are kept, and the records of what is in them."""
    gone = read_node(Store(url=target.layer, storage_options=run.image.storage_options)) is None
    layer = stage_labels(
        run.image,
        target.name,
        output=target.output,
        version=target.version,
        planes_z=1 if run.settings.z_mode == "max_projection" else run.image.size("z"),
        metadata=metadata,
        storage_options=run.image.storage_options,
        attempt=attempt,
        overwrite=target.overwrite,
    )
    earlier, arrays = run.scratch.read_json("staged.json"), [level.path for level in layer.levels]
    if gone or earlier != arrays:
        _forget(run)
        run.scratch.write_json("staged.json", arrays)
    return layer


def _discard(run: Run, target: Target, attempt: str) -> None:
    """Delete the arrays of an attempt that will not be published."""
    discard_labels(target.store, target.name, attempt, storage_options=run.image.storage_options)


def _forget(run: Run) -> None:
    """Delete the records of what was published into other arrays."""
    for step in run.scratch.names():
        if step_of_folder(step) in ABOUT_THE_LAYER:
            run.scratch.child(step).remove()


def segment(
    run: Run,
    networks: Networks,
    target: Target,
    *,
    executor: Executor = one_by_one,
    on_progress: Progress = silent,
    on_status: Callable[[str, str], None] = lambda step, note: None,
    model: dict[str, Any] | None = None,
) -> Report:
    """Carry out a planned run; the same command again resumes it.

    Parameters
    ----------
    run : Run
        What `plan` returned.
    networks : mapping of Module
        The trained networks.
    target : Target
        The layer to write.
    executor : callable
        How tasks are mapped over workers.
    on_progress : callable
        Called with a step's name, tasks done and tasks in all.
    on_status : callable
        Called before it with the step's name and a line on its pace: work items done, Mpx/s, work items tried again.
    model : dict
        Written into the layer's metadata.

    Returns
    -------
    Report
        Tasks, reuse, times and counts.

    Raises
    ------
    ExistsError
        If the layer exists and `overwrite` is not set.
    InputError
        If an unfinished run with other settings is in the way.
    StoreError
        If the report cannot be written where it is wanted; nothing is computed then.
    OvertakenError
        If another driver signs the run; it goes on.
    RunError
        If work items failed; nothing is published then, unless the target allows failed tiles.
    """
    attempt, finished = resumed(run, target)
    if target.report:
        target.report.check_writable()
    owner = sign(run, allow_failed_tiles=target.allow_failed_tiles, attempt=attempt)
    if finished is not None:
        owner.finish()
        return stored_report(finished)
    run, report = dataclasses.replace(run, scratch=owner.scratch), Report()
    steps = Steps(run=run, owner=owner, executor=executor, report=report, on_progress=on_progress, on_status=on_status)
    if target.report:
        steps = dataclasses.replace(steps, full_report=f"{target.report.url}/report.json lists all of them.")
    try:
        layer = _carried_out(steps, networks, target, model or {})
    except OvertakenError:
        if owner.leave():
            _discard(run, target, owner.attempt)
        raise
    except CellscaleError as error:
        if isinstance(error, ChangedError) and owner.owns():
            owner.scratch.write_json(CHANGED, str(error))
        if target.report:
            write_copy(run, report, target.report, layer=target.layer, error=str(error))
        raise
    write_report(run, report, layer)
    if target.report:
        write_copy(run, report, target.report, layer=layer.url)
    publish_labels(layer, overwrite=target.overwrite)
    layer.store.folder.tidy()
    for dropped in owner.dropped:
        _discard(run, target, dropped)
    owner.finish()
    return report


def _carried_out(steps: Steps, networks: Networks, target: Target, model: dict[str, Any]) -> LabelLayer:
    """Do all steps up to a layer that is complete, checked and not yet listed."""
    run, report, networks = steps.run, steps.report, fuse_batchnorm(networks)
    _measure_intensities(steps, target)
    reached: list[Counter[str]] = []
    if not run.fused:
        instead = placeholders.no_maps if target.allow_failed_tiles else None
        reached = steps.do(
            run.predict, _predicting, (run, networks), gpu=True, instead=instead, summary=reached_in_record
        )
        report.failed_tiles += steps.placeholders(run.predict)
    instead = placeholders.no_fragments if target.allow_failed_tiles else None
    shared = (run, networks if run.fused else {})
    reached += steps.do(run.decode, _decoding, shared, gpu=run.fused, instead=instead, summary=reached_in_record)
    report.failed_regions = steps.placeholders(run.decode)
    report.failed_tiles += report.failed_regions
    steps.do(run.join_row_groups, join_row_groups, run)
    joined = steps.do(run.join, join, run, summary=dict)
    report.cells, report.flagged = counted(joined)
    earlier = cells_in_earlier_slices(run, joined)
    report.reached = dict(sum(reached, Counter[str]()))
    if report.reached:
        log.warning("limits of the networks were reached, cells may be missing: %s", report.reached)
    steps.owner.check()
    layer = _staged(run, target, steps.owner.attempt, layer_metadata(run, model, report.failed_regions))
    _write_layer(steps, layer, earlier)
    report.seams = layer_quality(run, steps.records[run.seams(len(layer.shards())).name])
    return layer


def _write_layer(steps: Steps, layer: LabelLayer, earlier: Rows) -> None:
    """Write all levels and the object table, and check what is there against what was written."""
    run, finest = steps.run, Publication(run=steps.run, layer=layer, level=0, earlier=earlier)
    written = {}
    for level in range(len(layer.levels)):
        step = run.publish(level, len(layer.shards(level)))
        publication = dataclasses.replace(finest, level=level)
        written[level] = steps.do(step, publish, publication, summary=verification.Written.of)
    steps.do(run.seams(len(layer.shards())), count_seams, finest)
    rows = steps.do(run.tables, tables, finest, summary=verification.Written.of)
    verification.check_levels(layer, written)
    verification.check_cells(run, layer, written[0], rows)
    steps.owner.check()


def _predicting(shared: tuple[Run, Networks], items: Sequence[WorkItem]) -> Arrays:
    return predict(*shared, items)


def _decoding(shared: tuple[Run, Networks], items: Sequence[WorkItem]) -> Arrays:
    return decode(*shared, items)

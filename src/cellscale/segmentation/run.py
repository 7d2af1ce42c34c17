"""A segmentation: Plan → Predict → Decode → Join → Publish → Clean.

Each step may be repeated at any time: it writes only what it computes from inputs that do not change. Tasks with a
record are not done again. How tasks are spread over workers is an argument; this module knows no Ray.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np

from cellscale.errors import CellscaleError, ExistsError, InputError, RunError, StoreError
from cellscale.methods.inference import folded
from cellscale.methods.protocol import Networks
from cellscale.ngff.labels import (
    LabelLayer,
    check_target,
    list_labels,
    open_labels,
    publish_labels,
    remove_labels,
    stage_labels,
)
from cellscale.progress import Progress, silent
from cellscale.segmentation import placeholders
from cellscale.segmentation.decode import decode
from cellscale.segmentation.heap import give_back
from cellscale.segmentation.join import counted, join, join_strips
from cellscale.segmentation.plan import Run, Step, Unit, differences, stored_plan
from cellscale.segmentation.predict import predict, survey
from cellscale.segmentation.publish import Publication, layer_metadata, publish, tables
from cellscale.segmentation.records import Arrays, get, put
from cellscale.segmentation.report import Report, limits_reached, write_copy, write_report
from cellscale.segmentation.seam_quality import count_seams, layer_quality
from cellscale.storage.folder import Folder

log = logging.getLogger("cellscale")

Task: TypeAlias = tuple[str, list[Unit]]
"""Name of the record, and the units of work."""
Work: TypeAlias = Callable[[Any, Sequence[Unit]], Arrays]


class Spread(Protocol):
    """Map work over tasks, in any order; an error is yielded as a value."""

    def __call__(
        self, work: Callable[[Any, Task], Any], shared: Any, tasks: Sequence[Task], *, gpu: bool = False
    ) -> Iterator[tuple[Task, Any]]:
        """Yield each task with its result or its error."""
        ...


def one_by_one(
    work: Callable[[Any, Task], Any], shared: Any, tasks: Sequence[Task], *, gpu: bool = False
) -> Iterator[tuple[Task, Any]]:
    """Do all tasks in this process, in order."""
    for task in tasks:
        try:
            yield task, work(shared, task)
        except (CellscaleError, OSError, ValueError, MemoryError) as error:
            yield task, error


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where the labels go."""

    store: str
    """URL of the image that gets the layer, or of another store."""
    name: str
    output: str | None = None
    """The other store, or None: the image's own."""
    version: str | None = None
    """NGFF version of another store; None: the image's."""
    overwrite: bool = False
    allow_failed_tiles: bool = False
    """Publish a layer although units failed; they are background, and named in its metadata and report."""
    report: Folder | None = None
    """Where the report goes beside the layer's own folder, and where it goes if nothing is published."""

    @property
    def layer(self) -> str:
        """URL of the layer."""
        return f"{self.store.rstrip('/')}/labels/{self.name}"


@dataclass(frozen=True, kw_only=True)
class _Shared:
    run: Run
    work: Work
    argument: Any


def _perform(shared: _Shared, task: Task) -> None:
    """Do a task, then write its record."""
    name, units = task
    arrays = shared.work(shared.argument, units)
    put(shared.run.scratch, name, {"units": np.array(units, np.int64), **arrays})
    give_back()


@dataclass(frozen=True, kw_only=True)
class Steps:
    """Carries out steps and keeps the report."""

    run: Run
    spread: Spread
    report: Report
    token: str
    """Of the driver that signed the run."""
    on_progress: Progress
    on_note: Callable[[str, str], None] = lambda step, note: None

    def do(self, step: Step, work: Work, argument: Any, *, gpu: bool = False, instead: Work | None = None) -> None:
        """Do the tasks of a step that have no record; quarantine the units that fail alone, too.

        Quarantined units end the run, unless `instead` makes holes of them.

        Raises
        ------
        RunError
            Naming every unit that failed, with its reason; or if another driver has signed the run.
        """
        self.check_owner()
        began = time.perf_counter()
        todo = self._todo(step)
        self.report.tasks[step.name], self.report.reused[step.name] = len(step), len(step) - len(todo)
        if len(todo) < len(step):
            log.info("%s: %d of %d tasks reused", step.name, len(step) - len(todo), len(step))
        shared = _Shared(run=self.run, work=work, argument=argument)
        failed = self._try(shared, [(step.record_name(task), step.units(task)) for task in todo], step, gpu)
        if failed:
            self.check_owner()
        alone = [(f"{name}-{i:05d}", [unit]) for (name, units), _ in failed for i, unit in enumerate(units)]
        if alone:
            log.warning("%s: %d tasks failed; their %d units are tried one by one", step.name, len(failed), len(alone))
            self.report.retried[step.name] = len(alone)
            failed = self._try(shared, alone, step, gpu)
        if failed and instead is not None:
            reasons = {units[0]: placeholders.reason_of(error) for (_, units), error in failed}
            log.warning("%s: %d units failed and become holes", step.name, len(failed))
            shared = _Shared(run=self.run, work=instead, argument=placeholders.Failed(run=self.run, reasons=reasons))
            failed = self._try(shared, [task for task, _ in failed], step, gpu=False)
        self.report.seconds[step.name] = time.perf_counter() - began
        if failed:
            raise RunError(self._quarantine(step, failed))

    def check_owner(self) -> None:
        """Stop if the same command runs a second time: the later driver goes on, and cleans up at its end."""
        if self.run.scratch.read_json("owner.json") != self.token:
            raise RunError(
                f"Another driver has signed the run in {self.run.scratch.url}, and goes on with it or has finished it; "
                "its labels are the same. This one stops and leaves everything as it is."
            )

    def _todo(self, step: Step) -> list[int]:
        done = self.run.scratch.names(step.name)
        return [
            task
            for task in range(len(step))
            if step.record_name(task).split("/")[1] not in done
            and not all(step.record_name(task, i).split("/")[1] in done for i in range(len(step.units(task))))
        ]

    def _try(self, shared: _Shared, tasks: list[Task], step: Step, gpu: bool) -> list[tuple[Task, Exception]]:
        failed, units, began = [], 0, time.perf_counter()
        self.on_progress(step.name, 0, len(tasks))
        for done, (task, result) in enumerate(self.spread(_perform, shared, tasks, gpu=gpu), 1):
            if isinstance(result, Exception):
                failed.append((task, result))
            units += len(task[1])
            self.on_note(step.name, self._note(step, units, time.perf_counter() - began))
            self.on_progress(step.name, done, len(tasks))
        return failed

    def _note(self, step: Step, units: int, seconds: float) -> str:
        """How many units are done, how fast, and how many of the step were tried again."""
        pace = f"{units} {step.kind}{'s' * (units != 1)}, {units * step.unit_px / 1e6 / max(seconds, 1e-9):.1f} Mpx/s"
        again = self.report.retried.get(step.name, 0)
        return pace + (f", {again} tried again" if again else "")

    def _quarantine(self, step: Step, failed: list[tuple[Task, Exception]]) -> str:
        found = [
            placeholders.described(self.run, step, units[0], placeholders.reason_of(error))
            for (_, units), error in failed
        ]
        self.report.failed_tiles += found
        where = " | ".join(map(placeholders.named, found))
        return f"{step.name}: {len(found)} unit(s) quarantined, nothing was published. {where}"


def _resume_or_start(run: Run, target: Target) -> str:
    """Refuse what would be overwritten, keep what fits the plan, and sign the run; returns the owner's token."""
    check_target(run.image, target.name, output=target.output, version=target.version)
    old = _earlier(run, target)
    if old is not None and old["digest"] != run.digest:
        if not target.overwrite:
            changed = "; ".join(differences(old["description"], run.description))
            raise InputError(
                f"{run.scratch.url} holds an unfinished run of layer {target.name!r} with other settings: {changed}. "
                "Repeat its command to finish it, or use --overwrite to drop it."
            )
        old = None
    if not target.overwrite and _other_layer(run, target, unfinished=bool(run.scratch.names())):
        raise ExistsError(
            f"{target.store} already has a label layer {target.name!r}. Choose another --layer, or use --overwrite."
        )
    if old is None:
        _drop(run)
    wanted = {"digest": run.digest, "description": run.description, "allow_failed_tiles": target.allow_failed_tiles}
    if old != wanted:
        run.scratch.write_json("plan.json", wanted)
    token = uuid.uuid4().hex
    run.scratch.write_json("owner.json", token)
    return token


def _earlier(run: Run, target: Target) -> dict[str, Any] | None:
    """The plan of an unfinished run, or None; `overwrite` drops one that is damaged, or makes holes unasked."""
    try:
        old = stored_plan(run.scratch)
    except StoreError:
        if not target.overwrite:
            raise
        return None
    if old is None or target.allow_failed_tiles or not old.get("allow_failed_tiles"):
        return old
    if target.overwrite:
        return None
    raise InputError(
        f"{run.scratch.url} holds an unfinished run of layer {target.name!r} that makes holes of what fails. "
        "Finish it with --allow-failed-tiles, or use --overwrite to drop it."
    )


def _other_layer(run: Run, target: Target, *, unfinished: bool) -> bool:
    """Whether a layer of the name is published, and not by this very run before it could clean up."""
    options = run.image.storage_options
    if target.name not in list_labels(target.store, storage_options=options):
        return False
    published = open_labels(target.store, target.name, storage_options=options)
    return not (unfinished and published.metadata.get("digest") == run.digest)


def _survey(steps: Steps, target: Target) -> None:
    """Read all frames once; blocks that cannot be read end the run before anything is made, unless holes are wanted."""
    run, report = steps.run, steps.report
    try:
        steps.do(run.survey, survey, run, instead=placeholders.survey_readable)
        skipped = placeholders.skipped_blocks(run)
        if skipped and not target.allow_failed_tiles:
            report.failed_tiles += placeholders.recorded(run, run.survey)
            raise RunError(placeholders.unreadable(run, skipped, report.failed_tiles))
    except RunError:
        _drop(run, steps.token)
        raise
    report.unreadable_blocks = [placeholders.place(run, plane, box) for plane, box in skipped]
    missing: dict[int, int] = {}
    for name in run.scratch.names("survey"):
        record = get(run.scratch, f"survey/{name}")
        missing |= dict(zip(record["units"][:, 0].tolist(), record["missing"].tolist(), strict=True))
    report.missing_chunks = sum(missing.values())
    if report.missing_chunks:
        log.warning("%d chunks are missing in %s and read as its fill value", report.missing_chunks, run.image.url)


def _staged(run: Run, target: Target, metadata: dict[str, Any]) -> LabelLayer:
    """Make the layer's arrays, unlisted; an older layer of the name goes only now."""
    options = run.image.storage_options
    there = Folder(url=f"{target.store.rstrip('/')}/labels/{target.name}", storage_options=options).names()
    fresh = run.scratch.read_json("staged.json") is None or not there
    if fresh:
        _forget(run)
    if fresh and target.name in list_labels(target.store, storage_options=options):
        remove_labels(target.store, target.name, storage_options=options)
    layer = stage_labels(
        run.image,
        target.name,
        output=target.output,
        version=target.version,
        planes_z=1 if run.settings.z_mode == "max_projection" else run.image.size("z"),
        metadata=metadata,
        storage_options=options,
    )
    run.scratch.write_json("staged.json", True)
    return layer


def segment(
    run: Run,
    networks: Networks,
    target: Target,
    *,
    spread: Spread = one_by_one,
    on_progress: Progress = silent,
    on_note: Callable[[str, str], None] = lambda step, note: None,
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
    spread : callable
        How tasks are mapped over workers.
    on_progress : callable
        Called with a step's name, tasks done and tasks in all.
    on_note : callable
        Called before it with the step's name and a line on its pace: units done, Mpx/s, units tried again.
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
    RunError
        If units were quarantined; nothing is published then, unless the target wants holes.
    """
    token = _resume_or_start(run, target)
    report = Report()
    steps = Steps(run=run, spread=spread, report=report, token=token, on_progress=on_progress, on_note=on_note)
    try:
        layer = _carried_out(steps, networks, target, model or {})
    except CellscaleError as error:
        if target.report:
            write_copy(run, report, target.report, layer=target.layer, error=str(error))
        raise
    write_report(run, report, layer)
    if target.report:
        write_copy(run, report, target.report, layer=layer.url)
    publish_labels(layer)
    _drop(run, token)
    return report


def _carried_out(steps: Steps, networks: Networks, target: Target, model: dict[str, Any]) -> LabelLayer:
    """All steps up to a layer that is complete and not yet listed."""
    run, report, networks = steps.run, steps.report, folded(networks)
    _survey(steps, target)
    if not run.fused:
        instead = placeholders.no_maps if target.allow_failed_tiles else None
        steps.do(run.predict, _predicting, (run, networks), gpu=True, instead=instead)
        report.failed_tiles += placeholders.recorded(run, run.predict)
    instead = placeholders.no_pieces if target.allow_failed_tiles else None
    steps.do(run.decode, _decoding, (run, networks if run.fused else {}), gpu=run.fused, instead=instead)
    report.failed_regions = placeholders.recorded(run, run.decode)
    report.failed_tiles += report.failed_regions
    steps.do(run.strips, join_strips, run)
    steps.do(run.join, join, run)
    steps.check_owner()
    layer = _staged(run, target, layer_metadata(run, model, report.failed_regions))
    for level in range(len(layer.levels)):
        step = run.publish(level, len(layer.shards(level)))
        steps.do(step, publish, Publication(run=run, layer=layer, level=level))
    finest = Publication(run=run, layer=layer, level=0)
    steps.do(run.seams(len(layer.shards())), count_seams, finest)
    steps.do(run.tables, tables, finest)
    report.cells, report.flagged = counted(run)
    report.reached = limits_reached(run)
    report.seams = layer_quality(run)
    return layer


def _drop(run: Run, token: str | None = None) -> None:
    """Delete a run's folder, its plan first: without a plan, records do not count; not if it is signed by another."""
    if token is None or run.scratch.read_json("owner.json") == token:
        run.scratch.delete("plan.json")
        run.scratch.remove()


def _forget(run: Run) -> None:
    """Delete the records of what was published into arrays that are no longer there."""
    for step in run.scratch.names():
        if step in {"tables", "seams"} or step.startswith("publish-"):
            Folder(url=f"{run.scratch.url}/{step}", storage_options=run.scratch.storage_options).remove()


def _predicting(shared: tuple[Run, Networks], units: Sequence[Unit]) -> Arrays:
    return predict(*shared, units)


def _decoding(shared: tuple[Run, Networks], units: Sequence[Unit]) -> Arrays:
    return decode(*shared, units)

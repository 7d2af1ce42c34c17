"""A segmentation: Plan → Predict → Decode → Join → Publish → Clean.

Each step may be repeated at any time: it writes only what it computes from inputs that do not change. Tasks with a
record are not done again. How tasks are spread over workers is an argument; this module knows no Ray.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import numpy as np

from cellscale.errors import CellscaleError, ExistsError, InputError, RunError
from cellscale.folders import Folder
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
from cellscale.segmentation.decode import decode
from cellscale.segmentation.join import counted, join, join_strips
from cellscale.segmentation.plan import Run, Step, Unit, differences
from cellscale.segmentation.predict import predict, survey
from cellscale.segmentation.publish import Publication, layer_metadata, publish, tables
from cellscale.segmentation.records import Arrays, get, put

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


@dataclass(kw_only=True)
class Report:
    """What a run did."""

    reused: dict[str, int] = field(default_factory=dict)
    """Tasks of each step whose records were already there."""
    tasks: dict[str, int] = field(default_factory=dict)
    """Tasks of each step."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Time of each step, s."""
    cells: int = 0
    flagged: dict[str, int] = field(default_factory=dict)
    """Cells by flag, for methods that flag them: `cut` at their extent, `unconverged`."""
    reached: dict[str, int] = field(default_factory=dict)
    """Limits of the networks, for methods that propose candidates: how often each was reached over all windows."""
    missing_chunks: int = 0
    """Chunks absent in the source, read as its fill value."""


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


@dataclass(frozen=True, kw_only=True)
class Steps:
    """Carries out steps and keeps the report."""

    run: Run
    spread: Spread
    report: Report
    on_progress: Callable[[str, int, int], None]

    def do(self, step: Step, work: Work, argument: Any, *, gpu: bool = False) -> None:
        """Do the tasks of a step that have no record; quarantine the units that fail alone, too.

        Raises
        ------
        RunError
            Naming every unit that failed, with its reason.
        """
        began = time.perf_counter()
        todo = self._todo(step)
        self.report.tasks[step.name], self.report.reused[step.name] = len(step), len(step) - len(todo)
        if len(todo) < len(step):
            log.info("%s: %d of %d tasks reused", step.name, len(step) - len(todo), len(step))
        shared = _Shared(run=self.run, work=work, argument=argument)
        failed = self._try(shared, [(step.record_name(task), step.units(task)) for task in todo], step.name, gpu)
        alone = [(f"{name}-{i:05d}", [unit]) for (name, units), _ in failed for i, unit in enumerate(units)]
        if alone:
            log.warning("%s: %d tasks failed; their %d units are tried one by one", step.name, len(failed), len(alone))
            failed = self._try(shared, alone, step.name, gpu)
        self.report.seconds[step.name] = time.perf_counter() - began
        if failed:
            raise RunError(self._quarantine(step, failed))

    def _todo(self, step: Step) -> list[int]:
        done = self.run.scratch.names(step.name)
        return [
            task
            for task in range(len(step))
            if step.record_name(task).split("/")[1] not in done
            and not all(step.record_name(task, i).split("/")[1] in done for i in range(len(step.units(task))))
        ]

    def _try(self, shared: _Shared, tasks: list[Task], name: str, gpu: bool) -> list[tuple[Task, Exception]]:
        failed = []
        self.on_progress(name, 0, len(tasks))
        for done, (task, result) in enumerate(self.spread(_perform, shared, tasks, gpu=gpu), 1):
            if isinstance(result, Exception):
                failed.append((task, result))
            self.on_progress(name, done, len(tasks))
        return failed

    def _quarantine(self, step: Step, failed: list[tuple[Task, Exception]]) -> str:
        kind = {"predict": "window", "decode": "tile"}.get(step.name, "shard")
        lines = []
        for (_, units), error in failed:
            plane, *rest = units[0]
            t, z = self.run.planes[plane]
            where = f"frame {t}, slice {z}" + "".join(f", {kind} {i}" for i in rest)
            lines.append(f"{where}: {type(error).__name__}: {error}")
        return f"{step.name}: {len(lines)} unit(s) quarantined, nothing was published. " + " | ".join(lines)


def _resume_or_start(run: Run, target: Target) -> str:
    """Refuse what would be overwritten, keep what fits the plan, and sign the run; returns the owner's token."""
    check_target(run.image, target.name, output=target.output, version=target.version)
    old = run.scratch.read_json("plan.json")
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
            f"{target.store} already has a label layer {target.name!r}. Choose another --name, or use --overwrite."
        )
    if old is None:
        _drop(run)
        run.scratch.write_json("plan.json", {"digest": run.digest, "description": run.description})
    token = uuid.uuid4().hex
    run.scratch.write_json("owner.json", token)
    return token


def _other_layer(run: Run, target: Target, *, unfinished: bool) -> bool:
    """Whether a layer of the name is published, and not by this very run before it could clean up."""
    options = run.image.storage_options
    if target.name not in list_labels(target.store, storage_options=options):
        return False
    published = open_labels(target.store, target.name, storage_options=options)
    return not (unfinished and published.metadata.get("digest") == run.digest)


def _survey(steps: Steps) -> None:
    """Read all frames once; a frame that cannot be read ends the run before anything is made."""
    try:
        steps.do(steps.run.survey, survey, steps.run)
    except RunError:
        _drop(steps.run)
        raise
    run = steps.run
    missing: dict[int, int] = {}
    for name in run.scratch.names("survey"):
        record = get(run.scratch, f"survey/{name}")
        missing |= dict(zip(record["units"][:, 0].tolist(), record["missing"].tolist(), strict=True))
    steps.report.missing_chunks = sum(missing.values())
    if steps.report.missing_chunks:
        log.warning(
            "%d chunks are missing in %s and read as its fill value", steps.report.missing_chunks, run.image.url
        )


def _staged(run: Run, target: Target, model: dict[str, Any]) -> LabelLayer:
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
        planes_z=1 if run.settings.z == "max" else run.image.size("z"),
        metadata=layer_metadata(run, model),
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
    on_progress: Callable[[str, int, int], None] = lambda step, done, total: None,
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
        If units were quarantined; nothing is published then.
    """
    token = _resume_or_start(run, target)
    report = Report()
    steps = Steps(run=run, spread=spread, report=report, on_progress=on_progress)
    _survey(steps)
    if not run.fused:
        steps.do(run.predict, _predicting, (run, networks), gpu=True)
    steps.do(run.decode, _decoding, (run, networks if run.fused else {}), gpu=run.fused)
    steps.do(run.strips, join_strips, run)
    steps.do(run.join, join, run)
    layer = _staged(run, target, model or {})
    for level in range(len(layer.levels)):
        step = run.publish(level, len(layer.shards(level)))
        steps.do(step, publish, Publication(run=run, layer=layer, level=level))
    steps.do(run.tables, tables, Publication(run=run, layer=layer, level=0))
    report.cells, report.flagged = counted(run)
    if any(report.flagged.values()):
        log.warning("of %d cells: %s", report.cells, report.flagged)
    report.reached = _reached(run)
    if report.reached:
        log.warning("limits of the networks were reached, cells may be missing: %s", report.reached)
    publish_labels(layer)
    if run.scratch.read_json("owner.json") == token:
        _drop(run)
    return report


def _drop(run: Run) -> None:
    """Delete a run's folder, its plan first: without a plan, records do not count."""
    run.scratch.delete("plan.json")
    run.scratch.remove()


def _forget(run: Run) -> None:
    """Delete the records of what was published into arrays that are no longer there."""
    for step in run.scratch.names():
        if step == "tables" or step.startswith("publish-"):
            Folder(url=f"{run.scratch.url}/{step}", storage_options=run.scratch.storage_options).remove()


def _predicting(shared: tuple[Run, Networks], units: Sequence[Unit]) -> Arrays:
    return predict(*shared, units)


def _decoding(shared: tuple[Run, Networks], units: Sequence[Unit]) -> Arrays:
    return decode(*shared, units)


def _reached(run: Run) -> dict[str, int]:
    """How often each limit of the networks was reached, from the records of the predictions."""
    found: Counter[str] = Counter()
    step = run.decode.name if run.fused else run.predict.name
    for name in run.scratch.names(step):
        record = get(run.scratch, f"{step}/{name}")
        found += Counter({key[8:]: int(count) for key, count in record.items() if key.startswith("reached.")})
    return dict(found)

"""A segmentation: Plan → Predict → Decode → Join → Publish → Clean.

Each step may be repeated at any time: its results depend only on inputs that do not change. Tasks with a
record are not repeated. The executor that runs tasks is an argument; this module does not know Ray.
"""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from cellscale.errors import CellscaleError, OvertakenError, RunError
from cellscale.methods.inference import fuse_batchnorm
from cellscale.methods.protocol import Networks
from cellscale.ngff.labels import LabelLayer, publish_labels
from cellscale.ngff.metadata import entries_of
from cellscale.progress import Progress, silent
from cellscale.segmentation import failures, placeholders, verification
from cellscale.segmentation.decode import decode
from cellscale.segmentation.executor import Executor, one_by_one
from cellscale.segmentation.intensity_statistics import measure_planes, missing_chunks
from cellscale.segmentation.join import cells_before, counted, join, join_row_groups
from cellscale.segmentation.ownership import stored_plan, take_ownership
from cellscale.segmentation.plan import Run, with_tasks_of
from cellscale.segmentation.predict import predict, reached_in_record
from cellscale.segmentation.publish import Publication, layer_metadata, publish, tables, volume_tables
from cellscale.segmentation.records import Arrays, Made
from cellscale.segmentation.report import DRIVER, Report, stored_report, write_copy, write_report
from cellscale.segmentation.seam_quality import layer_quality, seams_in_record
from cellscale.segmentation.staging import discard, staged
from cellscale.segmentation.steps import Steps
from cellscale.segmentation.target import Target, found_at
from cellscale.segmentation.volumes import Slices, Volumes, count_slices, link_slices, shards_of
from cellscale.segmentation.work_items import WorkItem
from cellscale.storage.traffic import Traffic, counting
from cellscale.tiling.row_groups import Rows

log = logging.getLogger("cellscale")


def _measure_intensities(steps: Steps[Run], target: Target) -> None:
    """Read all frames once; unreadable blocks end the run before anything is made, unless failed tiles are allowed."""
    run, report = steps.run, steps.report
    try:
        # The watch ends before the folder is deleted: that is not another driver's doing.
        with steps.owner.translate_errors():
            missing = steps.do(
                run.intensity_statistics,
                measure_planes,
                run,
                instead=placeholders.measure_readable,
                summary=missing_chunks,
            )
        skipped = failures.skipped_blocks(run, steps.records[run.intensity_statistics.name])
        if skipped and not target.allow_failed_tiles:
            report.failed_tiles += failures.recorded(
                run, run.intensity_statistics, steps.records[run.intensity_statistics.name]
            )
            raise RunError(failures.unreadable(run, skipped, report.failed_tiles, steps.full_report))
    except RunError:
        steps.owner.finish()
        raise
    report.unreadable_blocks = [failures.Region.of(run, plane, box) for plane, box in skipped]
    report.missing_chunks = sum(missing)
    if report.missing_chunks:
        log.warning("%d chunks are missing in %s and read as its fill value", report.missing_chunks, run.image.url)


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
    """Execute a planned run; call it again to resume an interrupted run.

    Parameters
    ----------
    run : Run
        Result of `plan`.
    networks : mapping of Module
        The trained networks.
    target : Target
        The layer to write.
    executor : callable
        Runs the tasks.
    on_progress : callable
        Called with a step's name, the number of finished tasks and their total.
    on_status : callable
        Called before it with the step's name and its rate: work items done, Mpx/s, work items tried again.
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
        If there is an unfinished run with other settings.
    StoreError
        If the report's folder cannot be written; nothing is computed then.
    OvertakenError
        If another driver takes over the run and continues it.
    RunError
        If work items failed; nothing is published then, unless the target allows failed tiles.
    """
    steps_of = partial(Steps[Run], executor=executor, on_progress=on_progress, on_status=on_status)
    with counting() as traffic:
        report = _execute(run, networks, target, steps_of, model or {}, traffic)
        report.add_io(DRIVER, traffic.taken())
    return report


def _execute(
    run: Run,
    networks: Networks,
    target: Target,
    steps_of: Callable[..., Steps[Run]],
    model: dict[str, Any],
    traffic: Traffic,
) -> Report:
    """Execute a planned run to its end; `traffic` counts the requests of the driver."""
    attempt, finished, attempts = found_at(run, target)
    if attempt is not None:
        run = _as_begun(run)
    if target.report:
        target.report.check_writable()
    owner = take_ownership(run, allow_failed_tiles=target.allow_failed_tiles, attempt=attempt, attempts=attempts)
    if finished is not None:
        owner.finish()
        return stored_report(finished)
    run, report = dataclasses.replace(run, scratch=owner.scratch), Report()
    steps = steps_of(run=run, place=failures.place_of, owner=owner, report=report, begun=attempt is not None)
    if target.report:
        steps = dataclasses.replace(steps, full_report=f"{target.report.url}/report.json lists all of them.")
    try:
        _measure_intensities(steps, target)
        with owner.translate_errors():
            layer = _run(steps, networks, target, model)
    except OvertakenError:
        if owner.leave():
            discard(run, target, owner.attempt)
        raise
    except CellscaleError as error:
        if target.report:
            report.add_io(DRIVER, traffic.taken())
            write_copy(run, report, target.report, layer=target.layer, error=str(error))
        raise
    report.add_io(DRIVER, traffic.taken())
    write_report(run, report, layer)
    if target.report:
        write_copy(run, report, target.report, layer=layer.url)
    publish_labels(layer, overwrite=target.overwrite)
    layer.store.folder.tidy()
    for dropped in owner.dropped:
        discard(run, target, dropped)
    owner.finish()
    return report


def _as_begun(run: Run) -> Run:
    """The run with the tasks that it began with, whose records are there."""
    old = stored_plan(run.scratch)
    return run if old is None else with_tasks_of(run, entries_of(old["description"].get("settings")).get("task_px"))


def _run(steps: Steps[Run], networks: Networks, target: Target, model: dict[str, Any]) -> LabelLayer:
    """Execute all steps after the intensities, up to a complete, verified layer that is not yet listed."""
    run, report, networks = steps.run, steps.report, fuse_batchnorm(networks)
    reached: list[Counter[str]] = []
    if not run.fused:
        instead = placeholders.no_maps if target.allow_failed_tiles else None
        reached = steps.do(
            run.predict, _predicting, (run, networks), gpu=True, instead=instead, summary=reached_in_record
        )
        report.failed_tiles += failures.recorded(run, run.predict, steps.records[run.predict.name])
    instead = placeholders.no_fragments if target.allow_failed_tiles else None
    shared = (run, networks if run.fused else {})
    reached += steps.do(run.decode, _decoding, shared, gpu=run.fused, instead=instead, summary=reached_in_record)
    report.failed_regions = failures.recorded(run, run.decode, steps.records[run.decode.name])
    report.failed_tiles += report.failed_regions
    steps.do(run.join_row_groups, join_row_groups, run)
    joined = steps.do(run.join, join, run, summary=dict)
    report.cells, report.flagged = counted(joined)
    volumes = run.settings.z_mode == "linked"
    earlier = cells_before(run, joined, through_frames=run.settings.unique_ids and not volumes)
    linked = _linked(steps, earlier) if volumes else None
    report.reached = dict(sum(reached, Counter[str]()))
    if run.method.whole == "tiled":
        log.warning("with its settings, labels of %s depend on the tiles; the layer's metadata say so", run.method.name)
    if report.reached:
        log.warning("limits of the networks were reached, cells may be missing: %s", report.reached)
    # Before the place is claimed: an overtaken driver must not take it from the owner.
    steps.owner.check()
    planes_z = 1 if run.settings.z_mode == "max_projection" else run.image.size("z")
    metadata = layer_metadata(run, model, report.failed_regions)
    layer = staged(run, target, steps.owner.attempt, metadata, planes_z, begun=steps.begun)
    seams = _write_layer(steps, Publication(run=run, layer=layer, level=0, earlier=earlier, volumes=linked))
    report.seams = layer_quality(seams)
    return layer


def _linked(steps: Steps[Run], earlier: Rows) -> Volumes:
    """Join the objects of slices to 3-D objects, and count these."""
    run = steps.run
    steps.do(run.slice_tables(len(shards_of(run))), count_slices, Slices(run=run, earlier=earlier))
    volumes = Volumes.of(run, steps.do(run.slice_links, link_slices, run, summary=dict))
    steps.report.cells = volumes.count
    return volumes


def _write_layer(steps: Steps[Run], finest: Publication) -> list[Arrays]:
    """Write all levels and the object table, verify them against the records, and return the counts of seams."""
    run, layer = steps.run, finest.layer
    found = steps.do(run.publish(0), publish, finest, summary=_published)
    written = {0: [counts for counts, _ in found]}
    for level in range(layer.levels_together, len(layer.levels)):
        publication = dataclasses.replace(finest, level=level)
        written[level] = steps.do(run.publish(level), publish, publication, summary=verification.Written.of)
    if finest.volumes is None:
        rows = steps.do(run.tables, tables, finest, summary=verification.Written.of)
        planes = run.planes
    else:
        rows = steps.do(run.volume_tables, volume_tables, finest, summary=verification.Written.of)
        planes = tuple((t, 0) for t in run.frames)
        written[0] = [dataclasses.replace(task, planes=task.planes // run.slices) for task in written[0]]
    verification.check_cells(planes, layer, written[0], rows)
    verification.check_before_publication(steps.owner, layer, written, rows, run.image)
    return [seams for _, seams in found]


def _published(record: Arrays) -> tuple[verification.Written, Arrays]:
    """Summary of the record of a task that has published the finest level: counts of its objects and of seams."""
    return verification.Written.of(record), seams_in_record(record)


def _predicting(shared: tuple[Run, Networks], items: Sequence[WorkItem]) -> Made:
    return predict(*shared, items)


def _decoding(shared: tuple[Run, Networks], items: Sequence[WorkItem]) -> Made:
    return decode(*shared, items)

"""A tracking run: Count → Link → Close gaps → Find divisions → Number → Publish → Clean.

Each step may be repeated at any time; tasks with a record are not done again. What it links depends on two frames at a
time, so that tracks are equal for any number of frames in a task, any number of workers, and after any crash.
"""

from __future__ import annotations

import dataclasses

from cellscale.errors import OvertakenError
from cellscale.ngff.labels import LabelLayer, publish_labels
from cellscale.progress import Progress, silent
from cellscale.segmentation import verification
from cellscale.segmentation.executor import Executor, one_by_one
from cellscale.segmentation.ownership import take_ownership
from cellscale.segmentation.records import Arrays, get
from cellscale.segmentation.report import Report
from cellscale.segmentation.staging import discard, staged
from cellscale.segmentation.steps import Steps
from cellscale.segmentation.target import Target, found_at
from cellscale.tracking.plan import TrackRun, place_of
from cellscale.tracking.publish import TRACKS, Publication, number, publish, tables
from cellscale.tracking.report import Counts, stored_report, write_report
from cellscale.tracking.tables import close_gaps, count_objects, find_divisions, link


def track(
    run: TrackRun, target: Target, *, executor: Executor = one_by_one, on_progress: Progress = silent
) -> tuple[Counts, Report]:
    """Execute a planned tracking run; call it again to resume an interrupted run.

    Parameters
    ----------
    run : TrackRun
        Result of `plan_tracks`.
    target : Target
        The layer to write.
    executor : callable
        Runs the tasks.
    on_progress : callable
        Called with a step's name, tasks done and tasks in all.

    Returns
    -------
    tuple
        Counts of the run, and its report: tasks, reuse and times.

    Raises
    ------
    ExistsError
        If the layer exists and `overwrite` is not set.
    InputError
        If there is an unfinished run with other settings.
    OvertakenError
        If another driver takes over the run.
    RunError
        If work items failed, or there are more tracks than uint32 has labels; nothing is published then.
    """
    attempt, finished, attempts = found_at(run, target)
    owner = take_ownership(run, allow_failed_tiles=False, attempt=attempt, attempts=attempts)
    if finished is not None:
        owner.finish()
        return stored_report(finished)
    run, report = dataclasses.replace(run, scratch=owner.scratch), Report()
    steps = Steps(
        run=run,
        place=place_of,
        owner=owner,
        executor=executor,
        report=report,
        on_progress=on_progress,
        full_report="Only these are named.",
        begun=attempt is not None,
    )
    try:
        with owner.translate_errors():
            layer, counts = _run(steps, target)
    except OvertakenError:
        if owner.leave():
            discard(run, target, owner.attempt)
        raise
    write_report(layer, run, counts, report, get(run.scratch, TRACKS))
    publish_labels(layer, overwrite=target.overwrite)
    layer.store.folder.tidy()
    for dropped in owner.dropped:
        discard(run, target, dropped)
    owner.finish()
    return counts, report


def _run(steps: Steps[TrackRun], target: Target) -> tuple[LabelLayer, Counts]:
    """Execute all steps up to a complete, verified layer that is not yet listed."""
    run = steps.run
    steps.do(run.objects, count_objects, run)
    steps.do(run.links, link, run)
    for gap in range(1, run.max_gap + 1):
        steps.do(run.gaps(gap), close_gaps, (run, gap))
    steps.do(run.divisions, find_divisions, run)
    (found,) = steps.do(run.numbers, number, run, summary=_counted)
    steps.owner.check()
    failed = {key: run.source.metadata[key] for key in ("failed_regions", "frames") if key in run.source.metadata}
    metadata = {"digest": run.digest, "tracks_of": run.source.name, "rules": dataclasses.asdict(run.rules), **failed}
    layer = staged(run, target, steps.owner.attempt, metadata, run.source.size("z"), begun=steps.begun)
    written = {}
    for level in (0, *range(layer.levels_together, len(layer.levels))):
        publication = Publication(run=run, layer=layer, level=level)
        step = run.publish(level, len(layer.shards(level)))
        written[level] = steps.do(step, publish, publication, summary=verification.Written.of)
    rows = steps.do(run.tables, tables, Publication(run=run, layer=layer), summary=verification.Written.of)
    verification.check_cells(run.planes, layer, written[0], rows)
    verification.check_before_publication(steps.owner, layer, written, rows, run.image, run.source)
    return layer, found


def _counted(record: Arrays) -> Counts:
    return Counts(**{field.name: int(record[field.name][0]) for field in dataclasses.fields(Counts)})

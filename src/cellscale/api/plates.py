"""Segment, score and measure all images of a plate or another collection, as one job.

Every image is a separate run, with its own records, report and layer, so that a failing image stops no other one. An
image whose layer was made from the same image, model and settings is done: repeating the command resumes the job.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal, Unpack

import pyarrow as pa

from cellscale import metrics
from cellscale.api.evaluation import count_layers
from cellscale.api.objects import measure, parts, write_csv
from cellscale.api.request import Job, SegmentationKeywords, SegmentationOptions, options_from, segmentation_job
from cellscale.api.segmentation import SegmentationResult
from cellscale.engine.ray_map import cluster
from cellscale.errors import CellscaleError, RunError
from cellscale.methods.protocol import Networks
from cellscale.models.model import Model, load_model
from cellscale.ngff.frame_ranges import Frames, chosen_frames
from cellscale.ngff.labels import list_labels, open_labels
from cellscale.ngff.plates import plate_images
from cellscale.progress import Progress, silent
from cellscale.redaction import redacted_values
from cellscale.segmentation.executor import Executor, Serial
from cellscale.segmentation.ownership import stored_plan
from cellscale.segmentation.plan import Run
from cellscale.segmentation.report import Report, stored_report
from cellscale.segmentation.run import segment as run_segmentation
from cellscale.segmentation.target import Target
from cellscale.storage.folder import Folder, check_file, write_file
from cellscale.storage.urls import address as full_url
from cellscale.storage.urls import check_apart
from cellscale.viewers.pictures import plate_of_counts

log = logging.getLogger("cellscale")


@dataclass(frozen=True, kw_only=True)
class PlateResult:
    """A finished segmentation of a plate or collection."""

    images: Mapping[str, SegmentationResult]
    """Result of each image by its name, such as A/1/0."""
    failed: Mapping[str, str]
    """Reason why nothing was published for an image, by its name."""
    reused: tuple[str, ...]
    """Names of the images that an earlier call of the same job had finished."""

    @property
    def cells(self) -> int:
        """Number of cells in all images."""
        return sum(result.cells for result in self.images.values())

    @property
    def failed_regions(self) -> int:
        """Number of tiles and frames that are background in published layers because they failed."""
        return sum(len(result.report.failed_regions) for result in self.images.values())

    def to_dict(self) -> dict[str, Any]:
        """Return the results as one dictionary of JSON's types."""
        images = {name: result.to_dict() for name, result in self.images.items()}
        return {"cells": self.cells, "images": images, "failed": dict(self.failed), "reused": list(self.reused)}


def segment_plate(
    plate: str,
    *,
    model: str | Model,
    wells: str | Sequence[str] | None = None,
    backend: Literal["ray", "serial"] = "ray",
    address: str | None = None,
    on_progress: Progress = silent,
    on_status: Callable[[str, str], None] = lambda step, message: None,
    **options: Unpack[SegmentationKeywords],
) -> PlateResult:
    """Segment all images of a plate or collection as one job, and write a label layer into each.

    All images are planned first. Those that have a single task each are given to workers whole; the tiles of
    larger images are, one image after the other. A layer that was made of the same image, model and settings is kept,
    also with `overwrite`.

    Parameters
    ----------
    plate : str
        URL of a plate, a well, or a collection in the bioformats2raw layout.
    model : str or Model
        As for `segment`.
    wells : str or sequence of str
        Wells as ROW/COLUMN, e.g. "A/1,B/*"; None: all.
    backend, address, on_progress, on_status
        As for `segment`; progress counts images.
    **options
        As for `segment`. `output` and `report` hold a folder for each image, named by it.

    Returns
    -------
    PlateResult
        The results by image, and the images that failed with their reasons.

    Raises
    ------
    CellscaleError
        For a plate or model that cannot be opened, or wells that do not exist.
    RunError
        If every image failed.

    Examples
    --------
    >>> import cellscale
    >>> result = cellscale.segment_plate("plate.zarr", model="model", wells="A/1", backend="serial")
    >>> list(result.images), result.failed
    (['A/1/0'], {})
    """
    chosen = options_from(options)
    storage = dict(chosen.storage_options or {})
    loaded = load_model(model, storage, trust=chosen.trust) if isinstance(model, str) else model
    about = {"method": loaded.method.name, "url": model if isinstance(model, str) else None}
    images = plate_images(plate, wells=wells, storage_options=storage)
    outcomes: dict[str, SegmentationResult | str] = {}
    jobs: dict[str, Job] = {}
    for number, (name, url) in enumerate(images.items(), 1):
        try:
            jobs[name] = segmentation_job(url, loaded, _named(chosen, name))
            found = _finished(jobs[name])
        except CellscaleError as error:
            outcomes[name] = _failed(name, error)
        else:
            outcomes |= {name: found} if found else {}
        on_progress("plan", number, len(images))
    reused = tuple(name for name, outcome in outcomes.items() if isinstance(outcome, SegmentationResult))
    todo = {name: job for name, job in jobs.items() if name not in outcomes}
    on_progress("images", len(outcomes), len(images))
    with nullcontext() if backend == "serial" or not todo else cluster(address):
        for name, outcome in _segmented(todo, about, backend, on_status):
            outcomes[name] = outcome if isinstance(outcome, SegmentationResult) else _failed(name, outcome)
            on_progress("images", len(outcomes), len(images))
    return _result({name: outcomes[name] for name in images}, reused, chosen)


def _named(options: SegmentationOptions, name: str) -> SegmentationOptions:
    """The options of one image: its own folder below the output and the folder of reports."""
    output, report = (url and f"{url.rstrip('/')}/{name}" for url in (options.output, options.report))
    return dataclasses.replace(options, output=output, report=report)


def _failed(name: str, error: Exception) -> str:
    """Log the failure of an image, and return its reason."""
    reason = str(error) if isinstance(error, CellscaleError) else f"{type(error).__name__}: {error}"
    log.warning("%s failed: %s", name, reason)
    return reason


def _finished(job: Job) -> SegmentationResult | None:
    """The result of an image whose layer the same run has completed before."""
    target, options = job.target, job.run.image.storage_options
    if target.name not in list_labels(target.store, storage_options=options) or stored_plan(job.run.scratch):
        return None
    layer = open_labels(target.store, target.name, storage_options=options)
    made = layer.metadata
    if made.get("digest") != job.run.digest or (made.get("failed_regions") and target.overwrite):
        return None
    return _published(job.run, target, stored_report(layer))


def _published(run: Run, target: Target, report: Report) -> SegmentationResult:
    return SegmentationResult(
        layer=target.layer,
        planes=len(run.planes),
        channels=run.channels,
        image_channels=run.image.size("c"),
        report=report,
    )


@dataclass(frozen=True, kw_only=True)
class _Work:
    """Parameters of the execution of runs."""

    networks: Networks
    about: dict[str, Any]
    executor: Executor


def _whole_image(work: _Work, task: tuple[str, Run, Target]) -> SegmentationResult:
    """Carry out a run; the function of a task that has a whole image."""
    return _carried_out(work, *task, silent)


def _carried_out(work: _Work, name: str, run: Run, target: Target, on_progress: Progress) -> SegmentationResult:
    log.debug("%s: %s", name, target.layer)
    report = run_segmentation(
        run, work.networks, target, executor=work.executor, model=work.about, on_progress=on_progress
    )
    return _published(run, target, report)


def _segmented(
    jobs: Mapping[str, Job], about: dict[str, Any], backend: str, on_status: Callable[[str, str], None]
) -> Iterator[tuple[str, Any]]:
    """Carry out the runs; yield the name of each image with its result or its error."""
    if not jobs:
        return
    first = next(iter(jobs.values()))
    engine, networks = first.engine, first.model.networks
    serial = _Work(
        networks=networks, about=about, executor=Serial(attempts=engine.attempts, backoff_s=engine.backoff_s)
    )
    tasks = [(name, job.run, job.target) for name, job in jobs.items()]
    # An image with one task has nothing to distribute: a worker does all its steps, and no step waits for the driver.
    whole = [task for task in tasks if backend == "ray" and len(task[1].decode) == 1]
    if whole:
        for (name, _, _), outcome in engine(_whole_image, serial, whole, gpu=True):
            yield name, outcome
    work = serial if backend == "serial" else dataclasses.replace(serial, executor=engine)
    for name, run, target in (task for task in tasks if backend == "serial" or len(task[1].decode) > 1):
        try:
            yield name, _carried_out(work, name, run, target, _note(name, on_status))
        except (CellscaleError, OSError) as error:
            yield name, error


def _note(name: str, on_status: Callable[[str, str], None]) -> Progress:
    """Progress of one image as a status message of the job."""
    return lambda step, done, total: on_status("images", f"{name}: {step} {done} of {total}")


def _result(
    outcomes: Mapping[str, SegmentationResult | str], reused: tuple[str, ...], options: SegmentationOptions
) -> PlateResult:
    """Gather the outcomes, and write them into the folder of reports.

    Raises
    ------
    RunError
        If there is no result.
    """
    results = {name: outcome for name, outcome in outcomes.items() if isinstance(outcome, SegmentationResult)}
    failed = {name: outcome for name, outcome in outcomes.items() if isinstance(outcome, str)}
    found = PlateResult(images=results, failed=failed, reused=reused)
    if options.report:
        folder = Folder(url=full_url(options.report), storage_options=dict(options.storage_options or {}))
        folder.write_json("plate.json", redacted_values(found.to_dict()))
    if not results:
        name, reason = next(iter(failed.items()))
        raise RunError(f"All {len(failed)} images failed; {name}: {reason}")
    return found


def evaluate_plate(
    plate: str,
    *,
    wells: str | Sequence[str] | None = None,
    layer: str = "cells",
    ground_truth: str = "truth",
    frames: Frames = None,
    ignore_label: int = 0,
    storage_options: Mapping[str, Any] | None = None,
    on_progress: Progress = silent,
) -> dict[str, Any]:
    """Score a label layer of each image of a plate or collection.

    Parameters
    ----------
    plate, wells
        As for `segment_plate`.
    layer, ground_truth, frames, ignore_label, storage_options, on_progress
        As for `evaluate`.

    Returns
    -------
    dict
        Scores of all cells of all images, the number of frames, and under `images` the same for each image.

    Raises
    ------
    CellscaleError
        As `evaluate` does, for any of the images.
    """
    images = plate_images(plate, wells=wells, storage_options=storage_options)
    counted = {}
    for number, (name, url) in enumerate(images.items(), 1):
        found = open_labels(url, layer, storage_options=storage_options)
        true = open_labels(url, ground_truth, storage_options=storage_options)
        counted[name] = count_layers(
            found, true, chosen_frames(frames, found.size("t"), url), ignore_label=ignore_label
        )
        on_progress("evaluate", number, len(images))
    scores = {name: {"frames": count, **metrics.summary(sums)} for name, (count, sums) in counted.items()}
    whole = metrics.summary(metrics.total(sums for _, sums in counted.values()))
    return {"frames": sum(count for count, _ in counted.values()), **whole, "images": scores}


def measure_plate(
    plate: str, *, wells: str | Sequence[str] | None = None, on_progress: Progress = silent, **options: Any
) -> int:
    """Make the object table of a layer of each image; return the number of rows. `options` are those of `measure`."""
    images = plate_images(plate, wells=wells, storage_options=options.get("storage_options"))
    rows = 0
    for number, url in enumerate(images.values(), 1):
        rows += measure(url, **options)
        on_progress("measure", number, len(images))
    return rows


def export_plate_table(
    plate: str,
    output: str,
    *,
    wells: str | Sequence[str] | None = None,
    layer: str = "cells",
    storage_options: Mapping[str, Any] | None = None,
) -> int:
    """Write the object tables of all images as one CSV file, whose first column `image` is the name of the image.

    Parameters
    ----------
    plate, wells
        As for `segment_plate`.
    output, layer, storage_options
        As for `export_table`.

    Returns
    -------
    int
        Number of rows.

    Raises
    ------
    CellscaleError
        As `export_table` does, for any of the images; also if their tables differ in columns.
    """
    check_apart(plate, output)
    images = plate_images(plate, wells=wells, storage_options=storage_options)
    tables = (
        part.add_column(0, "image", pa.array([name] * len(part), pa.string()))
        for name, url in images.items()
        for part in parts(open_labels(url, layer, storage_options=storage_options))
    )
    return write_csv(tables, output, storage_options)


def plate_overview(
    plate: str,
    *,
    output: str = "preview.png",
    layer: str = "cells",
    wells: str | Sequence[str] | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> dict[str, int]:
    """Draw the number of cells of each well of a plate, rows by columns, as one PNG.

    Parameters
    ----------
    plate, wells, storage_options
        As for `segment_plate`.
    output : str
        The PNG, any fsspec URL.
    layer : str
        Layer whose cells are counted, by its object tables.

    Returns
    -------
    dict of str to int
        Number of cells in all frames and fields of each well; of each image in a collection that is not a plate.

    Raises
    ------
    CellscaleError
        For images without the layer or its object table, or a picture that cannot be written.
    """
    check_file(output, [plate], storage_options)
    counts: dict[str, int] = {}
    for name, url in plate_images(plate, wells=wells, storage_options=storage_options).items():
        well = name.rpartition("/")[0] or name
        found = sum(len(part) for part in parts(open_labels(url, layer, storage_options=storage_options)))
        counts[well] = counts.get(well, 0) + found
    write_file(output, plate_of_counts(counts, f"cells in {layer!r}"), storage_options)
    return counts

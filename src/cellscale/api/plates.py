"""Segment all images of a plate or another collection, as one job.

Every image is a separate run, with its own records, report and layer, so that a failing image stops no other one. An
image whose layer was made from the same image, model and settings is done: repeating the command resumes the job.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, Unpack

from cellscale.api.files import import_one
from cellscale.api.request import Job, SegmentationKeywords, SegmentationOptions, segmentation_job, segmentation_options
from cellscale.api.segmentation import SegmentationResult
from cellscale.engine.ray_map import cluster, warm_up
from cellscale.errors import CellscaleError, RunError
from cellscale.methods.protocol import Networks
from cellscale.models.model import Model, load_model
from cellscale.ngff.labels import list_labels, open_labels
from cellscale.ngff.plates import plate_images
from cellscale.progress import Progress, silent
from cellscale.redaction import redacted_values
from cellscale.segmentation.executor import Executor, Serial
from cellscale.segmentation.ownership import stored_plan
from cellscale.segmentation.plan import Run, for_one_worker
from cellscale.segmentation.report import stored_report
from cellscale.segmentation.run import segment as run_segmentation
from cellscale.segmentation.target import Target
from cellscale.settings.keywords import check_backend
from cellscale.storage.folder import Folder
from cellscale.storage.urls import Location, url_of
from cellscale.storage.urls import address as full_url

log = logging.getLogger("cellscale")
T = TypeVar("T")
R = TypeVar("R")


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
    plate: Location,
    *,
    model: Location | Model,
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
    plate : str or path
        URL of a plate, a well, or a collection in the bioformats2raw layout; or a file or folder that `import_images`
        reads, which is imported as the image or collection `output` first.
    model : str, path or Model
        As for `segment`.
    wells : str or sequence of str
        Wells as ROW/COLUMN, e.g. "A/1,B/*"; None: all.
    backend, address, on_progress, on_status
        As for `segment`; progress counts images.
    **options
        As for `segment`. For a plate, `output` and `report` are folders with a folder for each image, named by it; for
        an import, `output` is the new image.

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
    check_backend(backend)
    chosen = segmentation_options(options)
    storage = dict(chosen.storage_options or {})
    loaded = model if isinstance(model, Model) else load_model(model, storage, trust=chosen.trust)
    about = {"method": loaded.method.name, "url": None if isinstance(model, Model) else url_of(model)}
    plate, chosen = import_one(plate, chosen, collection=True, on_progress=on_progress)
    images = plate_images(plate, wells=wells, storage_options=storage)
    outcomes: dict[str, SegmentationResult | str] = {}
    jobs = _for_each(
        images, lambda name, url: segmentation_job(url, loaded, _named(chosen, name)), outcomes, on_progress
    )
    with nullcontext() if backend == "serial" or not jobs else cluster(address):
        if backend == "ray" and jobs:
            first = next(iter(jobs.values()))
            warm_up(len(jobs), first.engine.cpus)
            place = first.place()
            jobs = {name: job.placed(place) for name, job in jobs.items()}
        checked = _for_each(jobs, lambda name, job: _earlier_result(job), outcomes)
        finished = {name: found for name, found in checked.items() if found}
        todo = {name: job for name, job in jobs.items() if name not in finished and name not in outcomes}
        outcomes |= finished
        on_progress("images", len(outcomes), len(images))
        for name, outcome in _segmented(todo, about, backend, on_status):
            outcomes[name] = outcome if isinstance(outcome, SegmentationResult) else _failed(name, outcome)
            on_progress("images", len(outcomes), len(images))
    return _result({name: outcomes[name] for name in images}, tuple(finished), chosen)


def _for_each(
    values: Mapping[str, T],
    work: Callable[[str, T], R],
    outcomes: dict[str, SegmentationResult | str],
    on_progress: Progress = silent,
) -> dict[str, R]:
    """Do something for each image; those where it fails have the reason among the outcomes and no result."""
    found = {}
    for number, (name, value) in enumerate(values.items(), 1):
        try:
            found[name] = work(name, value)
        except CellscaleError as error:
            outcomes[name] = _failed(name, error)
        on_progress("plan", number, len(values))
    return found


def _named(options: SegmentationOptions, name: str) -> SegmentationOptions:
    """The options of one image: its own folder below the output and the folder of reports."""
    output, report = (url and f"{url.rstrip('/')}/{name}" for url in (options.output, options.report))
    return dataclasses.replace(options, output=output, report=report)


def _failed(name: str, error: Exception) -> str:
    """Log the failure of an image, and return its reason."""
    reason = str(error) if isinstance(error, CellscaleError) else f"{type(error).__name__}: {error}"
    log.warning("%s failed: %s", name, reason)
    return reason


def _earlier_result(job: Job) -> SegmentationResult | None:
    """The result of an image whose layer the same run has completed before."""
    target, options = job.target, job.run.image.storage_options
    if target.name not in list_labels(target.store, storage_options=options) or stored_plan(job.run.scratch):
        return None
    layer = open_labels(target.store, target.name, storage_options=options)
    made = layer.metadata
    if made.get("digest") != job.run.digest or (made.get("failed_regions") and target.overwrite):
        return None
    return SegmentationResult.of(job.run, target, stored_report(layer))


@dataclass(frozen=True, kw_only=True)
class _Work:
    """Parameters of the execution of runs."""

    networks: Networks
    about: dict[str, Any]
    executor: Executor


def _whole_image(work: _Work, task: tuple[str, Run, Target]) -> SegmentationResult:
    """Carry out a run; the function of a task that has a whole image."""
    return _run(work, *task, silent)


def _run(work: _Work, name: str, run: Run, target: Target, on_progress: Progress) -> SegmentationResult:
    log.debug("%s: %s", name, target.layer)
    report = run_segmentation(
        run, work.networks, target, executor=work.executor, model=work.about, on_progress=on_progress
    )
    return SegmentationResult.of(run, target, report)


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
    alone = backend == "serial"
    tasks = [(name, for_one_worker(job.run) if alone else job.run, job.target) for name, job in jobs.items()]
    # An image with one task has nothing to distribute: a worker does all its steps, and no step waits for the driver.
    whole = [task for task in tasks if backend == "ray" and len(task[1].decode) == 1]
    if whole:
        for (name, _, _), outcome in engine(_whole_image, serial, whole, gpu=True):
            yield name, outcome
    work = serial if backend == "serial" else dataclasses.replace(serial, executor=engine)
    for name, run, target in (task for task in tasks if backend == "serial" or len(task[1].decode) > 1):
        try:
            yield name, _run(work, name, run, target, _note(name, on_status))
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
        If no image was segmented.
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

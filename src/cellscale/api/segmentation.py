"""Plan and execute a segmentation; upsample a layer to the full size of its image."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal, Self, Unpack

from cellscale.api.files import check_not_source, import_one
from cellscale.api.request import PlanKeywords, SegmentationKeywords, segmentation_job, segmentation_options
from cellscale.engine.ray_map import cluster, warm_up
from cellscale.models.model import Model, load_model
from cellscale.ngff import upsampling
from cellscale.ngff.image import open_image
from cellscale.ngff.labels import open_labels
from cellscale.progress import Progress, silent
from cellscale.segmentation.executor import Serial
from cellscale.segmentation.forecast import Forecast, forecast, steps_of
from cellscale.segmentation.plan import Run, for_one_worker
from cellscale.segmentation.report import Report
from cellscale.segmentation.run import segment as run_segmentation
from cellscale.segmentation.target import Target
from cellscale.settings.keywords import check_backend
from cellscale.storage.urls import Location, url_of

Options = Mapping[str, Any] | None
"""Options for fsspec, e.g. {"key": …, "endpoint_url": …}; for stores of several kinds {"s3": {…}, "https": {…}}."""


@dataclass(frozen=True, kw_only=True)
class SegmentationResult:
    """A finished segmentation: the published layer, and the report of the run."""

    layer: str
    """URL of the label layer."""
    planes: int
    """Number of segmented frames, or of slices of frames."""
    channels: tuple[int, ...]
    """Numbers of the channels that were used."""
    image_channels: int
    """Number of channels of the image."""
    report: Report
    """Tasks, times, cells and failures of the run."""

    @classmethod
    def of(cls, run: Run, target: Target, report: Report) -> Self:
        """The result of a run."""
        return cls(
            layer=target.layer,
            planes=len(run.planes),
            channels=run.channels,
            image_channels=run.image.size("c"),
            report=report,
        )

    @property
    def cells(self) -> int:
        """Number of cells in all planes."""
        return self.report.cells

    def to_dict(self) -> dict[str, Any]:
        """Return the result and its report as one flat dictionary of JSON's types."""
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "report"}
        return {**own, "channels": list(self.channels), **self.report.to_dict()}


def segment(
    image: Location,
    *,
    model: Location | Model,
    backend: Literal["ray", "serial"] = "ray",
    address: str | None = None,
    on_progress: Progress = silent,
    on_status: Callable[[str, str], None] = lambda step, message: None,
    **options: Unpack[SegmentationKeywords],
) -> SegmentationResult:
    """Segment an image by overlapping tiles on a Ray cluster and write an NGFF label layer.

    Parameters
    ----------
    image : str or path
        URL of an OME-Zarr image; or a file or folder that `import_images` reads, which is imported as the image
        `output` first. The same call again resumes.
    model : str, path or Model
        A trained model, the URL of its folder, or a name of `list_models()`.
    backend : {"ray", "serial"}
        Run on a Ray cluster, or in this process without Ray.
    address : str
        Address of a Ray cluster; None: RAY_ADDRESS, or a Ray started on this machine.
    on_progress : callable
        Called with step, done and total.
    on_status : callable
        Called with a step and a status message, such as its rate.
    **options
        layer, output, tile_size, frames, channels, z_mode, unique_ids, level, overwrite, allow_failed_tiles, report,
        ome_zarr_version, config, settings, trust, storage_options: as `cellscale.api.request.SegmentationOptions` says.

    Returns
    -------
    SegmentationResult
        The layer, the number of cells, and the report of the run.

    Raises
    ------
    CellscaleError
        For input that does not fit, an existing layer, or a run in which tiles failed and `allow_failed_tiles` was not
        set.

    Examples
    --------
    >>> import cellscale
    >>> result = cellscale.segment("movie.zarr", model="model", layer="cells", tile_size=64, backend="serial")
    >>> result.planes, result.cells > 0
    (3, True)
    """
    check_backend(backend)
    chosen = segmentation_options(options)
    loaded = model if isinstance(model, Model) else load_model(model, chosen.storage_options, trust=chosen.trust)
    image, chosen = import_one(image, chosen, on_progress=on_progress)
    job = segmentation_job(image, loaded, chosen)
    about = {"method": job.model.method.name, "url": None if isinstance(model, Model) else url_of(model)}
    with nullcontext() if backend == "serial" else cluster(address):
        if backend == "ray":
            warm_up(max(map(len, steps_of(job.run))), job.engine.cpus)
            job = job.placed(job.place())
        found = run_segmentation(
            for_one_worker(job.run) if backend == "serial" else job.run,
            job.model.networks,
            job.target,
            executor=Serial(attempts=job.engine.attempts, backoff_s=job.engine.backoff_s)
            if backend == "serial"
            else job.engine,
            on_progress=on_progress,
            on_status=on_status,
            model=about,
        )
    return SegmentationResult.of(job.run, job.target, found)


def plan(image: Location, *, model: Location | Model, **options: Unpack[PlanKeywords]) -> Forecast:
    """Estimate tasks, I/O, memory and run time of `segment` by running one window and one tile on this machine.

    Parameters
    ----------
    image : str or path
        URL of the image; nothing is written.
    model : str, path or Model
        A trained model, the URL of its folder, or a name of `list_models()`.
    **options
        layer, output, tile_size, frames, channels, z_mode, level, ome_zarr_version, config, settings, trust,
        storage_options: as for `segment`. With `trust`, the code of the model's method runs.

    Returns
    -------
    Forecast
        Counts, bytes, memory and times.

    Raises
    ------
    CellscaleError
        For input that does not fit, or a trial that fails.

    Examples
    --------
    >>> import cellscale
    >>> forecast = cellscale.plan("movie.zarr", model="model", tile_size=64)
    >>> forecast.tiles
    12
    """
    check_not_source(image, "plan")
    job = segmentation_job(image, model, segmentation_options(options))
    return forecast(job.run, job.model.networks)


def upsample_labels(
    image: Location,
    *,
    layer: str = "cells",
    new_layer: str | None = None,
    overwrite: bool = False,
    storage_options: Options = None,
    on_progress: Progress = silent,
) -> str:
    """Upsample a label layer that was segmented at a coarser pyramid level to full resolution.

    Parameters
    ----------
    image : str or path
        URL of the image, which holds the layer.
    layer : str
        Name of the layer.
    new_layer : str
        Name of the layer to write; None: the same with `-full`.
    overwrite : bool
        Replace an existing layer of this name, when the new one is complete.
    storage_options : mapping
        Options for fsspec.
    on_progress : callable
        Called with step, done and total.

    Returns
    -------
    str
        URL of the new layer.

    Raises
    ------
    CellscaleError
        For an image or layer that does not exist, or another layer of the new name.

    Examples
    --------
    >>> import cellscale
    >>> image = cellscale.synthesize("wide.zarr", shape=(1, 300, 600), cells=4)
    >>> result = cellscale.segment("wide.zarr", model="model", level=1, backend="serial")
    >>> cellscale.open_labels("wide.zarr", "cells").shape
    (1, 150, 300)
    >>> url = cellscale.upsample_labels("wide.zarr")
    >>> cellscale.open_labels("wide.zarr", "cells-full").shape
    (1, 300, 600)
    """
    image = url_of(image, "image")
    opened = open_image(image, storage_options=storage_options)
    coarse = open_labels(image, layer, storage_options=storage_options)
    name = new_layer or f"{layer}-full"
    return upsampling.upsample(opened, coarse, name, overwrite=overwrite, on_progress=on_progress).url

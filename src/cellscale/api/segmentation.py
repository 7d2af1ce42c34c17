"""Plan and carry out a segmentation; write a layer at the full size of its image."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any, Unpack

from cellscale.api.request import SegmentationOptions, segmentation_job
from cellscale.engine.ray_map import cluster
from cellscale.models.model import Model
from cellscale.ngff import upsampling
from cellscale.ngff.image import open_image
from cellscale.ngff.labels import open_labels
from cellscale.progress import Progress, silent
from cellscale.segmentation.forecast import forecast
from cellscale.segmentation.run import one_by_one
from cellscale.segmentation.run import segment as run_segmentation

log = logging.getLogger("cellscale")
Options = Mapping[str, Any] | None
"""Options for fsspec, e.g. {"key": …, "endpoint_url": …}; for stores of several kinds {"s3": {…}, "https": {…}}."""


def segment(
    image: str,
    *,
    model: str | Model,
    address: str | None = None,
    on_progress: Progress = silent,
    on_note: Callable[[str, str], None] = lambda step, note: None,
    **options: Unpack[SegmentationOptions],
) -> dict[str, Any]:
    """Segment an OME-Zarr image by overlapping tiles on a Ray cluster and write an NGFF label layer.

    Parameters
    ----------
    image : str
        URL of the image.
    model : str or Model
        A trained model, the URL of its folder, or a name of `models()`.
    address : str
        Of a Ray cluster; None: RAY_ADDRESS or this machine; "local": this process, without Ray.
    on_progress : callable
        Called with step, done and total.
    on_note : callable
        Called with a step and a line on its pace.
    **options
        What else may be said, each by its name:

        - name: of the label layer; "cells".
        - output: store to write to; None: the image's own.
        - tile: side of a tile, px, 1024; the labels do not depend on it.
        - frames: half-open range, (first, end); None: all.
        - channels: by number or name, in the model's order; None: the first ones.
        - z: "each" slice on its own, or "max", the maximum over all slices.
        - level: of the pyramid, 0; "auto": the one whose pixel size is nearest to the model's; labels have its size.
        - overwrite: replace an existing layer, and drop an unfinished run with other settings.
        - publish_holes: publish although tiles failed; they are background, named in metadata and report.
        - report: folder for a copy of the run's report; it gets one of a run that failed, too.
        - ngff: version of another output store, "0.4" or "0.5"; None: the image's.
        - config: TOML file with [segmentation] and [engine]; assignments: single settings as "key=value".
        - trust: modules outside of cellscale whose methods a model may name, see `load_model`.
        - storage_options: options for fsspec.

    Returns
    -------
    dict
        layer, cells, planes, channels (their numbers), image_channels (how many there are), tasks, reused and seconds
        by step, missing_chunks, holes, flagged … as in the report.

    Raises
    ------
    CellscaleError
        For input that does not fit, an existing layer, or a run with quarantined tiles whose holes nobody wanted.
    """
    job = segmentation_job(image, model, options)
    about = {"method": job.model.method.name, "url": model if isinstance(model, str) else None}
    with nullcontext() if address == "local" else cluster(address):
        found = run_segmentation(
            job.run,
            job.model.networks,
            job.target,
            spread=one_by_one if address == "local" else job.engine,
            on_progress=on_progress,
            on_note=on_note,
            model=about,
        )
    seen = {"channels": list(job.run.channels), "image_channels": job.run.image.size("c")}
    return {"layer": job.target.layer, "planes": len(job.run.planes), **seen, **dataclasses.asdict(found)}


def plan(
    image: str, *, model: str | Model, address: str | None = None, **options: Unpack[SegmentationOptions]
) -> dict[str, Any]:
    """Tell what `segment` would do: tasks, bytes, memory and time, from a trial of one window and one tile here.

    Parameters
    ----------
    image : str
        URL of the image; nothing is written.
    model : str or Model
        A trained model, the URL of its folder, or a name of `models()`.
    address : str
        Not used: the trial runs on this machine.
    **options
        As for `segment`.

    Returns
    -------
    dict
        planes, windows, tiles, tasks, bytes, halo_cost, peak_worker_bytes, worker_seconds, seconds_here, label_dtype …

    Raises
    ------
    CellscaleError
        For input that does not fit, or a trial that fails.
    """
    job = segmentation_job(image, model, options)
    return forecast(job.run, job.model.networks)


def upsample(
    image: str,
    *,
    labels: str = "cells",
    name: str | None = None,
    storage_options: Options = None,
    on_progress: Progress = silent,
) -> str:
    """Write a layer of the size of its image from one that was segmented at a coarser level.

    Parameters
    ----------
    image : str
        URL of the image, which holds the layer.
    labels : str
        Name of the layer.
    name : str
        Name of the new one; None: the same with `-full`.
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
    """
    opened = open_image(image, storage_options=storage_options)
    layer = open_labels(image, labels, storage_options=storage_options)
    return upsampling.upsample(opened, layer, name or f"{labels}-full", on_progress=on_progress).url

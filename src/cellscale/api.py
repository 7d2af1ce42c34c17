"""The Python API: train, plan, segment, evaluate."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, Unpack

from cellscale import evaluation
from cellscale.checkpoints import Model, load_model, shipped_models
from cellscale.config import names_of, read_config
from cellscale.engine.fan_out import FanOut, cluster
from cellscale.evaluation import Frames, chosen_frames
from cellscale.folders import address as address_of
from cellscale.job import SegmentationOptions, segmentation_job
from cellscale.methods import METHODS, load_method, settings_of
from cellscale.methods.settings import replaced
from cellscale.ngff import scales
from cellscale.ngff.images import open_image
from cellscale.ngff.labels import open_labels
from cellscale.segmentation.forecast import forecast
from cellscale.segmentation.run import one_by_one
from cellscale.segmentation.run import segment as run_segmentation
from cellscale.selection import spread, training_data, without
from cellscale.training.settings import TrainingSettings

log = logging.getLogger("cellscale")
Progress = Callable[[str, int, int], None]
"""Called with the name of a step, what is done of it and what there is in all."""
Options = Mapping[str, Any] | None
"""Options for fsspec, e.g. {"key": …, "endpoint_url": …}; for stores of several kinds {"s3": {…}, "https": {…}}."""


def _silent(step: str, done: int, total: int) -> None:
    """Show nothing."""


def methods() -> list[dict[str, Any]]:
    """List the methods: name, paper, summary, and settings by name with their defaults."""
    found = [load_method(name) for name in METHODS]
    return [{"name": m.name, "paper": m.paper, "summary": m.summary, "settings": settings_of(m)} for m in found]


def models() -> list[dict[str, Any]]:
    """List the models that come with cellscale: name, summary, method, pixel_size_um, bytes."""
    return shipped_models()


def train(
    method: str,
    data: Sequence[str],
    *,
    output: str,
    start: str | Model | None = None,
    labels_name: str = "truth",
    frames: Frames = None,
    validate_frames: Frames = None,
    train_frames: int | None = None,
    config: str | None = None,
    assignments: Sequence[str] = (),
    workers: int = 1,
    resume: bool = False,
    steps: int | None = None,
    address: str | None = None,
    overwrite: bool = False,
    storage_options: Options = None,
    on_progress: Progress = _silent,
) -> Model:
    """Train a method on OME-Zarr images with label layers, distributed by Ray.

    Parameters
    ----------
    method : str
        A name of `methods()`, or "package.module:NAME".
    data : sequence of str
        URLs of the images.
    output : str
        Folder of the model, any fsspec URL.
    start : str or Model
        Start from the weights and settings of this model of the same method: a folder, or a name of `models()`.
    labels_name : str
        Label layer to learn from.
    frames, validate_frames : tuple of int
        Half-open ranges; the latter are held out, and thresholds are tuned on them. Without `frames`, all others are
        learned from.
    train_frames : int
        Learn from so many of the annotated frames, evenly spread; None: from all.
    config : str
        TOML file with [method], [training] and [engine].
    assignments : sequence of str
        Single settings as "key=value".
    workers : int
        Training workers; 0: in this process, without Ray.
    resume : bool
        Continue an interrupted training.
    steps : int
        Number of steps, over whatever the settings say.
    address : str
        Of a Ray cluster; None: this machine.
    overwrite : bool
        Replace an existing model.
    storage_options : mapping
        Options for fsspec.
    on_progress : callable
        Called with step, done and total.

    Returns
    -------
    Model
        With fitted thresholds, as it was saved.

    Raises
    ------
    CellscaleError
        For unknown names and settings, data that do not fit, or an existing model.
    """
    # Ray Train and what draws the curves take seconds to import; the other commands do without.
    from cellscale.engine.trainer import train_method
    from cellscale.training.run import check_start

    begun = load_model(start, storage_options) if isinstance(start, str) else start
    chosen = begun.method if begun else load_method(method)
    fields = {"method": names_of(chosen), "training": names_of(TrainingSettings()), "engine": names_of(FanOut())}
    read = read_config(config, assignments, fields)
    chosen = replaced(chosen, read.section("method"))
    if begun:
        check_start(begun, load_method(method).name, chosen)
    over = {} if steps is None else {"steps": steps}
    settings = replaced(TrainingSettings(), {**read.section("training"), **over})
    engine = replaced(FanOut(), read.section("engine"))
    opened = [open_image(url, storage_options=storage_options) for url in data]
    names = (labels_name, chosen.channels)
    held_out = [training_data(image, *names, validate_frames) for image in opened if validate_frames]
    learn = without([training_data(image, *names, frames) for image in opened], held_out, asked=frames is not None)
    learn = learn if train_frames is None else spread(learn, train_frames)
    with cluster(address) if workers else nullcontext():
        return train_method(
            chosen,
            learn,
            held_out,
            output=address_of(output),
            settings=settings,
            start=begun,
            workers=workers,
            engine=engine,
            resume=resume,
            overwrite=overwrite,
            storage_options=storage_options,
            pixel_size_um=learn[0].image.pixel_size_um(),
            on_progress=on_progress,
        )


def segment(
    image: str,
    *,
    model: str | Model,
    address: str | None = None,
    on_progress: Progress = _silent,
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


def evaluate(
    image: str,
    *,
    labels: str = "cells",
    truth: str = "truth",
    truth_store: str | None = None,
    frames: Frames = None,
    storage_options: Options = None,
    on_progress: Progress = _silent,
) -> dict[str, Any]:
    """Score a label layer against the truth, frame by frame.

    Parameters
    ----------
    image : str
        URL of the image, or of the store that holds the layer.
    labels, truth : str
        Names of the two layers.
    truth_store : str
        Store of the truth; None: the image's own.
    frames : tuple of int
        Half-open range of frames; None: all frames that have truth.
    storage_options : mapping
        Options for fsspec.
    on_progress : callable
        Called with step, done and total.

    Returns
    -------
    dict
        Scores by name, and the number of frames.

    Raises
    ------
    CellscaleError
        For layers or frames that do not exist, or layers of different size.
    """
    found = open_labels(image, labels, storage_options=storage_options)
    true = open_labels(truth_store or image, truth, storage_options=storage_options)
    return evaluation.evaluate(found, true, chosen_frames(frames, found.size("t"), image), on_progress=on_progress)


def upsample(
    image: str,
    *,
    labels: str = "cells",
    name: str | None = None,
    storage_options: Options = None,
    on_progress: Progress = _silent,
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
    return scales.upsample(opened, layer, name or f"{labels}-full", on_progress=on_progress).url

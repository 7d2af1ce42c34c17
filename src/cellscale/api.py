"""The Python API: import, train, segment, evaluate, open."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, Literal

from cellscale import evaluation, sources
from cellscale.checkpoints import Model, load_model
from cellscale.config import names_of, read_config
from cellscale.engine.fan_out import FanOut, cluster
from cellscale.engine.trainer import train_method
from cellscale.evaluation import Frames, chosen_frames
from cellscale.folders import Folder
from cellscale.folders import address as address_of
from cellscale.methods import METHODS, load_method, settings_of
from cellscale.methods.settings import replaced
from cellscale.ngff.blocks import import_blocks
from cellscale.ngff.images import NgffImage, open_image
from cellscale.ngff.imports import import_planes
from cellscale.ngff.labels import open_labels
from cellscale.segmentation.plan import Settings, plan
from cellscale.segmentation.run import Target, one_by_one
from cellscale.segmentation.run import segment as run_segmentation
from cellscale.selection import spread, training_data, without
from cellscale.synthetic import Scene
from cellscale.training.run import TrainingSettings

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


def import_images(
    source: str,
    destination: str,
    *,
    labels: str | None = None,
    labels_name: str = "truth",
    pixel_size_um: float | None = None,
    frame_interval_s: float | None = None,
    ngff: str = "0.5",
    frames: Frames = None,
    axes: str | None = None,
    overwrite: bool = False,
    storage_options: Options = None,
    on_progress: Progress = _silent,
) -> NgffImage:
    """Import images, and instance labels where given, into a new OME-Zarr image.

    Parameters
    ----------
    source : str
        A TIFF stack, a folder of TIFFs, a CTC folder, npz or npy.
    destination : str
        URL of the image to make.
    labels : str
        Masks of the same frames, in any of these forms; frames without a mask stay empty and unlisted.
    labels_name : str
        Name of the label layer.
    pixel_size_um : float
        Width and height of a pixel, µm.
    frame_interval_s : float
        Time between two frames, s.
    ngff : {"0.5", "0.4"}
        Version to write.
    frames : tuple of int
        Half-open range of frames.
    axes : str
        Meaning of the source's axes, e.g. "tyx"; without it, 3-D arrays are t, y, x.
    overwrite : bool
        Replace an existing destination.
    storage_options : mapping
        Options for fsspec, for the destination.
    on_progress : callable
        Called with step, done and total.

    Returns
    -------
    NgffImage
        The image.

    Raises
    ------
    CellscaleError
        For sources that cannot be read, labels that are no instance labels, or an existing destination.
    """
    images_source = sources.open_source(source, axes=axes, frames=frames)
    of_labels = axes.lower().replace("c", "") if axes else None
    labels_source = sources.open_source(labels, axes=of_labels, frames=frames, labels=True) if labels else None
    return import_planes(
        images_source,
        destination,
        labels=labels_source,
        labels_name=labels_name,
        pixel_size_um=None if pixel_size_um is None else (pixel_size_um, pixel_size_um),
        frame_interval_s=frame_interval_s,
        version=ngff,
        overwrite=overwrite,
        storage_options=storage_options,
        on_progress=on_progress,
    )


def synthesize(
    destination: str,
    *,
    shape: tuple[int, int, int],
    cells: int,
    look: Literal["fluorescence", "brightfield"] = "fluorescence",
    seed: int = 0,
    ngff: str = "0.5",
    landmarks: bool = False,
    overwrite: bool = False,
    storage_options: Options = None,
    on_progress: Progress = _silent,
) -> NgffImage:
    """Write a synthetic time-lapse of touching, moving, dividing cells with exact labels in the layer "truth".

    Parameters
    ----------
    destination : str
        URL of the image to make.
    shape : tuple of int
        Frames, height and width, px.
    cells : int
        Number of cells at the first frame.
    look : {"fluorescence", "brightfield"}
        What the microscope shows.
    seed : int
        All randomness follows from it.
    ngff : {"0.5", "0.4"}
        Version to write.
    landmarks : bool
        Add combs, corner diagonals and cells larger than a tile.
    overwrite : bool
        Replace an existing destination.
    storage_options : mapping
        Options for fsspec, for the destination.
    on_progress : callable
        Called with step, done and total.

    Returns
    -------
    NgffImage
        The image.
    """
    scene = Scene(shape=shape, cells=cells, look=look, seed=seed, landmarks=landmarks)
    return import_blocks(
        scene,
        destination,
        version=ngff,
        pixel_size_um=(0.5, 0.5),
        frame_interval_s=300.0,
        overwrite=overwrite,
        storage_options=storage_options,
        on_progress=on_progress,
    )


def train(
    method: str,
    data: Sequence[str],
    *,
    output: str,
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
    chosen = load_method(method)
    fields = {"method": names_of(chosen), "training": names_of(TrainingSettings()), "engine": names_of(FanOut())}
    read = read_config(config, assignments, fields)
    chosen = replaced(chosen, read.section("method"))
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
            workers=workers,
            gpus=engine.gpus,
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
    name: str = "cells",
    output: str | None = None,
    tile: int = 1024,
    address: str | None = None,
    frames: Frames = None,
    channels: str | Sequence[str | int] | None = None,
    z: str = "each",
    overwrite: bool = False,
    ngff: str | None = None,
    config: str | None = None,
    assignments: Sequence[str] = (),
    storage_options: Options = None,
    on_progress: Progress = _silent,
) -> dict[str, Any]:
    """Segment an OME-Zarr image by overlapping tiles on a Ray cluster and write an NGFF label layer.

    Parameters
    ----------
    image : str
        URL of the image.
    model : str or Model
        A trained model, or the URL of its folder.
    name : str
        Name of the label layer.
    output : str
        Store to write to; None: the image's own.
    tile : int
        Side of a tile, px; the labels do not depend on it.
    address : str
        Of a Ray cluster; None: RAY_ADDRESS or this machine; "local": this process, without Ray.
    frames : tuple of int
        Half-open range of frames; None: all.
    channels : str or sequence
        Channels by number or name, in the model's order; None: the first ones.
    z : {"each", "max"}
        Each slice on its own, or the maximum over all slices.
    overwrite : bool
        Replace an existing layer, and drop an unfinished run with other settings.
    ngff : {"0.5", "0.4"}
        Version of another output store; None: the image's.
    config : str
        TOML file with [segmentation] and [engine].
    assignments : sequence of str
        Single settings as "key=value".
    storage_options : mapping
        Options for fsspec.
    on_progress : callable
        Called with step, done and total.

    Returns
    -------
    dict
        layer, cells, planes, tasks and reused tasks by step, seconds by step, flagged cells, missing_chunks.

    Raises
    ------
    CellscaleError
        For input that does not fit, an existing layer, or a run with quarantined tiles.
    """
    opened = open_image(image, storage_options=storage_options)
    fields = {"segmentation": names_of(Settings()), "engine": names_of(FanOut())}
    read = read_config(config, assignments, fields)
    span = chosen_frames(frames, opened.size("t"), image)
    given = {"tile": tile, "z": z, "frames": (span.start, span.stop), "channels": _channel_words(channels)}
    settings = replaced(Settings(), {**given, **read.section("segmentation")})
    loaded = load_model(model, storage_options) if isinstance(model, str) else model
    output = address_of(output) if output else None
    store = output or opened.url
    scratch = Folder(url=f"{store.rstrip('/')}/.cellscale-{name}", storage_options=dict(storage_options or {}))
    run = plan(opened, loaded, settings, scratch)
    target = Target(store=store, name=name, output=output, version=ngff, overwrite=overwrite)
    about = {"method": loaded.method.name, "url": model if isinstance(model, str) else None}
    with nullcontext() if address == "local" else cluster(address):
        report = run_segmentation(
            run,
            loaded.networks,
            target,
            spread=one_by_one if address == "local" else replaced(FanOut(), read.section("engine")),
            on_progress=on_progress,
            model=about,
        )
    return {"layer": f"{store.rstrip('/')}/labels/{name}", "planes": len(run.planes), **dataclasses.asdict(report)}


def _channel_words(channels: str | Sequence[str | int] | None) -> tuple[str | int, ...]:
    if channels is None:
        return ()
    return tuple(channels.split(",")) if isinstance(channels, str) else tuple(channels)


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

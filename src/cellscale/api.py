"""The Python API: import, train, segment, evaluate, open."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import xarray as xr

from cellscale import metrics, sources, synthetic
from cellscale.arrays import Box
from cellscale.checkpoints import Model, load_model
from cellscale.config import Engine, read_config
from cellscale.engine.fan_out import FanOut, cluster
from cellscale.engine.trainer import train_method
from cellscale.errors import InputError, MissingError
from cellscale.methods import METHODS, load_method, settings_of
from cellscale.methods.settings import flat, replaced
from cellscale.ngff import images, imports, views
from cellscale.ngff.images import NgffImage
from cellscale.ngff.labels import LabelLayer
from cellscale.ngff.labels import open_labels as open_label_layer
from cellscale.segmentation.plan import Settings, frames_of, plan
from cellscale.segmentation.records import Scratch
from cellscale.segmentation.run import Spread, Target, one_by_one
from cellscale.segmentation.run import segment as run_segmentation
from cellscale.training.run import TrainingData, TrainingSettings

log = logging.getLogger("cellscale")
Progress = Callable[[str, int, int], None]
"""Called with the name of a step, what is done of it and what there is in all."""
Frames = tuple[int | None, int | None] | None
"""A half-open range of frames; None: all, or the sequence's end."""
Options = Mapping[str, Any] | None
"""Options for fsspec, e.g. {"key": …, "endpoint_url": …}."""


def _silent(step: str, done: int, total: int) -> None:
    """Show nothing."""


def _resolved(frames: Frames, image: NgffImage) -> tuple[int, int] | None:
    if frames is None:
        return None
    start, stop = frames
    chosen = frames_of(image, (start or 0, image.size("t") if stop is None else stop))
    return chosen.start, chosen.stop


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
    labels_source = sources.open_source(labels, axes=axes, frames=frames, labels=True) if labels else None
    return imports.import_planes(
        images_source,
        destination,
        labels=labels_source,
        labels_name=labels_name,
        pixel_size_um=pixel_size_um,
        frame_interval_s=frame_interval_s,
        version=ngff,
        overwrite=overwrite,
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
        Half-open ranges; the latter are held out, and thresholds are tuned on them.
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
    fields = {"method": _names(chosen), "training": _names(TrainingSettings()), "engine": _names(Engine())}
    read = read_config(config, assignments, fields)
    chosen = replaced(chosen, read.section("method"))
    over = {} if steps is None else {"steps": steps}
    settings = replaced(TrainingSettings(), {**read.section("training"), **over})
    engine = replaced(Engine(), read.section("engine"))
    learn = [_training_data(url, labels_name, frames, chosen.channels, storage_options) for url in data]
    held_out = [_training_data(url, labels_name, validate_frames, chosen.channels, storage_options) for url in data]
    with cluster(address) if workers else nullcontext():
        return train_method(
            chosen,
            learn,
            held_out if validate_frames else [],
            output=output,
            settings=settings,
            workers=workers,
            gpus=engine.gpus,
            resume=resume,
            overwrite=overwrite,
            storage_options=storage_options,
            pixel_size_um=learn[0].image.pixel_size_um(),
            on_progress=on_progress,
        )


def _names(settings: Any) -> list[str]:
    """Settings by dotted name and by its last part."""
    return [*flat(settings), *(name.rpartition(".")[2] for name in flat(settings))]


def _annotated(layer: LabelLayer, frames: range) -> list[int]:
    """The frames that have labels: all, unless the layer names them."""
    listed = layer.metadata.get("frames") if layer.metadata else None
    return [t for t in frames if listed is None or t in set(listed)]


def _training_data(url: str, labels_name: str, frames: Frames, channels: int, options: Options) -> TrainingData:
    image = images.open_image(url, storage_options=options)
    layer = open_label_layer(url, labels_name, storage_options=options)
    chosen = _annotated(layer, frames_of(image, _resolved(frames, image)))
    if not chosen:
        raise MissingError(f"No frame of {frames} in {url} has labels in layer {labels_name!r}.")
    planes = tuple((t, z) for t in chosen for z in range(image.size("z")))
    return TrainingData(image=image, labels=layer, planes=planes, channels=tuple(range(channels)))


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
        layer, cells, planes, tasks and reused tasks by step, seconds by step, missing_chunks.

    Raises
    ------
    CellscaleError
        For input that does not fit, an existing layer, or a run with quarantined tiles.
    """
    opened = images.open_image(image, storage_options=storage_options)
    fields = {"segmentation": _names(Settings()), "engine": _names(Engine())}
    read = read_config(config, assignments, fields)
    given = {"tile": tile, "z": z, "frames": _resolved(frames, opened), "channels": _channel_words(channels)}
    settings = replaced(Settings(), {**given, **read.section("segmentation")})
    loaded = load_model(model) if isinstance(model, str) else model
    store = output or opened.url
    scratch = Scratch(url=f"{store.rstrip('/')}/.cellscale-{name}", storage_options=dict(storage_options or {}))
    run = plan(opened, loaded, settings, scratch)
    target = Target(store=store, name=name, output=output, version=ngff, overwrite=overwrite)
    about = {"method": loaded.method.name, "url": model if isinstance(model, str) else None}
    with nullcontext() if address == "local" else cluster(address):
        report = run_segmentation(
            run,
            loaded.networks,
            target,
            spread=_spread(address, replaced(Engine(), read.section("engine"))),
            on_progress=on_progress,
            model=about,
        )
    return {"layer": f"{store.rstrip('/')}/labels/{name}", "planes": len(run.planes), **dataclasses.asdict(report)}


def _channel_words(channels: str | Sequence[str | int] | None) -> tuple[str | int, ...]:
    if channels is None:
        return ()
    return tuple(channels.split(",")) if isinstance(channels, str) else tuple(channels)


def _spread(address: str | None, engine: Engine) -> Spread:
    return one_by_one if address == "local" else FanOut(**dataclasses.asdict(engine))


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
    found = open_label_layer(image, labels, storage_options=storage_options)
    true = open_label_layer(truth_store or image, truth, storage_options=storage_options)
    sizes = [tuple(layer.size(axis) for axis in "tzyx") for layer in (found, true)]
    if sizes[0] != sizes[1]:
        raise InputError(f"Layer {labels!r} is {sizes[0]} (t, z, y, x), {truth!r} is {sizes[1]}; they must be equal.")
    count, slices, height, width = sizes[0]
    chosen = _scored_frames(found, true, _range(frames, count, image))
    box, total = Box(0, 0, height, width), []
    for done, t in enumerate(chosen, 1):
        for z in range(slices):
            total.append(metrics.frame_scores(true.read(box, t=t, z=z), found.read(box, t=t, z=z)))
        on_progress("evaluate", done, len(chosen))
    return {"frames": len(chosen), **metrics.scores(metrics.total(total))}


def _range(frames: Frames, count: int, where: str) -> range:
    start, stop = frames or (0, count)
    first, last = start or 0, count if stop is None else stop
    if not 0 <= first < last <= count:
        raise MissingError(f"Frames {first}:{last} of {where}: it has frames 0:{count}. Frame ranges are half-open.")
    return range(first, last)


def _scored_frames(found: LabelLayer, true: LabelLayer, frames: range) -> list[int]:
    """Frames that have truth; each must have been segmented."""
    chosen = _annotated(true, frames)
    span = (found.metadata or {}).get("frames")
    outside = [t for t in chosen if span is not None and t not in set(span)]
    if not chosen:
        raise MissingError(f"No frame of {frames.start}:{frames.stop} has labels in layer {true.name!r}.")
    if outside:
        raise MissingError(
            f"Frame {outside[0]} was not segmented in layer {found.name!r}. Choose --frames among those that were, "
            "or segment the others."
        )
    return chosen


def open_image(url: str, *, level: int = 0, storage_options: Options = None) -> xr.DataArray:
    """Open an OME-Zarr image lazily, with physical coordinates (µm, s) and channel names.

    Parameters
    ----------
    url : str
        Any fsspec URL of an OME-NGFF 0.4 or 0.5 image.
    level : int
        Of the pyramid; 0 is full resolution.
    storage_options : mapping
        Options for fsspec.

    Returns
    -------
    xarray.DataArray
        Dimensions as stored.
    """
    return views.open_image_view(url, level=level, storage_options=storage_options)


def open_labels(url: str, name: str = "cells", *, level: int = 0, storage_options: Options = None) -> xr.DataArray:
    """Open a label layer lazily, aligned to its image.

    Parameters
    ----------
    url : str
        Of the image's store.
    name : str
        Of the layer.
    level : int
        Of the pyramid; 0 is full resolution.
    storage_options : mapping
        Options for fsspec.

    Returns
    -------
    xarray.DataArray
        Dimensions as stored.
    """
    return views.open_labels_view(url, name, level=level, storage_options=storage_options)

"""Train a method, and list the methods and models there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from cellscale.engine.ray_map import FanOut, cluster
from cellscale.methods import METHODS, load_method, settings_of
from cellscale.models.model import Model, load_model, shipped_models
from cellscale.ngff.frame_ranges import Frames
from cellscale.ngff.image import open_image
from cellscale.progress import Progress, silent
from cellscale.settings.fields import replaced, unfitted
from cellscale.settings.files import names_of, read_config
from cellscale.storage.urls import address as address_of
from cellscale.training.selection import spread, training_data, without
from cellscale.training.settings import TrainingSettings

Options = Mapping[str, Any] | None
"""Options for fsspec, e.g. {"key": …, "endpoint_url": …}; for stores of several kinds {"s3": {…}, "https": {…}}."""


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
    on_progress: Progress = silent,
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
    from cellscale.engine.ray_trainer import train_method
    from cellscale.training.run import check_start

    begun = load_model(start, storage_options) if isinstance(start, str) else start
    chosen = unfitted(begun.method) if begun else load_method(method)
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

"""Train a method; list the available methods and models."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, Literal

from cellscale.engine.ray_map import RayExecutor, cluster
from cellscale.errors import InputError
from cellscale.methods import METHODS, load_method, module_of, settings_of
from cellscale.methods.presets import Preset, presets
from cellscale.methods.presets import preset as preset_of
from cellscale.models.model import Model, load_model, shipped_models
from cellscale.progress import Progress, silent
from cellscale.settings.fields import flat, replaced, unfitted
from cellscale.settings.files import read_config
from cellscale.settings.frame_range import Frames
from cellscale.settings.keywords import check_backend
from cellscale.storage.urls import Location, check_apart, url_of, urls_of
from cellscale.storage.urls import address as address_of
from cellscale.training.selection import held_out_images, labelled_images, subsample, training_data, without
from cellscale.training.settings import TrainingSettings
from cellscale.training.task import TrainingTask

Options = Mapping[str, Any] | None
"""Options for fsspec, e.g. {"key": …, "endpoint_url": …}; for stores of several kinds {"s3": {…}, "https": {…}}."""


def list_methods() -> list[dict[str, Any]]:
    """List the methods: name, paper, summary, settings by name with their defaults, and presets.

    Examples
    --------
    >>> import cellscale
    >>> [method["name"] for method in cellscale.list_methods()][:3]
    ['unet-ronneberger', 'unet2', 'unet3']
    """
    found = [load_method(name) for name in METHODS]
    return [
        {
            "name": method.name,
            "paper": method.paper,
            "summary": method.summary,
            "settings": settings_of(method),
            "presets": sorted(presets(method.name)),
        }
        for method in found
    ]


def list_models() -> list[dict[str, Any]]:
    """List the models included with cellscale: name, summary, method, pixel_size_um, bytes.

    Examples
    --------
    >>> import cellscale
    >>> [model["name"] for model in cellscale.list_models()]
    ['nuclei']
    """
    return shipped_models()


def train(
    method: str,
    data: Sequence[Location],
    *,
    output: Location,
    init_from: Location | Model | None = None,
    layer: str = "truth",
    frames: Frames = None,
    validation_frames: Frames = None,
    validation: Sequence[Location] = (),
    max_train_frames: int | None = None,
    config: Location | None = None,
    settings: Mapping[str, Any] | None = None,
    preset: str | None = None,
    workers: int = 1,
    backend: Literal["ray", "serial"] = "ray",
    resume: bool = False,
    steps: int | None = None,
    address: str | None = None,
    overwrite: bool = False,
    trust: Collection[str] = (),
    storage_options: Options = None,
    on_progress: Progress = silent,
) -> Model:
    """Train a method on OME-Zarr images with label layers, distributed by Ray.

    Parameters
    ----------
    method : str
        A name of `list_methods()`, or "package.module:NAME".
    data : sequence of str or path
        URLs of images; of a collection of images, all that have the label layer.
    output : str or path
        Folder of the model, any fsspec URL.
    init_from : str or Model
        Start from the weights and settings of this model of the same method: a folder, or a name of `list_models()`.
    layer : str
        Label layer with the ground truth.
    frames, validation_frames : tuple of int
        Half-open ranges; the latter are held out, and thresholds are calibrated on them. Without `frames`, all others
        are used for training.
    validation : sequence of str
        URLs of held-out images with the same label layer; of any size and pixel type.
    max_train_frames : int
        Number of annotated frames to train on, evenly spaced; None: all.
    config : str
        TOML file with [method], [training] and [engine].
    settings : mapping
        Single settings by name, e.g. {"steps": 2000, "unet.width": 32}; they override the file.
    preset : str
        Named set of settings: "paper" as printed, "fast" for ten minutes on two processors, "default"; the file and
        `settings` override it. None: "default", or the settings of `init_from`.
    workers : int
        Number of training workers on the cluster.
    backend : {"ray", "serial"}
        Train on a Ray cluster, or in this process without Ray.
    resume : bool
        Continue an interrupted training.
    steps : int
        Number of training steps; overrides `settings` and the file.
    address : str
        Address of a Ray cluster; None: RAY_ADDRESS, or a Ray started on this machine.
    overwrite : bool
        Replace an existing model.
    trust : collection of str
        Modules outside of cellscale whose methods `init_from` may name, see `load_model`; that of `method` is trusted.
    storage_options : mapping
        Options for fsspec.
    on_progress : callable
        Called with step, done and total.

    Returns
    -------
    Model
        The saved model, with fitted thresholds.

    Raises
    ------
    CellscaleError
        For unknown names and settings, data that do not fit, or an existing model.

    Examples
    --------
    >>> import cellscale
    >>> few = {"trees": 10, "leaves": 30, "scales": [1.0, 2.0], "crop": 64, "loader_workers": 0}
    >>> model = cellscale.train(
    ...     "pixel-forest", ["movie.zarr"], output="model", frames=(0, 2), settings=few, backend="serial"
    ... )
    >>> model.method.name
    'pixel-forest'
    """
    # Ray Train and what draws the curves take seconds to import; the other commands do without.
    from cellscale.engine.ray_trainer import train_method
    from cellscale.training.run import check_start

    check_backend(backend)
    if not data:
        raise InputError("data names no image; expected the URLs of one or more images with a label layer.")
    trusted = {*([trust] if isinstance(trust, str) else trust), module_of(method)}
    begun = init_from
    if begun is not None and not isinstance(begun, Model):
        begun = load_model(begun, storage_options, trust=trusted)
    chosen = unfitted(begun.method) if begun else load_method(method)
    fields = {"method": flat(chosen), "training": flat(TrainingSettings()), "engine": flat(RayExecutor())}
    read = read_config(None if config is None else url_of(config, "config"), settings or {}, fields)
    chosen_preset = preset_of(method, preset) if preset or not begun else Preset()
    chosen = replaced(replaced(chosen, chosen_preset.method), read.section("method"))
    if begun:
        check_start(begun, load_method(method).name, chosen)
    given_steps = {} if steps is None else {"steps": steps}
    chosen_settings = TrainingSettings().updated(chosen_preset.training, read.section("training"), given_steps)
    engine = replaced(RayExecutor(), read.section("engine"))
    urls, held, output = (
        urls_of(data, "training data"),
        urls_of(validation, "validation data"),
        url_of(output, "output"),
    )
    for url in (*urls, *held):
        check_apart(url, output)
    opened = labelled_images(urls, layer, storage_options)
    names = (layer, chosen.channels)
    held_out = [training_data(image, *names, validation_frames) for image in opened if validation_frames]
    learn = without([training_data(image, *names, frames) for image in opened], held_out, asked=frames is not None)
    apart = labelled_images(held, layer, storage_options)
    held_out += held_out_images(apart, opened, *names)
    learn = learn if max_train_frames is None else subsample(learn, max_train_frames)
    task = TrainingTask(
        method=chosen,
        data=learn,
        validation=held_out,
        output=address_of(output),
        storage_options=dict(storage_options or {}),
        settings=chosen_settings,
        init_from=begun,
        resume=resume,
        overwrite=overwrite,
        pixel_size_um=learn[0].image.pixel_size_um(),
    )
    with cluster(address) if backend == "ray" else nullcontext():
        return train_method(task, workers=workers if backend == "ray" else 0, engine=engine, on_progress=on_progress)

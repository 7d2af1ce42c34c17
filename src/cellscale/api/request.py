"""Build a segmentation job — planned run, model and target — from the options of a user.

One rule of precedence holds for every option: an explicit argument or flag, then `settings`, then the configuration
file, then the default.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

from cellscale.engine.placement import Placement, placement
from cellscale.engine.ray_map import RayExecutor
from cellscale.errors import InputError
from cellscale.models.model import Model, load_model
from cellscale.ngff.image import open_image
from cellscale.ngff.level_choice import fitting
from cellscale.segmentation.plan import Run, Settings, ZMode, plan
from cellscale.segmentation.target import Target
from cellscale.settings.fields import flat, replaced, short_and_full
from cellscale.settings.files import read_config
from cellscale.settings.frame_range import Frames, chosen_frames
from cellscale.settings.keywords import options_from
from cellscale.storage.folder import Folder
from cellscale.storage.urls import Location, address, check_apart, url_of, with_urls


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run that is ready to start."""

    run: Run
    """Planned for the devices of this process."""
    model: Model
    target: Target
    engine: RayExecutor
    settings: Settings
    """As they were asked for; the run's have a device instead of "auto"."""

    def placed(self, place: Placement) -> Job:
        """The job planned for another device and arithmetic, which may change the last bits of its maps."""
        run, engine = self.run, place.on(self.engine)
        if place.device != run.settings.device or place.precision not in ("auto", run.settings.precision):
            settings = dataclasses.replace(self.settings, device=place.device, precision=place.precision)
            run = plan(run.image, self.model, settings, run.scratch)
        return dataclasses.replace(self, run=run, engine=engine)

    def place(self) -> Placement:
        """Choose the place of the networks on the cluster that this process is connected to."""
        return placement(self.engine, self.settings.device, self.settings.precision)


@dataclass(frozen=True, kw_only=True)
class SegmentationOptions:
    """Options of a segmentation besides image and model; None: the value from settings, file or image."""

    layer: str = "cells"
    """Name of the label layer to write."""
    output: str | None = None
    """Store to write the layer to; None: the image's own. Of a file of another format, the image to make."""
    tile_size: int | None = None
    """Side of a tile, px; the labels do not depend on it. None: 1024."""
    frames: Frames = None
    """Half-open range of frames, (first, end); None: all."""
    channels: str | Sequence[str | int] | None = None
    """Channels by number or name, in the model's order; None: the first ones. A text that is the name of a channel,
    such as "1", is not read as a number."""
    z_mode: ZMode | None = None
    """Segment each slice, or the maximum over all slices; "linked": join the objects of slices to 3-D objects. None:
    "slices"."""
    unique_ids: bool = False
    """Number cells through all frames, so that no number occurs in two of them."""
    level: str | int = 0
    """Level of the pyramid; "auto": the one whose pixel size is nearest to the model's. Labels have its size."""
    overwrite: bool = False
    """Replace an existing layer, and drop an unfinished run with different settings."""
    allow_failed_tiles: bool = False
    """Publish the layer even if tiles failed; they become background and are named in metadata and report."""
    report: str | None = None
    """Folder for a copy of the run's report, written for a failed run as well."""
    ome_zarr_version: str | None = None
    """Version of another output store, "0.4" or "0.5"; None: the image's."""
    config: str | None = None
    """TOML file with [segmentation] and [engine]."""
    settings: Mapping[str, Any] | None = None
    """Single settings by name, e.g. {"window_size": 4096}."""
    trust: Collection[str] = ()
    """Modules outside of cellscale whose methods the model may name, see `cellscale.load_model`."""
    storage_options: Mapping[str, Any] | None = field(default=None, repr=False)
    """Options for fsspec; they may hold credentials and are never printed."""


class PredictionKeywords(TypedDict, total=False):
    """Keyword arguments of `cellscale.predict_maps`; `SegmentationOptions` says what each means."""

    frames: Frames
    channels: str | Sequence[str | int] | None
    z_mode: ZMode | None
    level: str | int
    config: Location | None
    settings: Mapping[str, Any] | None
    trust: Collection[str]
    storage_options: Mapping[str, Any] | None


class PlanKeywords(PredictionKeywords, total=False):
    """Keyword arguments of `cellscale.plan`; `SegmentationOptions` says what each means."""

    layer: str
    output: Location | None
    tile_size: int | None
    ome_zarr_version: str | None


class SegmentationKeywords(PlanKeywords, total=False):
    """Keyword arguments of `cellscale.segment`; `SegmentationOptions` says what each means."""

    unique_ids: bool
    overwrite: bool
    allow_failed_tiles: bool
    report: Location | None


def segmentation_options(given: Mapping[str, Any]) -> SegmentationOptions:
    """Return the options of a segmentation from keyword arguments; raises as `options_from` does."""
    return options_from(SegmentationOptions, with_urls(given, "output", "report", "config"), "a segmentation")


def segmentation_job(image: Location, model: Location | Model, options: SegmentationOptions) -> Job:
    """Open image and model and plan the run.

    Parameters
    ----------
    image : str or path
        URL of the image.
    model : str, path or Model
        A trained model, or the URL of its folder.
    options : SegmentationOptions
        All other options.

    Raises
    ------
    CellscaleError
        As `open_image`, `load_model` and `plan` do.
    """
    image, storage = url_of(image, "image"), dict(options.storage_options or {})
    loaded = model if isinstance(model, Model) else load_model(model, storage, trust=options.trust)
    opened = fitting(open_image(image, storage_options=storage), options.level, loaded.pixel_size_um)
    fields = {"segmentation": flat(Settings()), "engine": flat(RayExecutor())}
    _check_apart_from_model(options.settings or {}, fields, loaded)
    read = read_config(options.config, options.settings or {}, fields)
    settings = replaced(Settings(), {**read.section("segmentation"), **_explicit(options)})
    span = chosen_frames(options.frames or settings.frames, opened.size("t"), image)
    settings = dataclasses.replace(settings, frames=(span.start, span.stop))
    target = _target(opened.url, options, storage)
    scratch = Folder(url=f"{target.store.rstrip('/')}/.cellscale-{target.name}", storage_options=storage)
    engine = replaced(RayExecutor(), read.section("engine"))
    run = plan(opened, loaded, settings, scratch)
    return Job(run=run, model=loaded, target=target, engine=engine, settings=settings)


def _check_apart_from_model(given: Iterable[str], fields: Mapping[str, Collection[str]], model: Model) -> None:
    """Refuse settings that belong to the model: a layer's model names all that decided its labels."""
    own = short_and_full(flat(model.method)) - short_and_full(name for names in fields.values() for name in names)
    for name in given:
        if name.removeprefix("method.") in own:
            raise InputError(
                f"Setting {name!r} is one of the model, which has its own value. "
                f"Change it with `cellscale calibrate MODEL --set {name.removeprefix('method.')}=… --output NEW`."
            )


def _explicit(options: SegmentationOptions) -> dict[str, Any]:
    """Settings that the caller gave as explicit arguments."""
    channels = options.channels.split(",") if isinstance(options.channels, str) else options.channels
    given = {"tile_size": options.tile_size, "z_mode": options.z_mode, "channels": channels}
    given["unique_ids"] = options.unique_ids or None
    return {name: value for name, value in given.items() if value is not None}


def _target(image: str, options: SegmentationOptions, storage: Mapping[str, Any]) -> Target:
    """The target of the labels: the image's own store, or a separate one."""
    output = address(options.output) if options.output else None
    if output == image:
        output = None
    if output is not None:
        check_apart(image, output)
    if options.report:
        check_apart(image, options.report, may_hold=True)
    return Target(
        store=output or image,
        name=options.layer,
        output=output,
        version=options.ome_zarr_version,
        overwrite=options.overwrite,
        allow_failed_tiles=options.allow_failed_tiles,
        report=Folder(url=address(options.report), storage_options=storage) if options.report else None,
    )

"""A segmentation as it is asked for: from the words of a command to a planned run, its model and its target."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from cellscale.engine.ray_map import FanOut
from cellscale.errors import unknown
from cellscale.models.model import Model, load_model
from cellscale.ngff.frame_ranges import Frames, chosen_frames
from cellscale.ngff.image import open_image
from cellscale.ngff.level_choice import fitting
from cellscale.segmentation.plan import Run, Settings, plan
from cellscale.segmentation.run import Target
from cellscale.settings.fields import replaced
from cellscale.settings.files import names_of, read_config
from cellscale.storage.folder import Folder
from cellscale.storage.urls import address


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run that is ready to start."""

    run: Run
    model: Model
    target: Target
    engine: FanOut


class PredictionOptions(TypedDict, total=False):
    """What may be said of what is predicted, beside image and model, as `cellscale.segment` says it."""

    frames: Frames
    channels: str | Sequence[str | int] | None
    z: str
    level: str | int
    config: str | None
    assignments: Sequence[str]
    trust: Collection[str]
    storage_options: Mapping[str, Any] | None


class SegmentationOptions(PredictionOptions, total=False):
    """What may be said of a segmentation, beside image and model, as `cellscale.segment` says it."""

    name: str
    output: str | None
    tile: int
    overwrite: bool
    publish_holes: bool
    report: str | None
    ngff: str | None


def segmentation_job(image: str, model: str | Model, options: SegmentationOptions) -> Job:
    """Open image and model and plan the run.

    Parameters
    ----------
    image : str
        URL of the image.
    model : str or Model
        A trained model, or the URL of its folder.
    options : mapping
        What `cellscale.segment` takes beside them.

    Raises
    ------
    CellscaleError
        For an unknown option, and as `open_image`, `load_model` and `plan` do.
    """
    for name in options.keys() - SegmentationOptions.__optional_keys__:
        raise unknown("option of a segmentation", name, SegmentationOptions.__optional_keys__)
    storage = dict(options.get("storage_options") or {})
    loaded = load_model(model, storage, trust=options.get("trust", ())) if isinstance(model, str) else model
    opened = fitting(open_image(image, storage_options=storage), options.get("level", 0), loaded.pixel_size_um)
    fields = {"segmentation": names_of(Settings()), "engine": names_of(FanOut())}
    read = read_config(options.get("config"), options.get("assignments", ()), fields)
    span = chosen_frames(options.get("frames"), opened.size("t"), image)
    given = {key: value for key, value in options.items() if key in ("tile", "z")}
    given |= {"frames": (span.start, span.stop), "channels": _channel_words(options.get("channels"))}
    settings = replaced(Settings(), {**given, **read.section("segmentation")})
    target = _target(opened.url, options, storage)
    scratch = Folder(url=f"{target.store.rstrip('/')}/.cellscale-{target.name}", storage_options=storage)
    engine = replaced(FanOut(), read.section("engine"))
    return Job(run=plan(opened, loaded, settings, scratch), model=loaded, target=target, engine=engine)


def _target(image: str, options: SegmentationOptions, storage: Mapping[str, Any]) -> Target:
    output, report = options.get("output"), options.get("report")
    return Target(
        store=address(output) if output else image,
        name=options.get("name", "cells"),
        output=address(output) if output else None,
        version=options.get("ngff"),
        overwrite=options.get("overwrite", False),
        publish_holes=options.get("publish_holes", False),
        report=Folder(url=address(report), storage_options=storage) if report else None,
    )


def _channel_words(channels: str | Sequence[str | int] | None) -> tuple[str | int, ...]:
    if channels is None:
        return ()
    return tuple(channels.split(",")) if isinstance(channels, str) else tuple(channels)

"""A segmentation as it is asked for: from the words of a command to a planned run, its model and its target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cellscale.checkpoints import Model, load_model
from cellscale.config import names_of, read_config
from cellscale.engine.fan_out import FanOut
from cellscale.evaluation import Frames, chosen_frames
from cellscale.folders import Folder, address
from cellscale.methods.settings import replaced
from cellscale.ngff.images import open_image
from cellscale.ngff.scales import fitting
from cellscale.segmentation.plan import Run, Settings, plan
from cellscale.segmentation.run import Target


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run that is ready to start."""

    run: Run
    model: Model
    target: Target
    engine: FanOut


def segmentation_job(
    image: str,
    *,
    model: str | Model,
    name: str = "cells",
    output: str | None = None,
    tile: int = 1024,
    frames: Frames = None,
    channels: str | Sequence[str | int] | None = None,
    z: str = "each",
    level: str | int = 0,
    overwrite: bool = False,
    publish_holes: bool = False,
    report: str | None = None,
    ngff: str | None = None,
    config: str | None = None,
    assignments: Sequence[str] = (),
    storage_options: Mapping[str, Any] | None = None,
) -> Job:
    """Open image and model and plan the run; the parameters are those of `cellscale.segment`."""
    options = dict(storage_options or {})
    loaded = load_model(model, storage_options) if isinstance(model, str) else model
    opened = fitting(open_image(image, storage_options=storage_options), level, loaded.pixel_size_um)
    fields = {"segmentation": names_of(Settings()), "engine": names_of(FanOut())}
    read = read_config(config, assignments, fields)
    span = chosen_frames(frames, opened.size("t"), image)
    given = {"tile": tile, "z": z, "frames": (span.start, span.stop), "channels": _channel_words(channels)}
    settings = replaced(Settings(), {**given, **read.section("segmentation")})
    target = Target(
        store=address(output) if output else opened.url,
        name=name,
        output=address(output) if output else None,
        version=ngff,
        overwrite=overwrite,
        publish_holes=publish_holes,
        report=Folder(url=address(report), storage_options=options) if report else None,
    )
    scratch = Folder(url=f"{target.store.rstrip('/')}/.cellscale-{name}", storage_options=options)
    engine = replaced(FanOut(), read.section("engine"))
    return Job(run=plan(opened, loaded, settings, scratch), model=loaded, target=target, engine=engine)


def _channel_words(channels: str | Sequence[str | int] | None) -> tuple[str | int, ...]:
    if channels is None:
        return ()
    return tuple(channels.split(",")) if isinstance(channels, str) else tuple(channels)

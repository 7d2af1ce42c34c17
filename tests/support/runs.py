"""Runs of the blobs method in this process, and what they leave."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from cellscale.models.model import Model
from cellscale.ngff.image import NgffImage, open_image
from cellscale.ngff.labels import open_labels
from cellscale.ngff.writer import create_image
from cellscale.segmentation.executor import Executor, one_by_one
from cellscale.segmentation.plan import Settings, plan
from cellscale.segmentation.report import Report
from cellscale.segmentation.run import segment
from cellscale.segmentation.target import Target
from cellscale.storage.folder import Folder
from cellscale.types import Box
from tests.blobs import blobs_model

SHAPE = (3, 150, 211)


def written(url: str, pixels: np.ndarray, axes: str = "tyx", options: dict[str, Any] | None = None) -> NgffImage:
    """An image of (t, c, z, y, x) pixels."""
    full = pixels.reshape([dict(zip(axes, pixels.shape, strict=True)).get(axis, 1) for axis in "tczyx"])
    writer = create_image(
        url,
        shape_tczyx=full.shape,
        dtype=full.dtype,
        axes=tuple(axes),
        pixel_size_um=(0.5, 0.25),
        storage_options=options,
    )
    for t, c, z in np.ndindex(full.shape[:3]):
        writer.write(full[t, c, z], t=t, c=c, z=z)
    writer.finish()
    return open_image(url, storage_options=options)


def segmented(
    image: NgffImage,
    name: str,
    *,
    executor: Executor = one_by_one,
    overwrite: bool = False,
    model: Model | None = None,
    **settings: Any,
) -> Report:
    """Segment with the blobs method."""
    model = model or blobs_model(channels=len(settings.get("channels", (0,))))
    scratch = Folder(url=f"{image.url}/.cellscale-{name}", storage_options=image.storage_options)
    run = plan(image, model, Settings(**{"precision": "fp32", **settings}), scratch)
    target = Target(store=image.url, name=name, overwrite=overwrite)
    return segment(run, model.networks, target, executor=executor)


def scratch_of(image: NgffImage, name: str) -> Folder:
    """The folder of a run's only attempt."""
    home = Folder(url=f"{image.url}/.cellscale-{name}", storage_options=image.storage_options)
    (attempt,) = home.names() - {"plan.json"}
    return home.child(attempt)


def arrays(image: NgffImage, name: str) -> list[np.ndarray]:
    """All levels of a layer, (t, z, y, x)."""
    layer = open_labels(image.url, name, storage_options=image.storage_options)
    return [
        np.stack(
            [
                [
                    layer.read(Box(0, 0, layer.size("y", level), layer.size("x", level)), t=t, z=z, level=level)
                    for z in range(layer.size("z"))
                ]
                for t in range(layer.size("t"))
            ]
        )
        for level in range(len(layer.levels))
    ]


def table(image: NgffImage, name: str) -> pd.DataFrame:
    return pd.read_parquet(open_labels(image.url, name).place("objects.parquet"))


def equal(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> bool:
    return len(one) == len(other) and all(map(np.array_equal, one, other))


def run_it(image: NgffImage, name: str = "cells", *, executor: Executor = one_by_one, **options: Any) -> Report:
    """Segment with the blobs method and any options of the target and the plan."""
    target = {"overwrite", "allow_failed_tiles", "report"}
    wanted = Target(store=image.url, name=name, **{key: options.pop(key) for key in target & options.keys()})
    model = blobs_model()
    scratch = Folder(url=f"{image.url}/.cellscale-{name}")
    run = plan(image, model, Settings(**{"precision": "fp32", **options}), scratch)
    return segment(run, model.networks, wanted, executor=executor)

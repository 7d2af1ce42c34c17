"""The layer of an attempt before it is published: its arrays, which no list names, and their removal."""

from __future__ import annotations

from typing import Any

from cellscale.errors import ChangedError
from cellscale.ngff.labels import LabelLayer, discard_labels, stage_labels
from cellscale.ngff.metadata import read_node
from cellscale.ngff.multiscale import Multiscale
from cellscale.ngff.stores import Store
from cellscale.segmentation.plan import Planned
from cellscale.segmentation.target import Target
from cellscale.segmentation.work_items import ABOUT_THE_LAYER, step_of_folder


def staged(
    run: Planned, target: Target, attempt: str, metadata: dict[str, Any], planes_z: int, *, begun: bool
) -> LabelLayer:
    """Create the layer's arrays, unlisted; keep existing arrays of this attempt and the records of their content.

    `begun`: whether an earlier driver may have left some.
    """
    gone = begun and read_node(Store(url=target.layer, storage_options=run.image.storage_options)) is None
    layer = stage_labels(
        run.image,
        target.name,
        output=target.output,
        version=target.version,
        planes_z=planes_z,
        metadata=metadata,
        storage_options=run.image.storage_options,
        attempt=attempt,
        overwrite=target.overwrite,
    )
    arrays = [level.path for level in layer.levels]
    if gone or not begun or run.scratch.read_json("staged.json") != arrays:
        if begun:
            _forget(run)
        run.scratch.write_json("staged.json", arrays)
    return layer


def check_current(*inputs: Multiscale) -> None:
    """Raise ChangedError for an image or a layer that was replaced or removed since the run has opened it."""
    for one in inputs:
        if not one.is_current():
            raise ChangedError(
                f"{one.url} was replaced or removed since the run began. The labels are those of pixels that are not "
                "there any more, so nothing was published. Start over with --overwrite."
            )


def discard(run: Planned, target: Target, attempt: str) -> None:
    """Delete the arrays of an attempt that will not be published."""
    discard_labels(target.store, target.name, attempt, storage_options=run.image.storage_options)


def _forget(run: Planned) -> None:
    """Delete the records of data that were published into other arrays."""
    for step in run.scratch.names():
        if step_of_folder(step) in ABOUT_THE_LAYER:
            run.scratch.child(step).remove()

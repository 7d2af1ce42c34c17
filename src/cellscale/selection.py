"""Which frames of which images are learned from, and which are held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cellscale.errors import InputError, MissingError
from cellscale.evaluation import Frames, annotated, chosen_frames
from cellscale.ngff.images import NgffImage
from cellscale.ngff.labels import open_labels
from cellscale.training.run import TrainingData


def training_data(image: NgffImage, labels_name: str, channels: int, frames: Frames) -> TrainingData:
    """The frames of a range that have labels, each slice on its own, with the first `channels` channels."""
    layer = open_labels(image.url, labels_name, storage_options=image.storage_options)
    chosen = annotated(layer, chosen_frames(frames, image.size("t"), image.url))
    if not chosen:
        raise MissingError(f"No frame of {frames} in {image.url} has labels in layer {labels_name!r}.")
    planes = tuple((t, z) for t in chosen for z in range(image.size("z")))
    return TrainingData(image=image, labels=layer, planes=planes, channels=tuple(range(channels)))


def without(learn: Sequence[TrainingData], held_out: Sequence[TrainingData], *, asked: bool) -> list[TrainingData]:
    """Training frames that are not held out.

    Parameters
    ----------
    learn, held_out : sequence of TrainingData
        The same images in the same order; `held_out` may be empty.
    asked : bool
        The training frames were named: frames that are in both ranges are then an error.

    Raises
    ------
    InputError
        If a frame was asked for twice.
    """
    if not held_out:
        return list(learn)
    made = []
    for part, other in zip(learn, held_out, strict=True):
        common = set(part.planes) & set(other.planes)
        if common and asked:
            raise InputError(
                f"Frame {min(common)[0]} of {part.image.url} is in --frames and in --validate-frames; held-out frames "
                "are not learned from. Choose ranges without common frames."
            )
        made.append(replace(part, planes=tuple(plane for plane in part.planes if plane not in common)))
    return made

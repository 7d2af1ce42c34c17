"""Selection of training frames and held-out frames."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from cellscale.errors import InputError, MissingError
from cellscale.ngff.frame_ranges import annotated_among, ranges
from cellscale.ngff.image import NgffImage, list_images, open_image
from cellscale.ngff.labels import LabelLayer, list_labels, open_labels
from cellscale.settings.frame_range import Frames, chosen_frames
from cellscale.training.frames import TrainingData

log = logging.getLogger("cellscale")


def check_frame(image: NgffImage, layer: LabelLayer) -> None:
    """Refuse a label layer whose pixels do not match those of its image.

    Raises
    ------
    InputError
        If slices, height or width differ, or the layer's translation does.
    """
    sizes = [tuple(found.size(axis) for axis in "zyx") for found in (image, layer)]
    if sizes[0] != sizes[1]:
        coarse = sizes[1][0] == sizes[0][0] and sizes[1][1] < sizes[0][1]
        made = f"Make one of its size with `cellscale upsample-labels`{'' if coarse else ', if it is coarser'}"
        raise InputError(
            f"Layer {layer.name!r} is {_size(sizes[1])} px (z, y, x), its image {image.url} is {_size(sizes[0])} px. "
            f"Training needs a label for each pixel. {made}, or choose another layer."
        )
    down, right = (_shift_px(image, layer, axis) for axis in "yx")
    if max(abs(down), abs(right)) >= 0.5:
        raise InputError(
            f"Layer {layer.name!r} begins {down:g} px below and {right:g} px right of its image {image.url}; expected "
            "the same place. Correct its translation, or choose another layer."
        )


def _size(sides: Sequence[int]) -> str:
    return " × ".join(map(str, sides))


def _shift_px(image: NgffImage, layer: LabelLayer, axis: str) -> float:
    """Offset of the layer's first pixel from the image's along an axis, px; 0 for a layer without a translation."""
    if not any(layer.levels[0].translation):
        return 0.0
    starts = [found.levels[0].translation[found.axes.index(axis)] for found in (image, layer)]
    return (starts[1] - starts[0]) / image.levels[0].scale[image.axes.index(axis)]


def labelled_images(
    urls: Sequence[str], layer: str, storage_options: Mapping[str, Any] | None = None
) -> list[NgffImage]:
    """Open images, and of collections of images all that have a label layer.

    Parameters
    ----------
    urls : sequence of str
        Images, plates, wells and collections.
    layer : str
        Name of the layer; an image that is given by itself need not have it.
    storage_options : mapping, optional
        For fsspec.

    Raises
    ------
    MissingError
        If no image of a collection has the layer.
    """
    opened = []
    for url in urls:
        listed = list_images(url, storage_options=storage_options)
        inner = [one for one in listed if layer in list_labels(one, storage_options=storage_options)]
        if len(listed) != 1 and not inner:
            raise MissingError(f"None of the {len(listed)} images of {url} has the label layer {layer!r}.")
        chosen = listed if len(listed) == 1 else inner
        opened += [open_image(one, storage_options=storage_options) for one in chosen]
    return opened


def training_data(image: NgffImage, layer: str, channels: int, frames: Frames = None) -> TrainingData:
    """Return the frames of a range that have labels, each slice separately, with the first `channels` channels.

    A layer written by cellscale lists its annotated frames, including empty ones. Without a list, frames without a
    label are skipped with a warning: they may be empty or not annotated.

    Raises
    ------
    MissingError
        If there is no such layer, or no frame of the range has labels.
    """
    truth = open_labels(image.url, layer, storage_options=image.storage_options)
    check_frame(image, truth)
    chosen = annotated_among(truth, chosen_frames(frames, image.size("t"), image.url))
    if max(chosen) >= truth.size("t"):
        raise InputError(
            f"Layer {layer!r} of {image.url} has {truth.size('t')} frames; frame {max(chosen)} was asked for. "
            "Choose frames among them."
        )
    chosen = chosen if "frames" in truth.metadata else _not_empty(truth, chosen)
    planes = tuple((t, z) for t in chosen for z in range(image.size("z")))
    return TrainingData(image=image, labels=truth, planes=planes, channels=tuple(range(channels)))


def _not_empty(layer: LabelLayer, frames: list[int]) -> list[int]:
    """The frames that have a label; all if none has."""
    found = [t for t in frames if _has_labels(layer, t)]
    if found and len(found) < len(frames):
        empty = ranges([t for t in frames if t not in set(found)])
        log.warning(
            "%s does not name its annotated frames; frames %s without a label are skipped. If they were annotated and "
            'have no cells, list all annotated frames in the layer\'s attributes: {"cellscale": {"frames": [...]}}',
            layer.url,
            empty,
        )
    return found or frames


def _has_labels(layer: LabelLayer, t: int) -> bool:
    boxes = [(box, z) for z in range(layer.size("z")) for box in layer.shards()]
    return any(layer.read(box, t=t, z=z).any() for box, z in boxes)


def held_out_images(
    validation: Sequence[NgffImage], learn: Sequence[NgffImage], layer: str, channels: int
) -> list[TrainingData]:
    """All annotated frames of images that are held out whole.

    Raises
    ------
    InputError
        If an image is in both lists.
    """
    common = {image.url for image in validation} & {image.url for image in learn}
    if common:
        raise InputError(
            f"{min(common)} is both trained on and held out by --validation. Remove it from one of them, or hold out "
            "some of its frames with --validation-frames."
        )
    return [training_data(image, layer, channels) for image in validation]


def subsample(learn: Sequence[TrainingData], count: int) -> list[TrainingData]:
    """Choose evenly spaced training frames: number ⌊(k + ½) n / count⌋ for k = 0 … count − 1.

    Parameters
    ----------
    learn : sequence of TrainingData
        n frames in total; each slice of a stack counts as a frame.
    count : int
        Number of frames to keep.

    Raises
    ------
    InputError
        If there are fewer frames, or none are to be kept.
    """
    numbered = [(i, plane) for i, part in enumerate(learn) for plane in part.planes]
    if not 1 <= count <= len(numbered):
        raise InputError(
            f"{count} training frames were asked for with --max-train-frames; {len(numbered)} have labels and are not "
            f"held out. Choose 1 to {len(numbered)}, or more --frames."
        )
    kept = [numbered[(2 * k + 1) * len(numbered) // (2 * count)] for k in range(count)]
    parts = [replace(part, planes=tuple(plane for j, plane in kept if j == i)) for i, part in enumerate(learn)]
    return [part for part in parts if part.planes]


def without(learn: Sequence[TrainingData], held_out: Sequence[TrainingData], *, asked: bool) -> list[TrainingData]:
    """Training frames that are not held out.

    Parameters
    ----------
    learn, held_out : sequence of TrainingData
        The same images in the same order; `held_out` may be empty.
    asked : bool
        Whether the training frames were given explicitly: frames in both ranges are then an error.

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
                f"Frame {min(common)[0]} of {part.image.url} is in --frames and in --validation-frames; held-out "
                "frames are not used for training. Choose ranges without common frames."
            )
        made.append(replace(part, planes=tuple(plane for plane in part.planes if plane not in common)))
    return made

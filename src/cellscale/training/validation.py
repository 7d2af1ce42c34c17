"""Held-out frames: predicted whole, decoded whole, scored against their labels."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from cellscale.arrays import Box, Candidates, Labels, Prediction, part_of
from cellscale.methods.inference import Precision, windows_to_maps
from cellscale.methods.protocol import Method, Networks
from cellscale.metrics import scores
from cellscale.tiles.candidates import owned
from cellscale.tiles.frames import whole_frame
from cellscale.tiles.windows import Windows, mirrored
from cellscale.training.frames import Frames, mapped


def padded(image: NDArray[np.float32], multiple: int) -> NDArray[np.float32]:
    """Mirror (c, y, x) at its lower and right border up to multiples of `multiple` px."""
    height, width = (-(-n // multiple) * multiple for n in image.shape[1:])
    rows, columns = mirrored(0, height, image.shape[1]), mirrored(0, width, image.shape[2])
    return image[:, rows[:, None], columns]


def frame_prediction(
    method: Method,
    networks: Networks,
    image: NDArray[np.float32],
    *,
    device: str,
    precision: Precision,
    flips: bool = False,
) -> Prediction:
    """Maps or candidates of a whole frame (c, y, x), after the intensity rule, as one window."""
    window = padded(image, method.multiple)
    found: Prediction
    (found,) = windows_to_maps(method, networks, window[None], device=device, precision=precision, flips=flips)
    if isinstance(found, Candidates):
        shape, core = (image.shape[1], image.shape[2]), max(window.shape[1:])
        one = Windows(shape=shape, core=core, multiple=method.multiple, reach=method.reach)
        return owned(found, one, 0, seam=0)
    return part_of(found, Box.of(image.shape))


def predicted(
    method: Method, networks: Networks, frames: Frames, *, device: str, precision: Precision, flips: bool = False
) -> list[tuple[Prediction, Labels]]:
    """Predictions and true labels of each frame."""
    found = []
    for image, truth in (frames[i] for i in range(len(frames))):
        seen = mapped(image, method.intensity)
        maps = frame_prediction(method, networks, seen, device=device, precision=precision, flips=flips)
        found.append((maps, truth))
    return found


def scored(method: Method, pairs: Iterable[tuple[Prediction, Labels]]) -> dict[str, float]:
    """Score the decoded predictions against the labels, all frames together."""
    return scores((truth, whole_frame(method, prediction)) for prediction, truth in pairs)

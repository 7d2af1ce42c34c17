"""Held-out frames: predicted whole, decoded whole, scored against their labels."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from cellscale.methods.inference import Precision, folded, windows_to_maps
from cellscale.methods.protocol import Method, Networks
from cellscale.metrics import scores
from cellscale.tiling.candidates import owned
from cellscale.tiling.in_memory import whole_frame
from cellscale.tiling.windows import cut, windows_of
from cellscale.training.frames import Frames, blank, mapped
from cellscale.types import Candidates, Labels, Prediction, part_of


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
    shape = (image.shape[1], image.shape[2])
    one = windows_of(method, shape, max(shape))
    window = one.window_box(0)
    found: Prediction
    seen = cut(image, window)[None]
    (found,) = windows_to_maps(method, networks, seen, device=device, precision=precision, flips=flips)
    if isinstance(found, Candidates):
        return owned(found, one, 0, seam=0)
    return part_of(found, one.core_box(0).within(window))


def predicted(
    method: Method,
    networks: Networks,
    frames: Frames,
    *,
    device: str,
    precision: Precision,
    flips: bool = False,
    unknown: int = 0,
) -> list[tuple[Prediction, Labels]]:
    """Predictions and true labels of each frame; what has the label `unknown` is blank."""
    found, quick = [], folded(networks)
    for i in range(len(frames)):
        image, labels = frames[i]
        seen, truth = blank(mapped(image, method.intensity), labels, unknown)
        maps = frame_prediction(method, quick, seen, device=device, precision=precision, flips=flips)
        found.append((maps, truth))
    return found


def scored(method: Method, pairs: Iterable[tuple[Prediction, Labels]]) -> dict[str, float]:
    """Score the decoded predictions against the labels, all frames together."""
    return scores((truth, whole_frame(method, prediction)) for prediction, truth in pairs)

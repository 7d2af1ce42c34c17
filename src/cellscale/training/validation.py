"""Held-out frames: predicted whole, decoded whole, scored against their labels."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from cellscale.arrays import Box, Labels, StoredMaps
from cellscale.methods.inference import Precision, windows_to_maps
from cellscale.methods.protocol import Method, Networks
from cellscale.metrics import scores
from cellscale.tiles.frames import whole_frame
from cellscale.tiles.windows import mirrored
from cellscale.training.frames import Frames, mapped


def padded(image: NDArray[np.float32], multiple: int) -> NDArray[np.float32]:
    """Mirror (c, y, x) at its lower and right border up to multiples of `multiple` px."""
    height, width = (-(-n // multiple) * multiple for n in image.shape[1:])
    rows, columns = mirrored(0, height, image.shape[1]), mirrored(0, width, image.shape[2])
    return image[:, rows[:, None], columns]


def frame_maps(
    method: Method, networks: Networks, image: NDArray[np.float32], *, device: str, precision: Precision
) -> StoredMaps:
    """Maps of a whole frame (c, y, x), after the intensity rule, as one window."""
    window = padded(image, method.multiple)[None]
    (maps,) = windows_to_maps(method, networks, window, device=device, precision=precision)
    inner = Box.of(image.shape).slices
    return {name: np.ascontiguousarray(values[inner]) for name, values in maps.items()}


def predicted(
    method: Method, networks: Networks, frames: Frames, *, device: str, precision: Precision
) -> list[tuple[StoredMaps, Labels]]:
    """Maps and true labels of each frame."""
    found = []
    for image, truth in (frames[i] for i in range(len(frames))):
        seen = mapped(image, method.intensity)
        found.append((frame_maps(method, networks, seen, device=device, precision=precision), truth))
    return found


def scored(method: Method, pairs: Iterable[tuple[StoredMaps, Labels]]) -> dict[str, float]:
    """Score the decoded maps against the labels, all frames together."""
    return scores((truth, whole_frame(method, maps)) for maps, truth in pairs)

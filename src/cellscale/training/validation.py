"""Validation: held-out frames are predicted, decoded and scored against their labels, large ones tile by tile."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cellscale.methods.inference import Precision, fuse_batchnorm, windows_to_maps
from cellscale.methods.protocol import Method, Networks
from cellscale.metrics import scores
from cellscale.tiling.candidates import owned
from cellscale.tiling.in_memory import whole_frame
from cellscale.tiling.windows import cut, windows_of
from cellscale.training.crops import Crops
from cellscale.training.frames import Frames, StoredFrames, tiles_of
from cellscale.types import Box, Candidates, Labels, Prediction, part_of

TUNING_PX = 2**26
"""Greatest number of pixels on which thresholds are calibrated, in evenly spaced held-out tiles if there are more."""


@dataclass(frozen=True, kw_only=True)
class Inference:
    """Parameters of the prediction of held-out frames."""

    device: str
    precision: Precision
    flips: bool = False
    """Whether the mean over a frame's four flips is taken."""


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


def held_out_tiles(frames: StoredFrames) -> list[tuple[int, Box]]:
    """Frames by number, each whole, or in tiles where it is large: tiles cut cells, in the ground truth too."""
    return [(index, box) for index in range(len(frames)) for box in tiles_of(frames.shape(index))]


def tuning_tiles(tiles: Sequence[tuple[int, Box]]) -> list[tuple[int, Box]]:
    """All of these, or evenly spaced ones of about TUNING_PX together."""
    step = math.ceil(sum(box.area for _, box in tiles) / TUNING_PX)
    return list(tiles[step // 2 :: max(1, step)])


def predictions(
    method: Method, networks: Networks, crops: Crops, tiles: Iterable[tuple[int, Box]], how: Inference
) -> Iterator[tuple[Prediction, Labels]]:
    """Yield predictions and true labels of tiles; a tile is predicted with its surroundings."""
    quick = fuse_batchnorm(networks)
    # Tiles then begin at the same pixels as the pooling of the whole frame.
    halo = -(-method.reaches.reach // method.reaches.multiple) * method.reaches.multiple
    for index, box in tiles:
        seen = box.grow(halo).clip(Box.of(crops.frames.shape(index)))
        image, labels = crops.read(index, seen)
        maps = frame_prediction(method, quick, image, device=how.device, precision=how.precision, flips=how.flips)
        within = box.within(seen)
        yield part_of(maps, within), np.ascontiguousarray(labels[within.slices])


def predicted(
    method: Method,
    networks: Networks,
    frames: Frames,
    *,
    device: str,
    precision: Precision,
    flips: bool = False,
    ignore_label: int = 0,
) -> list[tuple[Prediction, Labels]]:
    """Yield predictions and true labels of each frame; pixels with the label `ignore_label` are blank."""
    crops = Crops(frames, method.intensity, 0, ignore_label=ignore_label)
    how = Inference(device=device, precision=precision, flips=flips)
    return list(predictions(method, networks, crops, held_out_tiles(crops.frames), how))


def calibrated(
    method: Method,
    frames: StoredFrames,
    predict: Callable[[Sequence[tuple[int, Box]]], Iterator[tuple[Prediction, Labels]]],
) -> tuple[Method, dict[str, float]]:
    """Fit the method's thresholds on held-out frames, whose tiles `predict` predicts; return it and its scores."""
    tiles = held_out_tiles(frames)
    chosen = tuning_tiles(tiles)
    pairs = list(predict(chosen))
    fitted = method.calibrate(pairs)
    return fitted, scored(fitted, pairs if chosen == tiles else predict(tiles))


def scored(method: Method, pairs: Iterable[tuple[Prediction, Labels]]) -> dict[str, float]:
    """Score the decoded predictions against the labels, all frames together."""
    return scores((truth, whole_frame(method, prediction)) for prediction, truth in pairs)

"""Score a label layer against another, frame by frame."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from cellscale import metrics
from cellscale.errors import MissingError
from cellscale.metrics import Scores
from cellscale.ngff.frame_ranges import annotated, annotated_among, ranges
from cellscale.ngff.label_pair import open_pair
from cellscale.ngff.labels import LabelLayer
from cellscale.progress import Progress, silent
from cellscale.settings.frame_range import Frames, chosen_frames
from cellscale.storage.urls import Location
from cellscale.types import Box, Labels

log = logging.getLogger("cellscale")
_LARGEST = (2**16 - 1, 2**32 - 1)
"""Largest labels of the usual types: programs write them into pixels that nobody annotated."""


def _scored(found: LabelLayer, true: LabelLayer, frames: range) -> list[int]:
    """Frames that have ground truth; each must have been segmented."""
    chosen = annotated_among(true, frames)
    segmented = annotated(found, range(found.size("t")))
    outside = sorted({*chosen} - {*segmented})
    if outside:
        raise MissingError(
            f"Frame {outside[0]} was not segmented in layer {found.name!r}, which has {ranges(segmented)}. "
            "Choose --frames among these, or segment the others."
        )
    return chosen


def count_layers(
    found: LabelLayer, true: LabelLayer, frames: range, *, ignore_label: int = 0, on_progress: Progress = silent
) -> tuple[int, metrics.FrameScores]:
    """Compute the counts for scores in every plane that has ground truth, tile by tile; only counts are held.

    Parameters
    ----------
    found, true : LabelLayer
        The layer to score, and the ground truth, of equal size, see `open_pair`.
    frames : range
        Frames to score.
    ignore_label : int
        Label of pixels of the ground truth that were not annotated: they are background in both layers; 0: there are
        none.
    on_progress : callable
        Called with step, done and total.

    Returns
    -------
    tuple
        Number of frames, and the sum of their counts.

    Raises
    ------
    MissingError
        If no frame has ground truth, or a frame with ground truth was not segmented.
    """
    chosen = _scored(found, true, frames)
    slices, height, width = (found.size(axis) for axis in "zyx")
    largest = {0}

    def read(box: Box, t: int, z: int) -> tuple[Labels, Labels]:
        truth, prediction = (layer.read(box, t=t, z=z) for layer in (true, found))
        largest.add(int(truth.max()))
        hidden = (truth == ignore_label) & (ignore_label > 0)
        return np.where(hidden, np.uint32(0), truth), np.where(hidden, np.uint32(0), prediction)

    counts = []
    for done, t in enumerate(chosen, 1):
        planes = (metrics.tiled_scores(partial(read, t=t, z=z), (height, width)) for z in range(slices))
        counts.append(metrics.total(planes))
        on_progress("evaluate", done, len(chosen))
    if not ignore_label and max(largest) in _LARGEST:
        log.warning(
            "%s has the label %d, the largest of its type, which often marks pixels that nobody annotated. It was "
            "scored as a cell; --ignore-label %d leaves it out.",
            *(true.url, max(largest), max(largest)),
        )
    return len(chosen), metrics.total(counts)


def evaluate(
    image: Location,
    *,
    layer: str = "cells",
    ground_truth: str = "truth",
    ground_truth_store: Location | None = None,
    frames: Frames = None,
    ignore_label: int = 0,
    storage_options: Mapping[str, Any] | None = None,
    on_progress: Progress = silent,
) -> Scores:
    """Score a label layer against the ground truth, frame by frame, and slice by slice where there are several.

    Parameters
    ----------
    image : str or path
        URL of the image, or of the store that holds the layer.
    layer, ground_truth : str
        Names of the two layers.
    ground_truth_store : str
        Store of the ground truth; None: the image's own.
    frames : tuple of int
        Half-open range of frames; None: all frames that have ground truth.
    ignore_label : int
        Label of pixels of the ground truth that were not annotated: neither they nor predictions there are scored; 0:
        there are none.
    storage_options : mapping
        Options for fsspec.
    on_progress : callable
        Called with step, done and total.

    Returns
    -------
    Scores
        Scores of all cells, and the number of frames.

    Raises
    ------
    CellscaleError
        For layers or frames that do not exist, or layers of different size.

    Examples
    --------
    >>> import cellscale
    >>> scores = cellscale.evaluate("movie.zarr", layer="truth", ground_truth="truth")
    >>> scores.f1
    1.0
    """
    found, true = open_pair(
        image, layer, ground_truth, ground_truth_store=ground_truth_store, storage_options=storage_options
    )
    chosen = chosen_frames(frames, found.size("t"), found.url)
    count, counts = count_layers(found, true, chosen, ignore_label=ignore_label, on_progress=on_progress)
    return Scores.of(count, counts)

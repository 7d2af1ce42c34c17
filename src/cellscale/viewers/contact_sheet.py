"""A contact sheet: one row for each frame, with image, labels, outlines and differences from the ground truth.

A coarse level of the pyramid is enough, so that an image of any size makes a sheet in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cellscale.errors import unknown
from cellscale.kernels.touching import boundary_pixels
from cellscale.metrics import differences as outcomes
from cellscale.ngff.frame_ranges import annotated
from cellscale.ngff.image import NgffImage
from cellscale.ngff.labels import LabelLayer
from cellscale.ngff.upsampling import labels_at
from cellscale.storage.folder import check_file, write_file
from cellscale.storage.outputs import check_ending
from cellscale.storage.urls import Location, url_of
from cellscale.types import Box, Image, Labels
from cellscale.viewers.pictures import colours, grey, sheet
from cellscale.viewers.scenes import TRUTH, Scene, scene

SHADES = {
    outcomes.TRUE_POSITIVE: (0.35, 0.45, 0.35),
    outcomes.FALSE_NEGATIVE: (0.15, 0.45, 1.0),
    outcomes.SPLIT: (1.0, 0.6, 0.0),
    outcomes.MERGED: (0.9, 0.2, 0.9),
    outcomes.FALSE_POSITIVE: (1.0, 0.15, 0.15),
}
"""Colour of each outcome."""
OUTLINE = (1.0, 0.8, 0.0)
LARGEST_PX = 4096
"""Side of the middle part that is read if even the coarsest level is larger, px."""


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """Result of drawing a contact sheet."""

    picture: str
    """URL of the PNG."""
    level: int
    """Level of the image's pyramid."""
    layer: str | None
    """Name of the layer that is drawn; None: the image has none."""
    ground_truth: str | None
    """Name of the layer that it is compared with; None: no layer."""
    frames: Mapping[int, Mapping[str, int]]
    """Number of cells at that level by outcome, for each frame; empty without truth."""


def coarse_level(image: NgffImage, longest: int) -> int:
    """The finest level whose sides are at most `longest` px, or the coarsest."""
    sides = [max(image.plane_shape(level)) for level in range(len(image.levels))]
    return next((level for level, side in enumerate(sides) if side <= longest), len(sides) - 1)


def _middle(image: NgffImage, level: int) -> Box:
    """The part of a level that is drawn: all of it unless it is very large."""
    whole = Box.of(image.plane_shape(level))
    y, x = whole.y1 // 2, whole.x1 // 2
    return Box(y, x, y, x).grow(LARGEST_PX // 2).clip(whole)


def _row(pixels: Image, found: Labels | None, true: Labels | None) -> tuple[dict[str, Image], Mapping[str, int]]:
    """The pictures of a frame by title, and its cells by outcome."""
    row = {"image": grey(pixels)}
    counts: Mapping[str, int] = {}
    if found is not None:
        row |= {
            "labels": colours(found),
            "outlines": np.where(boundary_pixels(found)[..., None], OUTLINE, row["image"]),
        }
    if found is not None and true is not None:
        compared = outcomes.differences(true, found)
        counts = compared.counts
        table = np.array([(0, 0, 0), *(SHADES[outcome] for outcome in sorted(SHADES))])
        painted = np.where(boundary_pixels(true)[..., None], 1.0, table[compared.pixels])
        wrong = ", ".join(f"{count} {name}" for name, count in counts.items() if name != "true positive" and count)
        row[wrong or "no differences"] = painted
    return row, counts


def _chosen(shown: Scene, labels: str | None, truth: str) -> tuple[LabelLayer | None, LabelLayer | None]:
    """The layer to show and the ground truth to compare it with; None if it does not exist."""
    layers = {layer.name: layer for layer in shown.labels}
    if labels is not None and labels not in layers:
        raise unknown("label layer", labels, layers, of=shown.image.url)
    true = layers.pop(truth, None)
    found = layers.get(labels) if labels is not None else next(reversed(layers.values()), None)
    return (true, None) if found is None else (found, true)


def _frames(image: NgffImage, layer: LabelLayer | None, frames: Sequence[int] | None, count: int) -> list[int]:
    """Frames to draw; if none are named, `count` evenly spaced ones of those with labels."""
    if frames is not None:
        return list(frames)
    whole = range(image.size("t"))
    known = (annotated(layer, whole) if layer else None) or whole
    even = np.linspace(0, len(known) - 1, min(count, len(known))).round().astype(int)
    return [int(known[i]) for i in even]


def preview(
    image: Location,
    *,
    output: Location = "preview.png",
    layer: str | None = None,
    ground_truth: str = TRUTH,
    labels_store: Location | None = None,
    frames: Sequence[int] | None = None,
    count: int = 4,
    channel: int = 0,
    z: int = 0,
    longest: int = 1024,
    storage_options: Mapping[str, Any] | None = None,
) -> Sheet:
    """Draw frames of an image, a label layer, its outlines and its differences from the ground truth.

    Parameters
    ----------
    image : str or path
        URL of the image.
    output : str or path
        The PNG, any fsspec URL.
    layer : str, optional
        Layer to show; None: the last one that is not the ground truth, or the ground truth if there is no other.
    ground_truth : str
        Layer to compare with, if there is one of this name.
    labels_store : str, optional
        Another store that holds label layers of the image.
    frames : sequence of int, optional
        Frames to draw; None: `count` evenly spaced ones of those that have labels.
    count : int
        Number of frames.
    channel, z : int
        Channel and slice.
    longest : int
        Longest side, px: the finest level of the pyramid within it is drawn, or the coarsest.
    storage_options : mapping, optional
        For fsspec.

    Returns
    -------
    Sheet
        Place of the picture, and the cells by outcome for each frame.

    Raises
    ------
    CellscaleError
        For an image, layer, frame, slice or channel that does not exist, or a picture that cannot be written or does
        not end with .png.

    Examples
    --------
    >>> import cellscale
    >>> sheet = cellscale.preview("movie.zarr", output="preview.png", count=1)
    >>> sheet.layer, sheet.ground_truth
    ('cells', 'truth')
    """
    output = url_of(output, "output")
    check_ending(output, "picture", ".png")
    shown = scene(image, labels_store=labels_store, z=z, storage_options=storage_options)
    check_file(output, [url_of(place) for place in (image, labels_store) if place is not None], storage_options)
    found, true = _chosen(shown, layer, ground_truth)
    level = coarse_level(shown.image, longest)
    box, rows, counts = _middle(shown.image, level), {}, {}
    for t in _frames(shown.image, found, frames, count):
        pixels = shown.image.read(box, t=t, z=z, channels=[channel], level=level)[0]
        drawn = [labels_at(one, shown.image, level, box, t=t, z=z) if one else None for one in (found, true)]
        rows[f"frame {t}"], counts[t] = _row(pixels, *drawn)
    legend = {name: SHADES[outcome] for outcome, name in outcomes.NAMES.items()} if found and true else {}
    write_file(output, sheet(rows, legend), storage_options)
    names = [one.name if one else None for one in (found, true)]
    return Sheet(picture=output, level=level, layer=names[0], ground_truth=names[1], frames=counts)

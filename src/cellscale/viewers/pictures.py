"""Pictures of frames and labels, as PNG."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from cellscale.kernels.touching import boundary_pixels
from cellscale.types import Image, Labels

GOLDEN = 0.618033988749895
"""Steps of this share of the colour circle keep neighbouring numbers apart."""


def colours(labels: Labels) -> NDArray[np.float32]:
    """A colour for each label, black for background, the same label always the same colour: (y, x, 3) in [0, 1]."""
    hue = (labels * GOLDEN) % 1.0
    channels = [np.abs((hue + shift) % 1.0 * 6 - 3) - 1 for shift in (0.0, 2 / 3, 1 / 3)]
    light = 0.35 + 0.65 * np.clip(np.stack(channels, axis=-1), 0, 1)
    return np.where(labels[..., None] > 0, light, 0).astype(np.float32)


def grey(image: Image) -> NDArray[np.float32]:
    """Stretch (y, x) between its 1st and 99.5th percentile, as (y, x, 3) in [0, 1]."""
    values = image.astype(np.float64)
    low, high = np.percentile(values, (1, 99.5))
    stretched = np.clip((values - low) / max(high - low, 1e-9), 0, 1)
    return np.repeat(stretched[..., None], 3, axis=-1).astype(np.float32)


def panels(image: Image, layers: Mapping[str, Labels]) -> bytes:
    """Draw a frame and its label layers side by side, each layer's cells outlined on the image below: PNG.

    Parameters
    ----------
    image : array, (y, x)
        Intensities.
    layers : mapping of str to uint32 arrays, (y, x)
        Label images by title.
    """
    tops = {"image": grey(image), **{title: colours(labels) for title, labels in layers.items()}}
    outlined = [
        np.where(boundary_pixels(labels)[..., None], [1.0, 0.8, 0.0], grey(image)) for labels in layers.values()
    ]
    figure = Figure(figsize=(4 * len(tops), 8.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(tops), squeeze=False)
    for panel, (title, pixels) in zip(axes[0], tops.items(), strict=True):
        panel.imshow(pixels, interpolation="nearest")
        panel.set_title(title)
    for panel, pixels in zip(axes[1][1:], outlined, strict=True):
        panel.imshow(pixels, interpolation="nearest")
    for panel in axes.flat:
        panel.axis("off")
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=90)
    return content.getvalue()


def sheet(
    rows: Mapping[str, Mapping[str, Image]], legend: Mapping[str, tuple[float, float, float]], *, side: float = 3.5
) -> bytes:
    """Draw pictures in rows and columns: PNG.

    Parameters
    ----------
    rows : mapping of str to mappings of str to arrays, (y, x, 3) in [0, 1]
        Pictures by the title of their column, by the title of their row.
    legend : mapping of str to colours
        Shown below; nothing is shown for none.
    side : float
        Width of a picture, inches of 90 px.
    """
    height, width = next(iter(next(iter(rows.values())).values())).shape[:2]
    columns = max(len(row) for row in rows.values())
    figure = Figure(figsize=(side * columns, (side * height / width + 0.35) * len(rows) + 0.3), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for panel in axes.flat:
        panel.axis("off")
    for line, (name, row) in zip(axes, rows.items(), strict=True):
        for panel, (title, pixels) in zip(line, row.items(), strict=False):
            panel.imshow(pixels, interpolation="nearest")
            panel.set_title(f"{name}: {title}" if name else title, fontsize=9)
    patches = [Patch(facecolor=colour, label=name) for name, colour in legend.items()]
    if patches:
        figure.legend(handles=patches, loc="outside lower center", ncols=len(patches), fontsize=9)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=90)
    return content.getvalue()


def plate_of_counts(counts: Mapping[str, int], title: str) -> bytes:
    """Draw a number for each well, rows by columns, with its place on a scale of colours: PNG.

    Parameters
    ----------
    counts : mapping of str to int
        By ROW/COLUMN; names without a row stand in one row. Wells that are not named stay empty.
    title : str
        Shown above.
    """
    places = {name: name.rpartition("/")[::2] for name in counts}
    rows, columns = (sorted({place[axis] for place in places.values()}, key=_by_number) for axis in (0, 1))
    values = np.full((len(rows), len(columns)), np.nan)
    figure = Figure(figsize=(1.5 + 0.8 * len(columns), 1.2 + 0.8 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    for name, (row, column) in places.items():
        y, x = rows.index(row), columns.index(column)
        values[y, x] = counts[name]
        panel.text(x, y, str(counts[name]), ha="center", va="center", fontsize=9)
    shown = panel.imshow(values, cmap="YlGn", vmin=0)
    figure.colorbar(shown, ax=panel)
    panel.set_xticks(range(len(columns)), columns)
    panel.set_yticks(range(len(rows)), rows)
    panel.set_title(title, fontsize=9)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=90)
    return content.getvalue()


def _by_number(name: str) -> tuple[int, str]:
    """Sort 2 before 10, and B before AA."""
    return (int(name) if name.isdecimal() else len(name), name)

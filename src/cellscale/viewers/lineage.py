"""A picture of lineages: tracks over time, with divisions."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cellscale.types import Table
from cellscale.viewers.pictures import colours

MOST_FAMILIES = 60
"""Families that a picture shows: more of them cannot be told apart."""


def lineage_picture(tracks: Table, *, families: int = MOST_FAMILIES, form: str = "png") -> bytes:
    """Draw tracks as horizontal lines over frames, mothers joined to their daughters.

    Parameters
    ----------
    tracks : Table
        track, begin, end (first and last frame) and parent (0: none).
    families : int
        Most families that are drawn, those with the most tracks first, then the longest.
    form : str
        "png" or "svg".

    Returns
    -------
    bytes
        The picture. A track has the colour that its label has in other pictures.
    """
    rows = {int(track): row for row, track in enumerate(tracks["track"])}
    daughters: dict[int, list[int]] = {}
    for track, parent in zip(tracks["track"].tolist(), tracks["parent"].tolist(), strict=True):
        daughters.setdefault(parent, []).append(track)
    shown = sorted(daughters.get(0, []), key=lambda root: _weight(root, daughters, tracks, rows))[:families]
    heights: dict[int, float] = {}
    for root in shown:
        _place(root, daughters, heights)
    order = sorted(heights, key=lambda track: rows[track])
    begin, end = (np.array([tracks[side][rows[track]] for track in order]) for side in ("begin", "end"))
    y = np.array([heights[track] for track in order])
    figure = Figure(figsize=(10, 1.2 + 0.14 * max(8, len(order))), layout="constrained")
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    ids = np.array(order, np.uint32).reshape(1, -1)
    lines = [[(a - 0.45, at), (b + 0.45, at)] for a, b, at in zip(begin, end, y, strict=True)]
    panel.add_collection(LineCollection(lines, colors=colours(ids)[0] if order else [], linewidths=2.5))
    panel.add_collection(LineCollection(_joints(order, daughters, heights, tracks, rows), colors="0.4", linewidths=0.8))
    panel.set_xlim(-1, float(tracks["end"].max(initial=0)) + 1)
    panel.set_ylim(-1, float(y.max(initial=0)) + 1)
    panel.set_xlabel("frame")
    panel.set_yticks([])
    panel.set_title(_title(len(shown), len(daughters.get(0, [])), len(order)), fontsize=9)
    content = io.BytesIO()
    # Without a date, the same tracks give the same bytes.
    figure.savefig(content, format=form, dpi=110, metadata={"Date": None} if form == "svg" else None)
    return content.getvalue()


def _title(shown: int, families: int, tracks: int) -> str:
    return f"{tracks} tracks of {shown} families" + (f", of {families}" if families > shown else "")


def _family(root: int, daughters: Mapping[int, Sequence[int]]) -> list[int]:
    """Tracks of a family, mothers before daughters."""
    family = [root]
    for track in family:
        family += daughters.get(track, [])
    return family


def _weight(root: int, daughters: Mapping[int, Sequence[int]], tracks: Table, rows: Mapping[int, int]) -> Any:
    """Sorts large families first, of equal ones the longest, then the first."""
    family = [rows[track] for track in _family(root, daughters)]
    span = int(tracks["end"][family].max()) - int(tracks["begin"][family].min())
    return -len(family), -span, root


def _place(root: int, daughters: Mapping[int, Sequence[int]], heights: dict[int, float]) -> None:
    """Put the leaves of a family into lines of their own, and each mother in the middle of her daughters."""
    line = max(heights.values(), default=-1.0) + 1.5
    for track in _leaves(root, daughters):
        heights[track] = line
        line += 1.0
    for track in reversed(_family(root, daughters)):
        if daughters.get(track):
            heights[track] = float(np.mean([heights[daughter] for daughter in daughters[track]]))


def _leaves(root: int, daughters: Mapping[int, Sequence[int]]) -> list[int]:
    """Tracks of a family without daughters, so that no two lines of a picture cross."""
    stack, leaves = [root], []
    while stack:
        track = stack.pop()
        stack += reversed(daughters.get(track, []))
        if not daughters.get(track):
            leaves.append(track)
    return leaves


def _joints(
    order: Sequence[int],
    daughters: Mapping[int, Sequence[int]],
    heights: Mapping[int, float],
    tracks: Table,
    rows: Mapping[int, int],
) -> list[NDArray[np.float64]]:
    """Lines from the ends of mothers to the beginnings of their daughters."""
    return [
        np.array(
            [
                (tracks["end"][rows[mother]] + 0.45, heights[mother]),
                (tracks["begin"][rows[track]] - 0.45, heights[track]),
            ]
        )
        for mother in order
        for track in daughters.get(mother, [])
    ]

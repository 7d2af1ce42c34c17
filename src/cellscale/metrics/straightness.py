"""Seam quality: cell borders that run straight along given lines, compared with lines near them.

Where tiles or windows cut cells, borders of labels lie exactly on their lines, over many pixels. A pixel of a line is a
border pixel where the labels on both sides of the line differ. All counts are whole numbers and add up over any
division of a frame into boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellscale.types import Box, Labels

RUN = 8
"""Border pixels in a row that make a straight run."""
RESAMPLES = 2000
"""Draws of the bootstrap."""


def lines_beside(lines: Sequence[int], size: int, seed: int = 0) -> list[tuple[int, int]]:
    """Pair lines of an axis with a line drawn from the middle half of the gap to the next one, or to the axis' end.

    Parameters
    ----------
    lines : sequence of int
        Line y lies between pixels y − 1 and y, px; ascending.
    size : int
        Length of the axis, px.
    seed : int
        The pairs follow from it and from the lines.

    Returns
    -------
    list of tuple of int
        Line and its partner; lines without room for one are left out.
    """
    draws = np.random.default_rng(seed).random(len(lines))
    gaps = [stop - line for line, stop in zip(lines, [*lines[1:], size], strict=False)]
    return [
        (line, line + max(1, gap // 4) + int(draw * (gap // 2)))
        for line, gap, draw in zip(lines, gaps, draws, strict=True)
        if gap >= 2
    ]


def straight_pixels(labels: Labels, seen: Box, box: Box, lines: Sequence[int]) -> NDArray[np.int64]:
    """Count border pixels on horizontal lines in a box; for vertical lines, transpose.

    Parameters
    ----------
    labels : uint32 array, (y, x)
        Labels of `seen`: the box and, inside the frame, RUN px above and to the left of it.
    seen : Box
        Box of the labels in the frame, px.
    box : Box
        The pixels that count.
    lines : sequence of int
        Rows y of the frame whose upper border is looked at.

    Returns
    -------
    int64 array, (lines, 2)
        Border pixels on runs of at least RUN px, and all border pixels. A run that continues in the next box is counted
        there: RUN at the pixel that makes it long enough, then one for each pixel.
    """
    counts = np.zeros((len(lines), 2), np.int64)
    for i, y in enumerate(lines):
        if box.y0 <= y < box.y1 and y > seen.y0:
            border = labels[y - 1 - seen.y0] != labels[y - seen.y0]
            total = np.concatenate([np.zeros(RUN + 1, np.int64), np.cumsum(border)])
            long = total[RUN + 1 :] - total[1:-RUN] == RUN
            begins = long & ~np.concatenate([[False], long[:-1]])
            mine = slice(box.x0 - seen.x0, box.x1 - seen.x0)
            counts[i] = (long + (RUN - 1) * begins)[mine].sum(), border[mine].sum()
    return counts


def seam_quality(counts: NDArray[np.int64], seed: int = 0) -> dict[str, Any]:
    """Compare straight borders on lines with those on lines near them.

    Parameters
    ----------
    counts : int64 array, (lines, 4)
        For each line and its partner: pixels on long runs and border pixels, as `straight_pixels` counts them.
    seed : int
        Seed of the bootstrap over lines.

    Returns
    -------
    dict
        share and share_beside (of border pixels, those on runs of at least RUN px), border_px, border_px_beside, lines,
        difference and interval (95 % percentile bootstrap over lines with their partners); None where nothing lies
        on the lines or on those near them.
    """
    long, border, long_beside, border_beside = (int(n) for n in counts.sum(axis=0))
    found: dict[str, Any] = {"lines": len(counts), "border_px": border, "border_px_beside": border_beside}
    if not border or not border_beside:
        return found | dict.fromkeys(("share", "share_beside", "difference", "interval"))
    share, neighbour_share = long / border, long_beside / border_beside
    drawn = np.random.default_rng(seed).multinomial(len(counts), [1 / len(counts)] * len(counts), RESAMPLES) @ counts
    differences = drawn[:, 0] / np.maximum(drawn[:, 1], 1) - drawn[:, 2] / np.maximum(drawn[:, 3], 1)
    interval = [float(end) for end in np.percentile(differences, (2.5, 97.5))]
    return found | {
        "share": share,
        "share_beside": neighbour_share,
        "difference": share - neighbour_share,
        "interval": interval,
    }

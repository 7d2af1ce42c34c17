"""Compiled part of the two nearest labels: for each pixel, the nearest cell and the nearest other cell, in one pass.

A separable transform as in `cellscale.kernels.distances.nearest`, with two sources per column instead of one: the
nearest labelled pixel, and the nearest one with another label. Whichever label wins at a position of a row, each column
still has a source of another label to offer for the second place. Of equally near sources the first in raster order
wins. See `cellscale.kernels.distances.envelopes` for the transform along rows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cellscale.kernels.compiling import kernel
from cellscale.kernels.distances.envelopes import FAR, LABEL, NONE, ROW, SQUARED, Span, envelope
from cellscale.types import Labels


@kernel
def _two_above(labels: Labels, first: Labels, row1: NDArray[np.int32], second: Labels, row2: NDArray[np.int32]) -> None:
    """Write labels and rows (y, x) of the two nearest different labels at or above each pixel; NONE for no row."""
    height, width = labels.shape
    seen = np.full((4, width), NONE, np.int64)
    for y in range(height):
        for x in range(width):
            _note_label(seen, x, labels[y, x], y)
            first[y, x], row1[y, x] = max(seen[0, x], 0), seen[1, x]
            second[y, x], row2[y, x] = max(seen[2, x], 0), seen[3, x]


@kernel
def _note_label(seen: NDArray[np.int64], x: int, label: int, y: int) -> None:
    """Update the two last different labels of column x with pixel (y, x); `seen` (4, x): label, row, label, row."""
    if label > 0:
        if label != seen[0, x]:
            seen[2, x], seen[3, x] = seen[0, x], seen[1, x]
            seen[0, x] = label
        seen[1, x] = y


@kernel
def _row_distance(y: int, row: int) -> int:
    """Return the distance between two rows, FAR if the second is NONE."""
    return abs(y - row) if row != NONE else FAR


@kernel
def _squared(y: int, row: int) -> int:
    """Return the squared distance between two rows, NONE if the second is NONE."""
    return (row - y) * (row - y) if row != NONE else NONE


@kernel
def _two_in_columns(
    y: int, above: NDArray[np.int64], below: NDArray[np.int64], first: NDArray[np.int64], second: NDArray[np.int64]
) -> None:
    """Merge the two nearest labels above row y and below it (each label, row, label, row) into two tables of sources.

    Parameters
    ----------
    y : int
        The row.
    above, below : int64 array, (4, x)
        The two nearest different labels of each column at or above row y, and at or below it.
    first, second : int64 array, (3, x)
        Get each column's nearest label and its nearest other label. Of equally near rows the upper one comes first.
    """
    # Selections instead of branches: the compiler handles several columns at a time.
    for x in range(above.shape[1]):
        upper, other = _row_distance(y, above[1, x]) <= _row_distance(y, below[1, x]), above[0, x] != below[0, x]
        row = above[1, x] if upper else below[1, x]
        first[LABEL, x] = above[0, x] if upper else below[0, x]
        first[ROW, x], first[SQUARED, x] = row, _squared(y, row)
        # As in a merge of two lists: the side that gave the first label moves on to its next one. The other side keeps
        # its own unless it has the same label.
        more_above, more_below = other and not upper, other and upper
        up, down = above[1, x] if more_above else above[3, x], below[1, x] if more_below else below[3, x]
        label_up, label_down = above[0, x] if more_above else above[2, x], below[0, x] if more_below else below[2, x]
        upper = _row_distance(y, up) <= _row_distance(y, down)
        row = up if upper else down
        second[LABEL, x] = label_up if upper else label_down
        second[ROW, x], second[SQUARED, x] = row, _squared(y, row)


@kernel
def _write(
    sources: NDArray[np.int64], stack: NDArray[np.int64], n: int, positions: tuple[int, int], out: NDArray[np.int64]
) -> None:
    """Write label, column and squared distance, (3, x), of the winners of an envelope of n columns.

    `positions` are the first position and the last + 1.
    """
    a, b = positions
    if n == 0:
        out[0, a:b], out[1, a:b], out[2, a:b] = 0, NONE, FAR
    for k in range(n):
        column = stack[0, k]
        for x in range(stack[1, k], stack[1, k + 1] if k + 1 < n else b):
            out[0, x] = sources[LABEL, column]
            out[1, x] = column
            out[2, x] = (x - column) * (x - column) + sources[SQUARED, column]


@kernel
def _second_in_row(
    first: NDArray[np.int64], second: NDArray[np.int64], winners: NDArray[np.int64], out: NDArray[np.int64]
) -> None:
    """Find, for each position of a row, the nearest label other than the winner's.

    Where label A wins from a to b − 1, every column offers its nearest source that is not A's. Only the columns from
    the winner w at a − 1 to the winner at b compete: w has another label than A, and a column c < w lost to w at a − 1;
    two parabolas cross once, so c loses to w everywhere to the right of that, and likewise at the other end. Winning
    columns ascend along a row, so these ranges overlap only in their ends, and the row takes linear time.

    Parameters
    ----------
    first, second : int64 array, (3, x)
        Each column's nearest label and its nearest other label, from `_two_in_columns`.
    winners : int64 array, (3, x)
        Label, column and squared distance of the nearest label at each position.
    out : int64 array, (3, x)
        Gets the same of the second nearest.
    """
    width = winners.shape[1]
    sources, stack = np.zeros((3, width), np.int64), np.zeros((2, width), np.int64)
    a = 0
    while a < width:
        b = a + 1
        while b < width and winners[0, b] == winners[0, a]:
            b += 1
        begin = winners[1, a - 1] if a > 0 else 0
        end = winners[1, b] + 1 if b < width else width
        for x in range(begin, end):
            other = first[LABEL, x] == winners[0, a]
            sources[LABEL, x] = second[LABEL, x] if other else first[LABEL, x]
            sources[ROW, x] = second[ROW, x] if other else first[ROW, x]
            sources[SQUARED, x] = second[SQUARED, x] if other else first[SQUARED, x]
        n = envelope(sources, Span(begin, end, a, b), 1, stack)
        _write(sources, stack, n, (a, b), out)
        a = b


@kernel
def two_nearest(
    labels: Labels, label1: Labels, squared1: NDArray[np.int32], label2: Labels, squared2: NDArray[np.int32]
) -> None:
    """Write the two nearest different labels and their squared distances, all (y, x); 0 and FAR where there is none."""
    height, width = labels.shape
    # Downwards: the two labels above each pixel. `squared1` and `squared2` hold their rows until the upward pass, which
    # collects the two labels below and finishes row by row.
    _two_above(labels, label1, squared1, label2, squared2)
    above, below = np.zeros((4, width), np.int64), np.full((4, width), NONE, np.int64)
    first, second = np.zeros((3, width), np.int64), np.zeros((3, width), np.int64)
    winners, followers = np.zeros((3, width), np.int64), np.zeros((3, width), np.int64)
    stack = np.zeros((2, width), np.int64)
    for y in range(height - 1, -1, -1):
        above[0], above[1], above[2], above[3] = label1[y], squared1[y], label2[y], squared2[y]
        _two_in_columns(y, above, below, first, second)
        for x in range(width):
            _note_label(below, x, labels[y, x], y)
        _write(first, stack, envelope(first, Span(0, width, 0, width), 1, stack), (0, width), winners)
        _second_in_row(first, second, winners, followers)
        label1[y], squared1[y], label2[y], squared2[y] = winners[0], winners[2], followers[0], followers[2]

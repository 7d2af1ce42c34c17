"""Lower envelopes of parabolas: which column's source is the nearest at each position of a row.

Let f(c) be the squared distance of column c to its nearest source within the column. At position x of the row that
source is at the squared distance step · (x − c)² + f(c), a parabola in x. All parabolas have the same opening, so two
of them cross exactly once, also under the strict order (distance, source row, source column): the envelope is found
with one stack, and ties are resolved exactly. All numbers are integers.

P. Felzenszwalb and D. Huttenlocher, Distance transforms of sampled functions, Theory of Computing 8, 2012.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cellscale.kernels.compiling import kernel
from cellscale.types import Labels

FAR = np.iinfo(np.int32).max
"""Squared distance of a pixel in an image without sources."""
NONE = -1
"""Squared distance or row of a column without a source."""
LABEL, ROW, SQUARED = 0, 1, 2
"""Rows of a table of sources, int64 (3, x): label, row and squared distance of each column's nearest source."""


class Span(NamedTuple):
    """Columns that compete, and positions of the row for which they do."""

    begin: int
    """First column whose source competes."""
    end: int
    """Last such column + 1."""
    first: int
    """First position x that is decided."""
    stop: int
    """Last such position + 1."""


@kernel
def _crossing(sources: NDArray[np.int64], i: int, u: int, step: int) -> int:
    """Return the numerator n of the crossing of two columns i < u: i is the nearer at x while 2 step (u − i) x ≤ n.

    step (x − i)² + f(i) ≤ step (x − u)² + f(u) is equivalent to 2 step (u − i) x ≤ step (u² − i²) + f(u) − f(i). With
    equality both are equally near: the upper source wins, and in one row the left column, i. If u's source is higher,
    i must be strictly nearer, and for integers < n is ≤ n − 1.
    """
    numerator: int = step * (u * u - i * i) + sources[SQUARED, u] - sources[SQUARED, i]
    return numerator - 1 if sources[ROW, u] < sources[ROW, i] else numerator


@kernel
def envelope(sources: NDArray[np.int64], span: Span, step: int, stack: NDArray[np.int64]) -> int:
    """Find the nearest column for every position of a span; return the number n of columns that win somewhere.

    Parameters
    ----------
    sources : int64 array, (3, x)
        Table of sources. |numerator| of `_crossing` is at most twice the greatest squared distance: callers bound it.
    span : Span
        Columns that compete and positions that are decided.
    step : int
        Squared spacing of the columns.
    stack : int64 array, (2, x)
        Gets the winning columns in row 0, ascending, and in row 1 the position from which each of them wins.
    """
    n = 0
    for u in range(span.begin, span.end):
        if sources[SQUARED, u] != NONE:
            crossing, twice = 0, 1
            # Pop the columns that u beats already where they begin to win: they win nowhere.
            while n > 0:
                twice = 2 * step * (u - stack[0, n - 1])
                crossing = _crossing(sources, stack[0, n - 1], u, step)
                if crossing >= twice * stack[1, n - 1]:
                    break
                n -= 1
            # The top wins up to x = ⌊crossing / twice⌋ (// rounds down, also for a negative crossing); u is needed only
            # if that is before the last position.
            if n == 0 or crossing < twice * (span.stop - 1):
                stack[0, n] = u
                stack[1, n] = crossing // twice + 1 if n > 0 else span.first
                n += 1
    return n


@kernel
def write_squared(
    sources: NDArray[np.int64], stack: NDArray[np.int64], n: int, a: int, b: int, out: NDArray[np.int32]
) -> None:
    """Write the squared distances of positions a … b − 1 from an envelope of n columns of spacing 1; FAR if n is 0."""
    if n == 0:
        out[a:b] = FAR
    for k in range(n):
        column = stack[0, k]
        squared = sources[SQUARED, column]
        for x in range(stack[1, k], stack[1, k + 1] if k + 1 < n else b):
            out[x] = (x - column) * (x - column) + squared


@kernel
def write_labels(sources: NDArray[np.int64], stack: NDArray[np.int64], n: int, b: int, out: Labels) -> None:
    """Write the label of the nearest source for the positions up to b − 1 from an envelope of n columns."""
    for k in range(n):
        for x in range(stack[1, k], stack[1, k + 1] if k + 1 < n else b):
            out[x] = sources[LABEL, stack[0, k]]

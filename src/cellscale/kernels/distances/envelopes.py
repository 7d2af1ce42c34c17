"""Lower envelopes of parabolas: which column's source is the nearest where in a row.

In a row, column c with its nearest source at squared distance f(c) offers step · (x − c)² + f(c). Two such parabolas
cross once, also in the strict order (distance, source row, source column), so envelopes settle ties exactly; whole
numbers throughout.

P. Felzenszwalb and D. Huttenlocher, Distance transforms of sampled functions, 2012.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cellscale.kernels.compiling import kernel
from cellscale.types import Labels

FAR = np.iinfo(np.int32).max
"""Squared distance where there is no source."""
NONE = -1
"""Squared distance or row of a column without a source."""
LABEL, ROW, SQUARED = 0, 1, 2
"""Rows of a table of sources: what column x offers, int64, (3, x)."""


@kernel
def _ahead(sources: NDArray[np.int64], i: int, u: int, step: int) -> int:
    """Return what, over 2 · step · (u − i), is the last x at which column i comes before column u > i."""
    ahead: int = step * (u * u - i * i) + sources[SQUARED, u] - sources[SQUARED, i]
    return ahead - 1 if sources[ROW, u] < sources[ROW, i] else ahead


@kernel
def envelope(sources: NDArray[np.int64], span: tuple[int, int, int, int], step: int, stack: NDArray[np.int64]) -> int:
    """Find which of the columns span[0] … span[1] − 1 wins where, for x from span[2] to span[3] − 1.

    `step` is the squared spacing of the columns. Row 0 of `stack` gets the winning columns, row 1 the x from which each
    wins; returned is their number.
    """
    begin, end, first, stop = span
    n = 0
    for u in range(begin, end):
        if sources[SQUARED, u] != NONE:
            ahead, twice = 0, 1
            while n > 0:
                twice = 2 * step * (u - stack[0, n - 1])
                ahead = _ahead(sources, stack[0, n - 1], u, step)
                if ahead >= twice * stack[1, n - 1]:
                    break
                n -= 1
            if n == 0 or ahead < twice * (stop - 1):
                stack[0, n] = u
                stack[1, n] = ahead // twice + 1 if n > 0 else first
                n += 1
    return n


@kernel
def write_squared(
    sources: NDArray[np.int64], stack: NDArray[np.int64], n: int, a: int, b: int, out: NDArray[np.int32]
) -> None:
    """Write the squared distance to the winner for x from a to b − 1, FAR without any."""
    if n == 0:
        out[a:b] = FAR
    for k in range(n):
        column = stack[0, k]
        squared = sources[SQUARED, column]
        for x in range(stack[1, k], stack[1, k + 1] if k + 1 < n else b):
            out[x] = (x - column) * (x - column) + squared


@kernel
def write_labels(sources: NDArray[np.int64], stack: NDArray[np.int64], n: int, b: int, out: Labels) -> None:
    """Write the label of the winner for x up to b − 1."""
    for k in range(n):
        for x in range(stack[1, k], stack[1, k + 1] if k + 1 < n else b):
            out[x] = sources[LABEL, stack[0, k]]

"""Split work into bands for a thread pool. The kernels release the GIL, so the threads run in parallel."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from cellscale.errors import InputError

BANDS_A_THREAD = 4
"""Bands per thread: with several, a slow band delays the others less."""
SMALL = 2**21
"""Arrays with fewer pixels are processed by one thread: starting others takes about as long as they save."""


def worthwhile(threads: int, pixels: int) -> int:
    """Return the number of threads worth starting for an array of a given size: 1 for small arrays.

    Raises
    ------
    InputError
        If `threads` is less than 1.
    """
    if threads < 1:
        raise InputError(f"threads is {threads}; expected 1 or more.")
    return threads if pixels >= SMALL else 1


def in_bands(work: Callable[[int, int], None], size: int, threads: int) -> None:
    """Call work(begin, end) for non-empty bands that partition 0 … `size` − 1, `threads` of them at a time."""
    if threads == 1 or size == 0:
        work(0, size)
        return
    bands = min(BANDS_A_THREAD * threads, size)
    ends = [size * i // bands for i in range(bands + 1)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, ends[:-1], ends[1:]))

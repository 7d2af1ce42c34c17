"""Work in equal bands, by some threads at once: the kernels let go of the interpreter's lock."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from cellscale.errors import InputError

BANDS_A_THREAD = 4
"""More bands than threads, so that a thread that is held up does not hold up the others."""
SMALL = 2**21
"""Arrays with fewer pixels are worked on by one thread: starting others takes about as long as they save."""


def worthwhile(threads: int, pixels: int) -> int:
    """Return how many of the threads are worth starting for so many pixels.

    Raises
    ------
    InputError
        If `threads` is less than 1.
    """
    if threads < 1:
        raise InputError(f"threads is {threads}; expected 1 or more.")
    return threads if pixels >= SMALL else 1


def in_bands(work: Callable[[int, int], None], size: int, threads: int) -> None:
    """Call work(begin, end) for bands of the numbers 0 … `size` − 1, `threads` of them at once; none is empty."""
    if threads == 1 or size == 0:
        work(0, size)
        return
    bands = min(BANDS_A_THREAD * threads, size)
    ends = [size * i // bands for i in range(bands + 1)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, ends[:-1], ends[1:]))

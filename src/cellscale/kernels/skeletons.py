"""Skeletons by thinning: only pixels beside one that was deleted are looked at again.

T. Y. Zhang and C. Y. Suen, A fast parallel algorithm for thinning digital patterns, 1984. As printed it erases 2×2
squares; here the first pass spares upper left corners and the second lower right ones, so that nothing vanishes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cellscale.arrays import Mask
from cellscale.kernels.arguments import mask_image
from cellscale.kernels.compiling import kernel

UPPER_LEFT, LOWER_RIGHT = 0b00011100, 0b11000001
"""Neighbours of a corner with nothing else around; bits clockwise from the pixel above."""


@kernel
def removable() -> NDArray[np.uint8]:
    """Return for all 256 neighbourhoods whether the first pass (bit 1) and the second (bit 2) delete the pixel."""
    table = np.zeros(256, np.uint8)
    for code in range(256):
        p = [(code >> i) & 1 for i in range(8)]
        total = sum(p)
        steps = 0
        for i in range(8):
            steps += p[i] < p[(i + 1) % 8]
        north, east, south, west = p[0], p[2], p[4], p[6]
        if 2 <= total <= 6 and steps == 1:
            if east * south * (north + west) == 0 and code != UPPER_LEFT:
                table[code] |= 1
            if north * west * (east + south) == 0 and code != LOWER_RIGHT:
                table[code] |= 2
    return table


@kernel
def _neighbourhood(pixels: NDArray[np.uint8], at: int, around: NDArray[np.int64]) -> int:
    code = 0
    for i in range(8):
        code |= (pixels[at + around[i]] & 1) << i
    return code


@kernel
def _survivors(
    pixels: NDArray[np.uint8], queue: NDArray[np.int32], size: int, around: NDArray[np.int64], doomed: NDArray[np.uint8]
) -> int:
    """Move the pixels that this pass deletes to the front of the queue; return their number."""
    found = 0
    for k in range(size):
        at = queue[k]
        if pixels[at] & 1 and doomed[_neighbourhood(pixels, at, around)]:
            queue[found] = at
            found += 1
    return found


@kernel
def thin(pixels: NDArray[np.uint8], width: int, table: NDArray[np.uint8], queues: NDArray[np.int32]) -> None:
    """Thin a flat image in place; for compiled callers.

    Parameters
    ----------
    pixels : uint8 array, (height · width,)
        0 or 1; the outermost rows and columns are 0.
    width : int
        Length of a row.
    table : uint8 array, (256,)
        What `removable` returns.
    queues : int32 array, (3, at least height · width)
        Scratch.
    """
    around = np.array([-width, 1 - width, 1, 1 + width, width, width - 1, -1, -1 - width])
    sizes = np.zeros(2, np.int64)
    for at in range(width, pixels.size - width):
        if pixels[at] and _neighbourhood(pixels, at, around) != 255:
            queues[0, sizes[0]] = queues[1, sizes[0]] = at
            sizes[:] += 1
            pixels[at] |= 6
    turn = 0
    while sizes[0] + sizes[1] > 0:
        bit = 2 << turn
        size = sizes[turn]
        for k in range(size):
            queues[2, k] = queues[turn, k]
            pixels[queues[turn, k]] &= 255 - bit
        sizes[turn] = 0
        gone = _survivors(pixels, queues[2], size, around, table & np.uint8(turn + 1))
        for k in range(gone):
            pixels[queues[2, k]] &= 254
        for k in range(gone):
            for i in range(8):
                _enqueue(pixels, queues[2, k] + around[i], queues, sizes)
        turn = 1 - turn
    for at in range(pixels.size):
        pixels[at] &= 1


@kernel
def _enqueue(pixels: NDArray[np.uint8], at: int, queues: NDArray[np.int32], sizes: NDArray[np.int64]) -> None:
    """Have both passes look at a pixel of the figure, unless they will; bits 2 and 4 tell."""
    for turn in range(2):
        bit = 2 << turn
        if pixels[at] & 1 and not pixels[at] & bit:
            queues[turn, sizes[turn]] = at
            sizes[turn] += 1
            pixels[at] |= bit


def skeleton(mask: Mask) -> Mask:
    """Thin a mask to lines of one pixel.

    Parameters
    ----------
    mask : bool array, (y, x)
        A figure; what lies outside the image does not belong to it. Parts that are not 8-adjacent do not affect each
        other.

    Returns
    -------
    bool array, (y, x)
        A subset with as many 8-connected parts and holes.
    """
    padded = np.pad(mask_image(mask).view(np.uint8), 1)
    pixels = padded.reshape(-1)
    thin(pixels, padded.shape[1], removable(), np.empty((3, pixels.size), np.int32))
    return padded[1:-1, 1:-1] > 0

"""Skeletons by thinning: only pixels beside one that was deleted are looked at again.

T. Y. Zhang and C. Y. Suen, A fast parallel algorithm for thinning digital patterns, 1984. As printed it erases 2×2
squares; here the first pass spares upper left corners and the second lower right ones, so that nothing vanishes.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from cellscale.arrays import Mask
from cellscale.kernels.arguments import mask_image
from cellscale.kernels.compiling import kernel

Bits: TypeAlias = NDArray[np.uint64]
"""A row of pixels, 64 in a word, the leftmost in the lowest bit."""
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
def _neighbourhood(pixels: NDArray[np.uint8], at: int, width: int) -> int:
    above, below = at - width, at + width
    code: int = (pixels[above] & 1) | (pixels[above + 1] & 1) << 1 | (pixels[at + 1] & 1) << 2
    code |= (pixels[below + 1] & 1) << 3 | (pixels[below] & 1) << 4 | (pixels[below - 1] & 1) << 5
    code |= (pixels[at - 1] & 1) << 6 | (pixels[above - 1] & 1) << 7
    return code


@kernel
def _survivors(
    pixels: NDArray[np.uint8], queue: NDArray[np.int32], size: int, width: int, doomed: NDArray[np.uint8]
) -> int:
    """Move the pixels that this pass deletes to the front of the queue; return their number."""
    found = 0
    for k in range(size):
        at = queue[k]
        if pixels[at] & 1 and doomed[_neighbourhood(pixels, at, width)]:
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
        if pixels[at] and _neighbourhood(pixels, at, width) != 255:
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
        gone = _survivors(pixels, queues[2], size, width, table & np.uint8(turn + 1))
        for k in range(gone):
            pixels[queues[2, k]] &= 254
        for k in range(gone):
            for i in range(8):
                at = queues[2, k] + around[i]
                pixel = pixels[at]
                if pixel & 1 and pixel != 7:
                    for other in range(2):
                        if pixel & 2 << other == 0:
                            queues[other, sizes[other]] = at
                            sizes[other] += 1
                    pixels[at] = 7
        turn = 1 - turn
    for at in range(pixels.size):
        pixels[at] &= 1


@kernel
def _erase(up: Bits, here: Bits, down: Bits, second: bool, out: Bits) -> bool:
    """Write a row without the pixels that a pass deletes, 64 at once; whether there are any. See `removable`."""
    one, last = np.uint64(1), np.uint64(63)
    n = out.size
    u0, u1, u2 = up[:n], up[1 : n + 1], up[2:]
    h0, h1, h2 = here[:n], here[1 : n + 1], here[2:]
    d0, d1, d2 = down[:n], down[1 : n + 1], down[2:]
    gone = np.uint64(0)
    for k in range(n):
        a, e = u1[k], d1[k]
        b, h = (u1[k] >> one) | (u2[k] << last), (u1[k] << one) | (u0[k] >> last)
        c, g = (h1[k] >> one) | (h2[k] << last), (h1[k] << one) | (h0[k] >> last)
        d, f = (d1[k] >> one) | (d2[k] << last), (d1[k] << one) | (d0[k] >> last)
        once = ~a & b
        twice = once & (~b & c)
        once |= ~b & c
        twice |= once & (~c & d)
        once |= ~c & d
        twice |= once & (~d & e)
        once |= ~d & e
        twice |= once & (~e & f)
        once |= ~e & f
        twice |= once & (~f & g)
        once |= ~f & g
        twice |= once & (~g & h)
        once |= ~g & h
        twice |= once & (~h & a)
        once |= ~h & a
        pair = (a & b) | (b & c) | (c & d) | (d & e) | (e & f) | (f & g) | (g & h) | (h & a)
        gap = ~((a | b) & (b | c) & (c | d) & (d | e) & (e | f) & (f | g) & (g | h) & (h | a))
        doomed = h1[k] & once & ~twice & pair & gap
        if second:
            doomed &= ~(a & g & (c | e)) & ~(a & g & h & ~(b | c | d | e | f))
        else:
            doomed &= ~(c & e & (a | g)) & ~(c & d & e & ~(a | b | f | g | h))
        out[k] = h1[k] & ~doomed
        gone |= doomed
    return bool(gone != 0)


@kernel
def _thin_rows(bits: NDArray[np.uint64]) -> None:
    """Thin a packed image in place; its outermost rows and words are 0. Rows beside which nothing changes rest."""
    changed = np.ones(bits.shape[0], np.int64)
    above, row = np.zeros(bits.shape[1], np.uint64), np.zeros(bits.shape[1], np.uint64)
    turn, quiet = 2, 0
    while quiet < 2:
        above[:] = 0
        quiet += 1
        for y in range(1, bits.shape[0] - 1):
            latest = max(changed[y - 1], changed[y], changed[y + 1])
            row[:] = bits[y]
            if latest >= turn - 2 and _erase(above, row, bits[y + 1], turn % 2 == 1, bits[y, 1:-1]):
                changed[y] = turn
                quiet = 0
            above, row = row, above
        turn += 1


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
    image = mask_image(mask)
    height, width = image.shape
    packed = np.packbits(image, axis=1, bitorder="little")
    octets = np.zeros((height + 2, 8 * (-(-width // 64) + 2)), np.uint8)
    octets[1 : height + 1, 8 : 8 + packed.shape[1]] = packed
    _thin_rows(octets.view("<u8"))
    return np.unpackbits(octets[1:-1, 8:], axis=1, bitorder="little", count=width).view(np.bool_)

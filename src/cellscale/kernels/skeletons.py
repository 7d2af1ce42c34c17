"""Skeletons by parallel thinning, 64 pixels at a time as the bits of a word.

T. Y. Zhang and C. Y. Suen, A fast parallel algorithm for thinning digital patterns, Comm. ACM 27, 1984. Two passes
alternate until neither deletes a pixel; each decides about all pixels from the image before it. With a … h the 8
neighbours clockwise from the one above,

    h a b
    g · c
    f e d

both passes delete a figure pixel that has 2 to 6 figure neighbours which form a single arc around it. In addition,
the first pass requires not (a and c and e) and not (c and e and g), the second not (a and c and g) and not (a and e
and g). As printed, a 2×2 square loses all four pixels. Here the first pass spares a pixel whose figure neighbours are
exactly c, d and e, the upper left corner of such a square, and the second pass one whose figure neighbours are
exactly g, h and a, the lower right corner, so that no part vanishes.

All conditions are logical operations on words. Blocks of words are skipped where neither of the last two passes changed
a pixel in the block or next to it.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from cellscale.kernels.arguments import check_equal_shapes, mask_image
from cellscale.kernels.compiling import kernel
from cellscale.kernels.distances.transform import distance_transform
from cellscale.types import Mask

Bits: TypeAlias = NDArray[np.uint64]
"""Packed figure, (words + 2, rows + 2): word (w + 1, y + 1) has the pixels 64 w … 64 w + 63 of row y, the leftmost in
the lowest bit. A margin of one word and one row on every side is 0, so neighbours need no test for the border. Words of
one column are contiguous: the loop over rows is vectorised."""
WORD = 64
"""Pixels in a word."""
BLOCK = 128
"""Rows of a block: the words of one column that are thinned, or skipped, together."""


@kernel
def _erase(left: Bits, here: Bits, right: Bits, second: bool, out: Bits) -> bool:
    """Write a block of words without the pixels that a pass deletes; return whether it deletes any.

    Parameters
    ----------
    left, here, right : uint64 array, (rows + 2,) or longer
        The column of words with the block and its neighbours, from the row above the block on.
    second : bool
        Which of the two passes.
    out : uint64 array, (rows,)
        Gets the block.
    """
    one, last = np.uint64(1), np.uint64(63)
    n = out.size
    # u, h, d: the row above (up), the pixel's row (here), the row below (down); 0, 1, 2: the word left, its own, right.
    u0, u1, u2 = left[:n], here[:n], right[:n]
    h0, h1, h2 = left[1 : n + 1], here[1 : n + 1], right[1 : n + 1]
    d0, d1, d2 = left[2:], here[2:], right[2:]
    gone = np.uint64(0)
    for k in range(n):
        # Bit i of a … h is the neighbour of the pixel at bit i. The right neighbour is the next higher bit, so the word
        # is shifted down, and its highest bit comes from the lowest of the word on the right; likewise to the left.
        a, e = u1[k], d1[k]
        b, h = (u1[k] >> one) | (u2[k] << last), (u1[k] << one) | (u0[k] >> last)
        c, g = (h1[k] >> one) | (h2[k] << last), (h1[k] << one) | (h0[k] >> last)
        d, f = (d1[k] >> one) | (d2[k] << last), (d1[k] << one) | (d0[k] >> last)
        # An arc of figure neighbours begins where a background neighbour is followed by a figure one, clockwise.
        # `once`: at least one such place so far; `twice`: at least two. Exactly one arc is once & ~twice.
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
        # In a single arc the number of figure neighbours is at least 2 if two adjacent ones are figure, and at most 6
        # if two adjacent ones are background.
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
def thin(bits: Bits) -> None:
    """Thin a packed figure in place."""
    words, rows = bits.shape[0] - 2, bits.shape[1] - 2
    now, then = bits, bits.copy()
    # Number of the last pass that changed each block, (words + 2, blocks + 2), with a margin of blocks that never
    # change. Passes are numbered from 2 on. The values 0 and 1 (with a figure pixel) make pass 2 look at all blocks
    # and pass 3 at those around figures.
    changed = np.zeros((words + 2, -(-rows // BLOCK) + 2), np.int64)
    for w in range(words):
        for y in range(rows):
            changed[w + 1, y // BLOCK + 1] |= bits[w + 1, y + 1] != 0
    turn, quiet = 2, 0
    while quiet < 2:
        quiet += 1
        for w in range(words):
            for b in range(changed.shape[1] - 2):
                latest = 0
                for k in range(9):
                    latest = max(latest, changed[w + k // 3, b + k % 3])
                # Pass t reads `now`, the image after pass t − 1, and writes `then`, which holds that after pass t −
                # 2. If passes t − 2 and t − 1 changed nothing in the 3×3 blocks around, both are equal here, and pass
                # t − 2, which applied the same rule to the same pixels, deleted nothing: neither would pass t.
                if latest >= turn - 2:
                    begin, end = b * BLOCK, min((b + 1) * BLOCK, rows)
                    left, here, right = now[w, begin:], now[w + 1, begin:], now[w + 2, begin:]
                    if _erase(left, here, right, turn % 2 == 1, then[w + 1, begin + 1 : end + 1]):
                        changed[w + 1, b + 1] = turn
                        quiet = 0
        now, then = then, now
        turn += 1


def packed(mask: Mask) -> Bits:
    """Pack a mask (y, x) into words; packbits with little bit order puts the leftmost pixel into the lowest bit."""
    height, width = mask.shape
    octets = np.zeros((height + 2, 8 * (-(-width // WORD) + 2)), np.uint8)
    octets[1:-1, 8 : 8 + -(-width // 8)] = np.packbits(mask, axis=1, bitorder="little")
    return np.ascontiguousarray(octets.view("<u8").T)


def unpacked(bits: Bits, width: int) -> Mask:
    """Unpack a result of `packed` to a mask (y, x) of `width` columns; the margin is dropped."""
    octets = np.ascontiguousarray(bits[1:-1, 1:-1].T).view(np.uint8)
    return np.unpackbits(octets, axis=1, bitorder="little", count=width).view(np.bool_)


def skeleton(mask: Mask) -> Mask:
    """Thin a mask to lines of one pixel.

    Parameters
    ----------
    mask : bool array, (y, x)
        Figure; pixels outside the image do not belong to it. Parts that are not 8-adjacent do not affect each other.

    Returns
    -------
    bool array, (y, x)
        Subset of the mask with the same number of 8-connected parts and of holes.
    """
    image = mask_image(mask)
    bits = packed(image)
    thin(bits)
    return unpacked(bits, image.shape[1])


@kernel
def _arcs(lines: Mask, y: int, x: int) -> int:
    """Count the arcs of skeleton pixels around a pixel (Rutovitz): 1 at an end, 2 on a line, more at a junction.

    `lines` has a border of one pixel without any.
    """
    found = 0
    before = lines[y - 1, x - 1]
    for dy, dx in ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1)):
        here = lines[y + dy, x + dx]
        found += here and not before
        before = here
    return found


@kernel
def _next(lines: Mask, walked: Mask, y: int, x: int) -> tuple[int, int]:
    """Return the first unvisited neighbour on the skeleton, sides before corners; the pixel itself without one."""
    for dy, dx in ((-1, 0), (0, 1), (1, 0), (0, -1), (-1, -1), (-1, 1), (1, 1), (1, -1)):
        if lines[y + dy, x + dx] and not walked[y + dy, x + dx]:
            return y + dy, x + dx
    return y, x


@kernel
def _unwind(left: Mask, path: NDArray[np.int64]) -> bool:
    """Delete a branch from its end on; put it back and return False where that would cut a part or open a hole.

    A pixel with one arc of skeleton pixels around it can go without either. An end in the corner of a 2×2 square may
    belong to a closed line: the pixel after it then has two arcs.
    """
    for k in range(path.shape[0]):
        y, x = path[k]
        if _arcs(left, y, x) != 1:
            for i in range(k):
                left[path[i, 0], path[i, 1]] = True
            return False
        left[y, x] = False
    return True


@kernel
def _prune(lines: Mask, radii: NDArray[np.float32], length: float, left: Mask) -> bool:
    """Delete the branches of `lines` that stick out of the disc at their junction by at most `length`, if any.

    All branches are looked for in `lines`, so that of three that meet none is kept for being the last; `left`, a copy
    of it, loses them.
    """
    walked = np.zeros(lines.shape, np.bool_)
    path = np.empty((lines.size, 2), np.int64)
    any_found = False
    for y0 in range(1, lines.shape[0] - 1):
        for x0 in range(1, lines.shape[1] - 1):
            if not lines[y0, x0] or _arcs(lines, y0, x0) != 1:
                continue
            y, x, n, junction = y0, x0, 0, False
            while not junction:
                path[n] = y, x
                walked[y, x] = True
                n += 1
                ny, nx = _next(lines, walked, y, x)
                if ny == y and nx == x:
                    break
                y, x = ny, nx
                junction = _arcs(lines, y, x) > 2
            for k in range(n):
                walked[path[k, 0], path[k, 1]] = False
            far = np.hypot(y - y0, x - x0) + radii[y0, x0]
            if junction and far <= radii[y, x] + length and _unwind(left, path[:n]):
                any_found = True
    return any_found


def pruned(lines: Mask, figure: Mask, *, length: float) -> Mask:
    """Drop the spurs of a skeleton: branches that add nothing to the shape of the disc where they begin.

    Thinning draws a line to every bump of an outline. A branch from a junction q to an end e is deleted if the largest
    disc in the figure around e lies within that around q, grown by `length`: |e − q| + r(e) ≤ r(q) + `length`. This is
    repeated until no branch is deleted. The criterion is that of the maximal discs of H. Blum, A transformation for
    extracting new descriptors of shape, 1967.

    Parameters
    ----------
    lines : bool array, (y, x)
        The skeleton.
    figure : bool array, (y, x)
        Figure of the skeleton; the image's border is not an outline.
    length : float
        Length by which a branch must stick out of the disc to stay, px.

    Returns
    -------
    bool array, (y, x)
        At least one pixel of each part of the skeleton.
    """
    inside = mask_image(figure, "figure")
    found = np.pad(mask_image(lines, "lines"), 1)
    check_equal_shapes(inside, found[1:-1, 1:-1], "figure and lines")
    radii = np.pad(distance_transform(inside), 1)
    left = found.copy()
    while _prune(found, radii, length, left):
        found[:] = left
    return found[1:-1, 1:-1]

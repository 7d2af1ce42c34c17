"""Exact Euclidean distances in linear time, and the nearest and the two nearest labels.

The image's border is not a source. A. Meijster et al., A general algorithm for computing distance transforms in linear
time, 2000.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from cellscale.arrays import Labels, Mask
from cellscale.errors import InputError
from cellscale.kernels.arguments import check_sides, label_image, mask_image
from cellscale.kernels.bands import in_bands
from cellscale.kernels.compiling import kernel
from cellscale.kernels.envelopes import FAR, LABEL, NONE, ROW, SQUARED, envelope, write_labels, write_squared
from cellscale.kernels.transforms import REACH, in_columns, in_depth, in_rows


def _steps(axes: int, spacing: Sequence[int] | None) -> tuple[int, ...]:
    """Squared spacing of each axis."""
    if spacing is None:
        return (1,) * axes
    if len(spacing) != axes or any(int(step) != step or step < 1 for step in spacing):
        raise InputError(
            f"spacing is {tuple(spacing)}; expected {axes} whole numbers from 1 on. Take a smaller unit, such as nm."
        )
    return tuple(int(step) ** 2 for step in spacing)


def _limits(shape: tuple[int, ...], steps: tuple[int, ...], cap: int | None, most: int) -> tuple[int, int]:
    """Return the square of a distance that does not exist, and of the greatest that is wanted."""
    far = most - max(steps) * REACH**2
    longest = sum(step * side**2 for step, side in zip(steps, shape, strict=True))
    if longest >= far:
        raise InputError(f"Squared distances in {shape} px reach {longest}; expected less than {far}. Use tiles.")
    if cap is not None and cap < 0:
        raise InputError(f"cap is {cap}; expected 0 or more, or None for no limit.")
    return far, far if cap is None else min(far, cap**2)


def _transformed(
    labels: NDArray[Any], squared: bool, cap: int | None, spacing: Sequence[int] | None, threads: int
) -> NDArray[Any]:
    check_sides(labels, "The image")
    volume = labels.reshape((1,) * (3 - labels.ndim) + labels.shape)
    steps = (1,) * (3 - labels.ndim) + _steps(labels.ndim, spacing)
    out = np.empty(volume.shape, np.int32 if spacing is None else np.int64)
    limits = _limits(volume.shape, steps, cap, int(np.iinfo(out.dtype).max))
    roots = np.empty((*volume.shape[:2], 0), np.float32)
    if not squared:
        roots = out.view(np.float32) if spacing is None else np.empty(volume.shape, np.float32)
    depth, height, width = volume.shape
    first = roots if depth == 1 else roots[:, :, :0]

    def plane(z: int, threads: int) -> None:
        vertical = np.empty((height, width), np.uint16)
        in_bands(lambda a, b: in_columns(volume[z], a, b, vertical), width, threads)
        in_bands(
            lambda a, b: in_rows(volume[z], vertical, (a, b), steps[1:], limits, out[z], first[z]), height, threads
        )

    if depth == 1 and out.size:
        plane(0, threads)
    elif out.size:
        in_bands(lambda a, b: [plane(z, 1) for z in range(a, b)], depth, threads)
        in_bands(lambda a, b: in_depth(volume, (a, b), steps[0], limits, out, roots), height, threads)
    return (out if squared else roots).reshape(labels.shape)


@overload
def distance_transform(
    mask: Mask,
    *,
    squared: Literal[False] = False,
    cap: int | None = None,
    spacing: Sequence[int] | None = None,
    threads: int = 1,
) -> NDArray[np.float32]: ...
@overload
def distance_transform(
    mask: Mask,
    *,
    squared: Literal[True],
    cap: int | None = None,
    spacing: Sequence[int] | None = None,
    threads: int = 1,
) -> NDArray[np.int32]: ...
def distance_transform(
    mask: Mask,
    *,
    squared: bool = False,
    cap: int | None = None,
    spacing: Sequence[int] | None = None,
    threads: int = 1,
) -> NDArray[np.float32] | NDArray[np.int32]:
    """Distance of each True pixel to the nearest False pixel.

    Parameters
    ----------
    mask : bool array, (y, x) or (z, y, x)
        The pixels to measure; at most 32,766 px a side.
    squared : bool
        Return exact squared distances.
    cap : int, optional
        Distances from here on are equal to it; nothing is looked for beyond.
    spacing : whole numbers, optional
        Distance of neighbours along each axis in any unit, such as nm; distances are in it. 1 px unless given.
    threads : int
        So many work at once; the result does not depend on it.

    Returns
    -------
    float32 array, px or the spacing's unit; if squared, int32 array, px², or int64 array with a spacing
        0 on False pixels. Without any False pixel and without a cap: infinite, or the type's greatest number.
    """
    return _transformed(mask_image(mask, axes=3).view(np.uint8), squared, cap, spacing, threads)


@overload
def label_distance_transform(
    labels: NDArray[np.integer[Any]],
    *,
    squared: Literal[False] = False,
    cap: int | None = None,
    spacing: Sequence[int] | None = None,
    threads: int = 1,
) -> NDArray[np.float32]: ...
@overload
def label_distance_transform(
    labels: NDArray[np.integer[Any]],
    *,
    squared: Literal[True],
    cap: int | None = None,
    spacing: Sequence[int] | None = None,
    threads: int = 1,
) -> NDArray[np.int32]: ...
def label_distance_transform(
    labels: NDArray[np.integer[Any]],
    *,
    squared: bool = False,
    cap: int | None = None,
    spacing: Sequence[int] | None = None,
    threads: int = 1,
) -> NDArray[np.float32] | NDArray[np.int32]:
    """Distance of each labelled pixel to the nearest pixel of another label or of the background.

    Parameters
    ----------
    labels : integer array, (y, x) or (z, y, x)
        Cells; at most 32,766 px a side.
    squared, cap, spacing, threads
        As in `distance_transform`.

    Returns
    -------
    float32, int32 or int64 array
        As in `distance_transform`; 0 on background. Where one label fills the image there is no other.
    """
    return _transformed(label_image(labels, axes=3), squared, cap, spacing, threads)


def signed_distance(
    mask: Mask, *, cap: int | None = None, spacing: Sequence[int] | None = None, threads: int = 1
) -> NDArray[np.float32]:
    """Distance of each pixel to the nearest pixel of the other kind, negative outside the mask, by one transform.

    Parameters
    ----------
    mask : bool array, (y, x) or (z, y, x)
        What is inside.
    cap, spacing, threads
        As in `distance_transform`.

    Returns
    -------
    float32 array
        Never 0 unless capped at 0; infinite if all pixels are of one kind.
    """
    inside = mask_image(mask, axes=3)
    distances = _transformed(inside.view(np.uint8) + np.uint8(1), False, cap, spacing, threads)
    return np.negative(distances, out=distances, where=~inside)


@kernel
def _nearest_in_columns(labels: Labels, rows: NDArray[np.int32]) -> None:
    """Write the row of the nearest labelled pixel of the column, the upper one of two; NONE where there is none."""
    height, width = labels.shape
    above, below = np.full(width, NONE, np.int32), np.full(width, NONE, np.int32)
    for y in range(height):
        for x in range(width):
            if labels[y, x] > 0:
                above[x] = y
            rows[y, x] = above[x]
    for y in range(height - 1, -1, -1):
        for x in range(width):
            if labels[y, x] > 0:
                below[x] = y
            if rows[y, x] == NONE or (below[x] != NONE and below[x] - y < y - rows[y, x]):
                rows[y, x] = below[x]


@kernel
def _load_sources(labels: Labels, rows: NDArray[np.int32], y: int, limit: int, sources: NDArray[np.int64]) -> None:
    for x in range(rows.size):
        row = rows[x]
        squared = (row - y) * (row - y)
        inside = row != NONE and squared <= limit
        sources[ROW, x] = row
        sources[SQUARED, x] = squared if inside else NONE
        sources[LABEL, x] = labels[row, x] if inside else 0


@kernel
def _nearest(labels: Labels, limit: int, nearest: Labels, squared: NDArray[np.int32]) -> None:
    height, width = labels.shape
    _nearest_in_columns(labels, squared)
    sources, stack = np.zeros((3, width), np.int64), np.zeros((2, width), np.int64)
    for y in range(height):
        _load_sources(labels, squared[y], y, limit, sources)
        nearest[y] = labels[y]
        squared[y] = 0
        a = 0
        while a < width:
            b = a
            while b < width and labels[y, b] == 0:
                b += 1
            if b > a:
                n = envelope(sources, (max(a - 1, 0), min(b + 1, width), a, b), 1, stack)
                write_squared(sources, stack, n, a, b, squared[y])
                write_labels(sources, stack, n, b, nearest[y])
            a = b + 1
        for x in range(width):
            if squared[y, x] > limit:
                squared[y, x] = FAR
                nearest[y, x] = 0


def nearest_label(labels: NDArray[np.integer[Any]], *, radius: int | None = None) -> tuple[Labels, NDArray[np.int32]]:
    """Nearest label of each pixel.

    Parameters
    ----------
    labels : integer array, (y, x)
        Cells; at most 32,766 px a side.
    radius : int, optional
        Pixels farther than this from every cell get none, px.

    Returns
    -------
    labels : uint32 array, (y, x)
        Of all equally near labelled pixels the first in raster order decides; 0 where there is none.
    squared : int32 array, (y, x)
        Squared distance, px²; FAR where there is none.
    """
    image = label_image(labels)
    check_sides(image, "labels")
    if radius is not None and radius < 0:
        raise InputError(f"radius is {radius} px; expected 0 or more, or None for no limit.")
    limit = FAR - 1 if radius is None else min(radius, 46_340) ** 2
    nearest, squared = np.empty_like(image), np.empty(image.shape, np.int32)
    _nearest(image, limit, nearest, squared)
    return nearest, squared


@kernel
def _two_above(labels: Labels, first: Labels, row1: NDArray[np.int32], second: Labels, row2: NDArray[np.int32]) -> None:
    """Write labels and rows of the two nearest different labels at or above each pixel; row NONE: there is none."""
    height, width = labels.shape
    seen = np.full((4, width), NONE, np.int64)
    for y in range(height):
        for x in range(width):
            _see(seen, x, labels[y, x], y)
            first[y, x], row1[y, x] = max(seen[0, x], 0), seen[1, x]
            second[y, x], row2[y, x] = max(seen[2, x], 0), seen[3, x]


@kernel
def _see(seen: NDArray[np.int64], x: int, label: int, y: int) -> None:
    """Put one pixel into the two last different labels of its column: rows label, row, label, row."""
    if label > 0:
        if label != seen[0, x]:
            seen[2, x], seen[3, x] = seen[0, x], seen[1, x]
            seen[0, x] = label
        seen[1, x] = y


@kernel
def _closer(y: int, up: int, down: int) -> bool:
    """Whether row `up` ≤ y exists and comes before row `down` > y."""
    return up != NONE and (down == NONE or y - up <= down - y)


@kernel
def _offer(sources: NDArray[np.int64], x: int, y: int, label: int, row: int) -> None:
    sources[LABEL, x] = label
    sources[ROW, x] = row
    sources[SQUARED, x] = (row - y) * (row - y) if row != NONE else NONE


@kernel
def _two_in_columns(
    y: int, above: NDArray[np.int64], below: NDArray[np.int64], first: NDArray[np.int64], second: NDArray[np.int64]
) -> None:
    """Put the two nearest different labels above and below together: what each column offers in row y."""
    for x in range(above.shape[1]):
        if _closer(y, above[1, x], below[1, x]):
            near, far, closer_side = above, below, True
        else:
            near, far, closer_side = below, above, False
        _offer(first, x, y, near[0, x], near[1, x])
        k = 0 if far[0, x] != near[0, x] else 2
        up, down = (near[3, x], far[k + 1, x]) if closer_side else (far[k + 1, x], near[3, x])
        if _closer(y, up, down) == closer_side:
            _offer(second, x, y, near[2, x], near[3, x])
        else:
            _offer(second, x, y, far[k, x], far[k + 1, x])


@kernel
def _write(
    sources: NDArray[np.int64], stack: NDArray[np.int64], n: int, span: tuple[int, int], out: NDArray[np.int64]
) -> None:
    """Write label, column and squared distance of the winners for x from span[0] to span[1] − 1."""
    a, b = span
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
    """Find the nearest label that is not the nearest.

    Along a row the winning columns ascend, with or without a label. Where label A wins from a to b − 1, the best of the
    others therefore comes from a column between those that win at a − 1 and at b: each column is seen a few times.
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
            chosen = first if first[LABEL, x] != winners[0, a] else second
            sources[:, x] = chosen[:, x]
        n = envelope(sources, (begin, end, a, b), 1, stack)
        _write(sources, stack, n, (a, b), out)
        a = b


@kernel
def _two_nearest(
    labels: Labels, label1: Labels, squared1: NDArray[np.int32], label2: Labels, squared2: NDArray[np.int32]
) -> None:
    height, width = labels.shape
    _two_above(labels, label1, squared1, label2, squared2)
    above, below = np.zeros((4, width), np.int64), np.full((4, width), NONE, np.int64)
    first, second = np.zeros((3, width), np.int64), np.zeros((3, width), np.int64)
    winners, followers = np.zeros((3, width), np.int64), np.zeros((3, width), np.int64)
    stack = np.zeros((2, width), np.int64)
    for y in range(height - 1, -1, -1):
        above[0], above[1], above[2], above[3] = label1[y], squared1[y], label2[y], squared2[y]
        _two_in_columns(y, above, below, first, second)
        for x in range(width):
            _see(below, x, labels[y, x], y)
        _write(first, stack, envelope(first, (0, width, 0, width), 1, stack), (0, width), winners)
        _second_in_row(first, second, winners, followers)
        label1[y], squared1[y], label2[y], squared2[y] = winners[0], winners[2], followers[0], followers[2]


def two_nearest_labels(
    labels: NDArray[np.integer[Any]],
) -> tuple[Labels, NDArray[np.int32], Labels, NDArray[np.int32]]:
    """Nearest and second nearest label of each pixel, by one transform for all cells.

    Parameters
    ----------
    labels : integer array, (y, x)
        Cells; at most 32,766 px a side.

    Returns
    -------
    first : uint32 array, (y, x)
        Nearest label, its own on a cell; of equally near pixels the first in raster order decides; 0 without cells.
    first_squared : int32 array, (y, x)
        Squared distance to it, px²; FAR without cells.
    second : uint32 array, (y, x)
        Nearest of all other labels, by the same rule; 0 with fewer than two cells.
    second_squared : int32 array, (y, x)
        Squared distance to it, px²; FAR with fewer than two cells.
    """
    image = label_image(labels)
    check_sides(image, "labels")
    first, second = np.empty_like(image), np.empty_like(image)
    first_squared, second_squared = np.empty(image.shape, np.int32), np.empty(image.shape, np.int32)
    _two_nearest(image, first, first_squared, second, second_squared)
    return first, first_squared, second, second_squared

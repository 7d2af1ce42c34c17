"""Exact Euclidean distances in linear time, nearest labels and two nearest labels.

The public functions of the package: they check and convert arguments, choose integer types and split the work into
bands; `planes`, `volumes`, `nearest` and `two_nearest` hold the compiled parts. The image's border is not a source.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from cellscale.errors import InputError
from cellscale.kernels.arguments import check_sides, label_image, mask_image
from cellscale.kernels.distances.envelopes import FAR
from cellscale.kernels.distances.nearest import (
    MIDDLE,
    NARROW,
    nearest_at_all,
    nearest_within,
    offsets_in_columns,
)
from cellscale.kernels.distances.planes import BLOCK, Limits, Range, Steps, in_columns, in_rows
from cellscale.kernels.distances.two_nearest import two_nearest
from cellscale.kernels.distances.volumes import REACH, in_depth, in_planes
from cellscale.kernels.threads import in_bands, worthwhile
from cellscale.types import Labels, Mask

LONGEST = int(np.iinfo(np.int64).max)
"""Squared distance of a pixel in an image without sources, with a spacing."""


def _spaced(axes: int, spacing: Sequence[int] | None) -> tuple[tuple[int, ...], int]:
    """Squared spacing of each axis in units of the greatest common divisor, and the square of that divisor.

    Distances are computed in that unit, so that isotropic voxels of, say, 100 nm cost no more bits than pixels.
    """
    if spacing is None:
        return (1,) * axes, 1
    if len(spacing) != axes or any(int(step) != step or step < 1 for step in spacing):
        raise InputError(
            f"spacing is {tuple(spacing)}; expected {axes} whole numbers of at least 1. Use a smaller unit, such as nm."
        )
    measure = math.gcd(*(int(step) for step in spacing))
    return tuple((int(step) // measure) ** 2 for step in spacing), measure**2


def _far(shape: tuple[int, ...], steps: tuple[int, ...], unit: int, spaced: bool) -> tuple[type[Any], int]:
    """Return the narrowest type for squared distances, and the number in it that stands for no distance.

    That number leaves room for what volumes.in_depth adds to it, max(steps) · REACH². In 64 bits, envelopes compare
    numbers of up to twice a squared distance, and squares are multiplied by `unit`: the bound divides by either.
    """
    longest = sum(step * side**2 for step, side in zip(steps, shape, strict=True))
    narrow, wide = (int(np.iinfo(kind).max) - max(steps) * REACH**2 for kind in (np.int32, np.int64))
    most = wide // max(unit, 2) if spaced else narrow
    if longest >= most:
        raise InputError(
            f"Squared distances in {shape} px reach {longest * unit}; expected less than {most * unit}. Use tiles."
        )
    return (np.int32, narrow) if longest < narrow else (np.int64, wide)


def _transformed(
    labels: NDArray[Any], squared: bool, cap: int | None, spacing: Sequence[int] | None, threads: int
) -> NDArray[Any]:
    check_sides(labels, "The image")
    if cap is not None and cap < 0:
        raise InputError(f"cap is {cap}; expected 0 or more, or None for no limit.")
    volume = labels.reshape((1,) * (3 - labels.ndim) + labels.shape)  # (z, y, x); a plane has one z
    spaced, unit = _spaced(labels.ndim, spacing)
    steps = (1,) * (3 - labels.ndim) + spaced
    kind, far = _far(volume.shape, steps, unit, spacing is not None)
    most = LONGEST if cap is None else min(cap**2, LONGEST)
    # Distances are computed in the common measure of the spacing: the cap is divided by its square, rounded up.
    limits = Limits(far=far, cap=far if cap is None else min(far, -(-most // unit)), unit=unit, most=most)
    out = np.empty(volume.shape, kind)
    roots = np.empty((*volume.shape[:2], 0), np.float32)  # width 0: the kernels write squared distances
    if not squared:
        # 4-byte distances overwrite 4-byte squares in place: a row is read before it is written.
        roots = out.view(np.float32) if kind is np.int32 else np.empty(volume.shape, np.float32)
    depth, height, width = volume.shape
    threads = worthwhile(threads, volume.size)
    within = Steps(steps[1], steps[2])
    if depth == 1 and out.size:
        vertical = np.empty((height, width), np.uint16)
        in_bands(lambda a, b: in_columns(volume[0], a, b, vertical), width, threads)
        plane, found, distances = volume[0], out[0], roots[0]
        in_bands(lambda a, b: in_rows(plane, vertical, Range(a, b), within, limits, found, distances), height, threads)
    elif out.size:
        # Each plane by itself, always squared (roots of width 0), then along z, which also takes the roots.
        in_bands(lambda a, b: in_planes(volume, Range(a, b), within, limits, out, roots[:, :, :0]), depth, threads)
        in_bands(lambda a, b: in_depth(volume, Range(a, b), steps[0], limits, out, roots), height, threads)
    if squared and spacing is not None:
        none = out == np.iinfo(kind).max
        out = np.minimum(out.astype(np.int64) * unit, most)
        out[none] = LONGEST
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
    """Compute the distance of each True pixel to the nearest False pixel.

    Parameters
    ----------
    mask : bool array, (y, x) or (z, y, x)
        The pixels to measure; at most 32,766 px a side.
    squared : bool
        Return exact squared distances.
    cap : int, optional
        Greatest distance; nothing farther away is searched.
    spacing : whole numbers, optional
        Distance of neighbours along each axis in any unit, such as nm; distances are in it. 1 px unless given.
    threads : int
        Number of threads, for 2²¹ pixels or more; the result does not depend on it.

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
    """Compute the distance of each labelled pixel to the nearest pixel of another label or of the background.

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
    """Compute the distance of each pixel to the nearest one of the other kind, negative outside the mask.

    Parameters
    ----------
    mask : bool array, (y, x) or (z, y, x)
        Inside of the mask.
    cap, spacing, threads
        As in `distance_transform`.

    Returns
    -------
    float32 array
        Never 0 unless capped at 0; infinite if all pixels are of one kind.
    """
    inside = mask_image(mask, axes=3)
    distances: NDArray[np.float32] = _transformed(inside.view(np.uint8) + np.uint8(1), False, cap, spacing, threads)
    np.negative(distances, out=distances, where=~inside)
    return distances


def nearest_label(
    labels: NDArray[np.integer[Any]], *, radius: int | None = None, threads: int = 1
) -> tuple[Labels, NDArray[np.int32]]:
    """Find the nearest label of each pixel.

    Parameters
    ----------
    labels : integer array, (y, x)
        Cells; at most 32,766 px a side.
    radius : int, optional
        Pixels farther than this from every cell get none, px.
    threads : int
        Number of threads, for radii of up to 127 px and 2²¹ pixels or more; the result does not depend on it.

    Returns
    -------
    labels : uint32 array, (y, x)
        Label of the nearest labelled pixel, of equally near ones the first in raster order; 0 without any.
    squared : int32 array, (y, x)
        Squared distance, px²; FAR where there is none.
    """
    image = label_image(labels)
    check_sides(image, "labels")
    if radius is not None and radius < 0:
        raise InputError(f"radius is {radius} px; expected 0 or more, or None for no limit.")
    nearest, squared = np.empty_like(image), np.empty(image.shape, np.int32)
    if radius is not None and radius < MIDDLE:
        everywhere = np.ones((1, image.shape[1]), bool)
        _near(image, image, radius, everywhere, nearest, squared, threads)
    else:
        nearest_at_all(image, FAR - 1 if radius is None else min(radius, 46_340) ** 2, nearest, squared)
    return nearest, squared


def _near(
    sources: NDArray[Any],
    values: NDArray[Any],
    radius: int,
    wanted: Mask,
    nearest: NDArray[Any],
    squared: NDArray[np.int32],
    threads: int = 1,
) -> None:
    """Write values and squared distances of the sources nearest to the wanted pixels, each unless its width is 0.

    `radius` is below MIDDLE; the other arguments are those of `nearest_within`.
    """
    offsets = np.empty(sources.shape, np.uint8)
    height, width = sources.shape
    threads = worthwhile(threads, sources.size)

    def rows(begin: int, end: int) -> None:
        scratch = np.empty((3, -(-width // BLOCK) * BLOCK + 2 * MIDDLE), np.uint16 if radius <= NARROW else np.int32)
        nearest_within(values, offsets, scratch, radius, wanted, (begin, end), (nearest, squared))

    in_bands(lambda a, b: offsets_in_columns(sources, radius, a, b, offsets), width, threads)
    in_bands(rows, height, threads)


def labels_for(labels: Labels, wanted: Mask, *, radius: int, threads: int = 1) -> Labels:
    """Return labels (y, x) in which the wanted pixels have the label of `nearest_label`; the others keep theirs.

    Pixels that are not wanted cost nothing: blocks without a wanted pixel are not searched. Callers check shapes and
    types.
    """
    if radius < 0:
        raise InputError(f"radius is {radius} px; expected 0 or more.")
    if radius >= MIDDLE:
        return np.where(wanted, nearest_label(labels, radius=radius)[0], labels)
    nearest = np.empty_like(labels)
    _near(labels, labels, radius, wanted, nearest, np.empty((labels.shape[0], 0), np.int32), threads)
    return nearest


def squared_at(wanted: Mask, sources: Mask, *, cap: int) -> NDArray[np.int32]:
    """Return the squared distances (y, x) of the wanted pixels to the nearest source; FAR or cap² where none is nearer.

    Values of other pixels have no meaning. Callers check shapes and types.
    """
    if cap >= MIDDLE:
        return distance_transform(~sources, squared=True, cap=cap)
    squared, nothing = np.empty(sources.shape, np.int32), np.empty((len(sources), 0), np.float32)
    _near(sources.view(np.uint8), nothing, cap, wanted, nothing, squared)
    return squared


def copied_around(values: NDArray[np.float32], sources: Mask, *, radius: int) -> NDArray[np.float32]:
    """Copy values (y, x) of at least 0 from each source to the pixels nearest to it; 0 beyond the radius.

    Values are 0 in an image without sources. From MIDDLE on, a value is copied as a label: its bits as uint32, plus
    one, so that the label of the value 0.0 is not background. Callers check shapes and types.
    """
    if radius < 0:
        raise InputError(f"radius is {radius} px; expected 0 or more.")
    if radius >= MIDDLE:
        found, _ = nearest_label(values.view(np.uint32) + sources, radius=radius)
        found -= found > 0
        return found.view(np.float32)
    nearest, everywhere = np.empty_like(values), np.ones((1, values.shape[1]), bool)
    _near(sources.view(np.uint8), values, radius, everywhere, nearest, np.empty((len(values), 0), np.int32))
    return nearest


def two_nearest_labels(
    labels: NDArray[np.integer[Any]],
) -> tuple[Labels, NDArray[np.int32], Labels, NDArray[np.int32]]:
    """Find the nearest and the second nearest label of each pixel, by one transform for all cells.

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
    two_nearest(image, first, first_squared, second, second_squared)
    return first, first_squared, second, second_squared

"""Weight maps: how much a pixel counts in a loss, by its class, its neighbours and the shape of its cell."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cellscale.errors import InputError
from cellscale.kernels.arguments import check_equal_shapes, label_image, mask_image
from cellscale.kernels.compiling import kernel
from cellscale.kernels.concavities import contours_and_skeletons
from cellscale.kernels.distances.envelopes import FAR
from cellscale.kernels.distances.transform import copied_around, distance_transform, squared_at, two_nearest_labels
from cellscale.kernels.majority import smooth_labels
from cellscale.kernels.smoothing import gaussian
from cellscale.kernels.touching import boundary_pixels, separated
from cellscale.types import Labels, Mask

UNDERFLOW = 104
"""exp(−UNDERFLOW) is 0 in float32."""


def _check_positive(value: float, name: str) -> None:
    if not value > 0:
        raise InputError(f"{name} is {value}; expected more than 0.")


def class_balance(
    counts: Sequence[float] | NDArray[Any], *, exponent: float = 1.0, cap: float = 0.0
) -> NDArray[np.float32]:
    """Weigh classes by their frequencies: (n_min / n_c)^exponent, 1 for the rarest class that occurs.

    Parameters
    ----------
    counts : sequence of numbers
        Pixels of each class.
    exponent : float
        1: inverse frequencies; ½: their square root; 0: all classes that occur weigh 1.
    cap : float
        The rarest class weighs at most this many times the most frequent one; 0: no limit.

    Returns
    -------
    float32 array, (classes,)
        0 for classes without a pixel, which are not the rarest class either.

    Raises
    ------
    InputError
        If a count or the exponent is negative, or the cap is between 0 and 1.
    """
    pixels = np.asarray(counts, np.float64)
    if (pixels < 0).any():
        raise InputError(f"Class counts are {pixels.tolist()}; expected no negative number.")
    if exponent < 0 or cap < 0 or 0 < cap < 1:
        raise InputError(f"exponent is {exponent} and cap {cap}; expected 0 or more, and a cap of 0 or at least 1.")
    present = pixels > 0
    rarest = pixels[present].min() if present.any() else 1.0
    weights = np.divide(rarest, pixels, out=np.zeros_like(pixels), where=present) ** exponent
    least = 1 / cap if cap > 0 else 0.0
    return np.where(present, np.maximum(weights, least), 0.0).astype(np.float32)


def ronneberger(
    labels: NDArray[np.integer[Any]],
    *,
    w0: float = 10.0,
    sigma: float = 5.0,
    squares: bool = False,
    where: Mask | None = None,
) -> NDArray[np.float32]:
    """Weights of the pixels between cells: w0 · exp(−(d1 + d2)² / 2σ²).

    d1 and d2 are the distances to the nearest and the second nearest cell. O. Ronneberger et al., U-Net, 2015, eq. 2,
    without the class balance.

    Parameters
    ----------
    labels : integer array, (y, x)
        Cells.
    w0 : float
        The weight where two cells meet.
    sigma : float
        Width of its decay, px.
    squares : bool
        Use d1² + d2² instead of (d1 + d2)².
    where : bool array, (y, x), optional
        Pixels that get a weight; those outside cells unless given.

    Returns
    -------
    float32 array, (y, x)
        0 elsewhere, and everywhere with fewer than two cells.
    """
    image = label_image(labels)
    _check_positive(sigma, "sigma")
    wanted = image == 0 if where is None else mask_image(where, "where")
    check_equal_shapes(image, wanted, "labels and where")
    _, first, _, second = two_nearest_labels(image)
    wanted = wanted & (second != FAR)
    d1, d2 = first[wanted].astype(np.float64), second[wanted].astype(np.float64)  # squared distances, (n,)
    squared = d1 + d2 if squares else d1 + d2 + 2 * np.sqrt(d1 * d2)  # (√d1 + √d2)², with one root instead of two
    weights = np.zeros(image.shape, np.float32)
    weights[wanted] = w0 * np.exp(squared / (-2 * sigma**2))
    return weights


def distance_weights(classes: NDArray[Any], *, beta: float = 30.0) -> NDArray[np.float32]:
    """Factor on the class balance that falls linearly outside the cells: 1 − min(φ / β, 1).

    φ is the distance to the nearest pixel that is not background. F. A. Guerrero-Peña et al., 2018, eq. 2.

    Parameters
    ----------
    classes : integer or bool array, (y, x)
        0 is background.
    beta : float
        Background farther than this from all else has no weight, px.

    Returns
    -------
    float32 array, (y, x)
        1 on all that is not background; 0 everywhere if there is nothing else.
    """
    _check_positive(beta, "beta")
    weights = distance_transform(np.asarray(classes) == 0, cap=math.ceil(beta))
    weights /= np.float32(beta)
    np.minimum(weights, 1, out=weights)
    return np.subtract(1, weights, out=weights)


@kernel
def _look_up(squared: NDArray[np.int32], table: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """Write the table's weight of each squared distance, flat; `out` may share its memory with `squared`."""
    for i in range(squared.size):
        out[i] = table[squared[i]]


def _vanishing(alpha: float, sigma: float, shape: tuple[int, ...]) -> int:
    """Return a distance at which a float32 weight is 0, or that is longer than the image, px.

    α exp(−D² / 2σ²) vanishes where D² / 2σ² − ln α is UNDERFLOW: solve for D, and round up.
    """
    return min(math.ceil(sigma * math.sqrt(2 * max(math.log(alpha), 0) + 2 * UNDERFLOW)), sum(shape) + 1)


def boundary_weights(
    labels: NDArray[np.integer[Any]], *, alpha: float = 10.0, sigma: float = 5.0
) -> NDArray[np.float32]:
    """Weights near the boundaries of cells, inside and outside: α · exp(−D² / 2σ²).

    D is the distance to the nearest cell pixel with a 4-neighbour of another label, background included. S. Lin and
    N. Norouzi, An effective deep learning framework for cell segmentation in microscopy images, 2021, eq. 3, without
    the class balance w_c.

    Parameters
    ----------
    labels : integer array, (y, x)
        Cells.
    alpha : float
        α: the weight on a boundary pixel.
    sigma : float
        σ: width of its decay, px.

    Returns
    -------
    float32 array, (y, x)
        0 everywhere without a boundary.
    """
    _check_positive(sigma, "sigma")
    if not 0 <= alpha < math.inf:
        raise InputError(f"alpha is {alpha}; expected 0 or more.")
    far = boundary_pixels(label_image(labels))
    if alpha == 0:
        return np.zeros(far.shape, np.float32)
    np.logical_not(far, out=far)
    cap = _vanishing(alpha, sigma, far.shape)
    squared = distance_transform(far, squared=True, cap=cap)
    # Squared distances are integers 0 … cap², so every weight is computed once, in a table (cap² + 1,). The rounding to
    # float32 in between makes the weights those of the formula on the float32 distances of `distance_transform`.
    distances = np.sqrt(np.arange(cap**2 + 1), dtype=np.float64).astype(np.float32)
    table = (alpha * np.exp(-(distances.astype(np.float64) ** 2) / (2 * sigma**2))).astype(np.float32)
    table[-1] = 0  # cap² stands for all pixels that are at least that far away
    # int32 and float32 have the same size: each weight overwrites its squared distance.
    weights = squared.view(np.float32)
    _look_up(squared.reshape(-1), table, weights.reshape(-1))
    return weights


def separated_and_smoothed(labels: NDArray[np.integer[Any]], smooth: int) -> Labels:
    """Separated cells, their masks smoothed by a median of `smooth` × `smooth` px (1: as they are)."""
    apart = separated(labels)
    return separated(smooth_labels(apart, side=smooth)) if smooth > 1 else apart


def contour_complexity(
    labels: NDArray[np.integer[Any]], *, smooth: int = 1, prune: float = 0.0
) -> tuple[NDArray[np.float32], Mask]:
    """Measure how narrow cells and concavities are at their contours.

    With t a separated cell and r = hull(t) without t its concavity: φ_K is the distance to the skeletons of all t and
    r, Γ_H the contours of all t and r. F. A. Guerrero-Peña et al., 2018, section 2.2. On outlines of pixels, or of
    jagged annotations, skeletons have a spur to every step and hulls slivers along it, and φ_K is small everywhere;
    `smooth` and `prune` are ours.

    Parameters
    ----------
    labels : integer array, (y, x)
        Cells; touching ones are separated first.
    smooth : int
        Side of the median by which each mask is smoothed first, px, odd; 1: none.
    prune : float
        Spurs and slivers that are dropped (`contours_and_skeletons`), px; 0: none.

    Returns
    -------
    distances : float32 array, (y, x)
        φ_K on Γ_H, 0 elsewhere, px.
    contours : bool array, (y, x)
        Γ_H.
    """
    contours, skeletons = contours_and_skeletons(separated_and_smoothed(labels, smooth), prune=prune)
    distances = distance_transform(~skeletons)
    return np.where(contours, distances, np.float32(0)), contours


def saw_tau(
    frames: Iterable[NDArray[np.integer[Any]]], *, percentile: float = 100.0, smooth: int = 1, prune: float = 0.0
) -> float:
    """Return τ of equation 4 for a training set: a percentile of φ_K on all its contours, px; 0 without any.

    Parameters
    ----------
    frames : iterable of integer arrays, (y, x)
        Cells.
    percentile : float
        100: the greatest φ_K, as printed; one large cell then decides for all.
    smooth, prune
        As for `contour_complexity`.
    """
    # φ_K is the root of an integer, so it takes few values: a table of counts has all that a percentile needs.
    counts: Counter[float] = Counter()
    for labels in frames:
        distances, contours = contour_complexity(labels, smooth=smooth, prune=prune)
        values, numbers = np.unique(distances[contours], return_counts=True)
        counts.update(dict(zip(values.tolist(), numbers.tolist(), strict=True)))
    wanted, seen = percentile / 100 * counts.total(), 0
    for value, number in sorted(counts.items()):
        seen += number
        if seen >= wanted:
            return float(value)
    return 0.0


@kernel
def _weigh(squared: NDArray[np.int32], contours: Mask, tau: float, offset: float) -> None:
    """Overwrite squared distances, flat, with float32 weights of contours, (w_c + offset) / (1 + offset); 0 elsewhere.

    Both types have four bytes, so that the map needs no memory of its own.
    """
    weights = squared.view(np.float32)
    for i in range(squared.size):
        narrow = max(np.float32(1) - np.sqrt(np.float32(squared[i])) / np.float32(tau), np.float32(0))
        weight = np.float32(narrow + np.float32(offset)) / np.float32(1 + offset)
        weights[i] = weight if contours[i] else np.float32(0)


def _contour_weights(contours: Mask, skeletons: Mask, tau: float, offset: float) -> NDArray[np.float32]:
    """Return the weights of contours (y, x) before they are copied to their surroundings, 0 elsewhere."""
    # φ_K of τ or more weighs 0, so nothing beyond ⌈τ⌉ px is searched; no distance exceeds the sum of the sides.
    squared = squared_at(contours, skeletons, cap=min(math.ceil(tau), sum(contours.shape) + 1))
    _weigh(squared.reshape(-1), contours.reshape(-1), tau or math.inf, offset)  # φ_K / ∞ = 0: τ = 0 gives w_c = 1
    return squared.view(np.float32)


def shape_aware_weights(  # noqa: PLR0913
    labels: NDArray[np.integer[Any]],
    *,
    tau: float,
    sigma: float = 3.0,
    radius: int = 20,
    propagate: Literal["both", "inside"] = "both",
    offset: float = 0.0,
    smooth: int = 1,
    prune: float = 0.0,
) -> NDArray[np.float32]:
    """Weights of contours where cells or their concavities are narrow: F_σ * w_c of equations 3 and 4.

    On contours w_c = 1 − φ_K / τ, not less than 0. It is copied to the pixels around, smoothed and divided by the
    greatest possible value; the paper names "copy padding and Gaussian smoothing" without their numbers. Class balance
    is the caller's. F. A. Guerrero-Peña et al., 2018.

    Parameters
    ----------
    labels : integer array, (y, x)
        Cells; touching ones are separated first.
    tau : float
        τ: the greatest φ_K of the training set, px; 0: w_c = 1.
    sigma : float
        Width of the Gaussian, px; cut at 4σ. 0: no smoothing.
    radius : int
        Greatest distance to which contour values are copied, px.
    propagate : {"both", "inside"}
        Whether they are copied to both sides of the contour or into cells alone.
    offset : float
        Added to w_c on contours.
    smooth, prune
        As for `contour_complexity`.

    Returns
    -------
    float32 array, (y, x)
        In 0 … 1; 0 without cells.
    """
    if propagate not in ("both", "inside"):
        raise InputError(f"propagate is {propagate!r}; expected 'both' or 'inside'.")
    if tau < 0 or offset < 0:
        raise InputError(f"tau is {tau} and offset {offset}; expected 0 or more.")
    contours, skeletons = contours_and_skeletons(separated_and_smoothed(labels, smooth), prune=prune)
    copied = copied_around(_contour_weights(contours, skeletons, tau, offset), contours, radius=radius)
    if propagate == "inside":
        copied[~contours & (label_image(labels) == 0)] = 0
    return gaussian(copied, sigma=sigma)

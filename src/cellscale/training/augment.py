"""Random views of a frame: geometry for image and labels together, intensities for the image alone.

Everything is drawn from the given generator, so that a sample is a function of its seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cellscale.kernels.warping import SUPPORT, warped_labels
from cellscale.settings.fields import setting
from cellscale.types import Box, Labels


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Limits of the random changes of a sample."""

    turns: bool = True
    """Whether samples are flipped and turned by multiples of 90°."""
    flips: Literal["none", "horizontal", "both"] = "none"
    """Without `turns`: whether samples are mirrored left to right, or along both axes."""
    rotation: float = 180.0
    """Greatest angle, degrees."""
    scale: float = setting(1.25, least=1)
    """Greatest enlargement, and reduction; 1: none."""
    elastic: float = 4.0
    """Standard deviation of the elastic displacement at its nodes, px."""
    elastic_spacing: int = setting(48, least=1)
    """Distance between the nodes, px."""
    warped: float = setting(0.8, most=1.0)
    """Share of the samples that are rotated, scaled and warped; the others are at most flipped and turned."""
    gamma: float = setting(1.4, least=1)
    """Greatest exponent of the intensities, and its inverse; 1: none."""
    contrast: float = setting(1.4, least=1)
    """Greatest factor on the contrast, and its inverse; 1: none."""
    brightness: float = 0.15
    """Greatest shift of the intensities."""
    shading: float = 0.15
    """Standard deviation of a smooth illumination field at its nodes."""
    noise: float = 0.06
    """Greatest standard deviation of added noise."""
    blur: float = 1.2
    """Greatest σ of a Gaussian blur, px; a quarter of the samples are blurred."""


def smooth_field(rng: np.random.Generator, size: int, spacing: int) -> NDArray[np.float32]:
    """Normal values at nodes every `spacing` px, linear between them: float32, (size, size)."""
    nodes = rng.standard_normal((size // spacing + 2, size // spacing + 2)).astype(np.float32)
    at = (np.arange(size, dtype=np.float32) + rng.random(dtype=np.float32) * spacing) / spacing
    low = np.minimum(at.astype(int), len(nodes) - 2)
    rest = (at - low)[:, None]
    rows = nodes[low] * (1 - rest) + nodes[low + 1] * rest
    field: NDArray[np.float32] = rows[:, low] * (1 - rest.T) + rows[:, low + 1] * rest.T
    return field


def coordinates(
    rng: np.random.Generator, center: tuple[float, float], size: int, how: Augmentation, scale: float = 1.0
) -> NDArray[np.float32]:
    """Frame coordinates of each pixel of a view around `center`, `scale` px of the frame each: (2, size, size).

    A view that is at most flipped and turned is moved by less than a pixel onto the pixels of the frame: a value
    between them is a mean, so that such samples would be blurred, as no image is at inference.
    """
    axis = np.arange(size, dtype=np.float32) - (size - 1) / 2
    points = np.stack(np.broadcast_arrays(axis[:, None], axis[None, :]))
    angle, zoom = 0.0, 1 / scale
    warped = rng.random() < how.warped
    if warped:
        angle = np.radians(rng.uniform(-how.rotation, how.rotation))
        zoom *= how.scale ** rng.uniform(-1, 1)
    cos, sin = np.cos(angle) / zoom, np.sin(angle) / zoom
    turned = np.einsum("ij,jyx->iyx", np.array([[cos, -sin], [sin, cos]], np.float32), points)
    if warped and how.elastic > 0:
        turned += how.elastic * np.stack([smooth_field(rng, size, how.elastic_spacing) for _ in range(2)])
    if how.turns:
        turned = _turned(turned, rng)
    elif how.flips != "none":
        sides = (2,) if how.flips == "horizontal" else (2, 1)
        turned = np.flip(turned, tuple(side for side in sides if rng.random() < 0.5))
    place = np.array(center)
    if not warped and scale == 1:
        place = np.round(place - (size - 1) / 2) + (size - 1) / 2
    found: NDArray[np.float32] = turned + place.astype(np.float32)[:, None, None]
    return found


def _turned(points: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Flip and turn by a multiple of 90°."""
    if rng.random() < 0.5:
        points = points[:, ::-1]
    return np.rot90(points, int(rng.integers(4)), axes=(1, 2))


@dataclass(frozen=True, kw_only=True)
class View:
    """A view of a frame, in the part of the frame that it needs."""

    box: Box
    """The part: all pixels that the points of the view depend on."""
    places: NDArray[np.float64]
    """(2, y, x): each point in the coordinates of the box."""


def view_of(points: NDArray[np.float32], shape: tuple[int, int]) -> View:
    """Find a view in a frame of this height and width, px.

    Parameters
    ----------
    points : float32 array, (2, y, x)
        Frame coordinates of the view's pixels; beyond the frame they are mirrored at the centres of its outer pixels.
    shape : tuple of int
        Height and width of the frame, px.
    """
    exact = points.astype(np.float64)
    # Mirrored and moved in float64, the sums of a float32 and whole numbers are exact: the view is the whole frame's.
    places = [_mirrored(axis, size) for axis, size in zip(exact, shape, strict=True)]
    around = SUPPORT // 2
    y0, x0 = (max(int(axis.min()) + 1 - around, 0) for axis in places)
    y1, x1 = (min(int(axis.max()) + around + 1, size) for axis, size in zip(places, shape, strict=True))
    return View(box=Box(y0, x0, y1, x1), places=np.stack(places) - np.array([y0, x0])[:, None, None])


def _mirrored(axis: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Coordinates beyond 0 … size − 1, mirrored at both ends repeatedly."""
    period = 2 * (size - 1)
    if period == 0:
        return np.zeros_like(axis)
    at = np.fmod(np.abs(axis), period)
    return np.where(at > size - 1, period - at, at)


def view_of_labels(labels: Labels, view: View) -> Labels:
    """Labels at the points, with smooth outlines (`warped_labels`); `labels` are those of the view's box.

    Points that are all pixels have the labels of these pixels.
    """
    y, x = whole = view.places.astype(np.int64)
    return labels[y, x] if np.array_equal(whole, view.places) else warped_labels(labels, view.places)


def view_of_image(image: NDArray[np.float32], view: View, inner: slice) -> NDArray[np.float32]:
    """Intensities (c, y, x) at the points in the rows and columns `inner`, linear between pixels of the view's box."""
    places = view.places[:, inner, inner]
    return np.stack([ndimage.map_coordinates(channel, places, order=1, mode="mirror") for channel in image])


def other_intensities(image: NDArray[np.float32], rng: np.random.Generator, how: Augmentation) -> NDArray[np.float32]:
    """Change gamma, contrast, brightness, shading, sharpness and noise of (c, y, x), the same way for all channels."""
    power = how.gamma ** rng.uniform(-1, 1)
    factor = how.contrast ** rng.uniform(-1, 1)
    light = 1 + how.shading * smooth_field(rng, image.shape[1], max(2, image.shape[1] // 2))
    changed = np.sign(image) * np.abs(image) ** np.float32(power) * light
    changed = (changed - 0.5) * np.float32(factor) + np.float32(0.5 + rng.uniform(-1, 1) * how.brightness)
    if rng.random() < 0.25:
        sigma = rng.uniform(0, how.blur)
        changed = ndimage.gaussian_filter(changed, (0, sigma, sigma))
    noise = rng.standard_normal(image.shape, np.float32) * np.float32(rng.uniform(0, how.noise))
    made: NDArray[np.float32] = (changed + noise).astype(np.float32)
    return made

"""State of neuroglancer as JSON for its pages and links: layers, dimensions, position, contrast.

Positions count voxels of the image's finest level along x, y, z and t; each channel is a layer.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cellscale.ngff.image import NgffImage
from cellscale.ngff.labels import LabelLayer
from cellscale.storage.json_text import json_text
from cellscale.types import Box
from cellscale.units import unit_s, unit_um

HOSTED = "https://neuroglancer-demo.appspot.com/"
"""A public neuroglancer page, for stores on the web."""
SHADER = """#uicontrol invlerp contrast
#uicontrol vec3 tint color(default="{colour}")
void main() {{ emitRGB(tint * contrast()); }}"""
TINTS = ("#00ff00", "#ff0000", "#0000ff", "#ff00ff", "#00ffff", "#ffff00")
SCREEN_PX = (560, 800)
"""Height and width on the screen that a frame fits into at first."""
SAMPLED_PX = 1024
"""Side of the part of a frame that the contrast is taken from."""


def contrast(image: NgffImage, t: int = 0, z: int = 0) -> list[tuple[float, float]]:
    """1st and 99.5th percentile of each channel, in the middle of the coarsest level of a frame."""
    level = len(image.levels) - 1
    height, width = image.size("y", level), image.size("x", level)
    whole = Box(0, 0, height, width)
    box = Box(height // 2, width // 2, height // 2, width // 2).grow(SAMPLED_PX // 2).clip(whole)
    shares = (image.size("t", level) / image.size("t"), image.size("z", level) / image.size("z"))
    pixels = image.read(box, t=int(t * shares[0]), z=int(z * shares[1]), level=level)
    found = np.nanpercentile(pixels.reshape(len(pixels), -1).astype(np.float64), (1, 99.5), axis=1)
    return [(float(low), float(max(high, low + 1e-9))) for low, high in found.T]


def dimensions(image: NgffImage) -> dict[str, tuple[float, str]]:
    """Size of a voxel along x, y, z and t: m and s where the units are known, else without a unit."""
    found = {}
    for axis in (axis for axis in "xyzt" if axis in image.axes):
        at = image.axes.index(axis)
        unit_size, symbol, per = (unit_s, "s", 1.0) if axis == "t" else (unit_um, "m", 1e-6)
        factor, scale = unit_size(image.units[at] or ""), image.levels[0].scale[at]
        found[axis] = (scale, "") if factor is None else (scale * factor * per, symbol)
    return found


def _position(image: NgffImage, t: int, z: int) -> list[float]:
    """The middle of a plane, in voxels."""
    level, middle = image.levels[0], {"t": t + 0.5, "z": z + 0.5, "y": image.size("y") / 2, "x": image.size("x") / 2}
    at = {axis: image.axes.index(axis) for axis in dimensions(image)}
    return [middle[axis] + level.translation[i] / level.scale[i] for axis, i in at.items()]


def _image_layers(image: NgffImage, source: str, windows: Sequence[tuple[float, float]]) -> list[dict[str, Any]]:
    many = len(windows) > 1
    made = []
    for c, window in enumerate(windows):
        layer = {
            "type": "image",
            "name": f"image {image.channels[c]}" if many else "image",
            "source": source,
            "shader": SHADER.format(colour=TINTS[c % len(TINTS)] if many else "#ffffff"),
            "shaderControls": {"contrast": {"range": list(window)}},
            "opacity": 1,
            "blend": "additive",
        }
        made.append(layer | ({"localDimensions": {"c'": (1, "")}, "localPosition": [c]} if many else {}))
    return made


def scale_on_screen(image: NgffImage) -> float:
    """Voxels in a pixel of the screen, at first."""
    return max(image.size("y") / SCREEN_PX[0], image.size("x") / SCREEN_PX[1])


def state(
    image: NgffImage, labels: Sequence[LabelLayer], addresses: Mapping[str, str], *, t: int = 0, z: int = 0
) -> dict[str, Any]:
    """Return the state of neuroglancer for an image and label layers that lie on it.

    Parameters
    ----------
    image : NgffImage
        Each channel becomes a layer, with a contrast from its pixels.
    labels : sequence of LabelLayer
        Drawn over it in this order; all but the last are hidden at first if there are several.
    addresses : mapping of str to str
        HTTP address of each image or layer by its URL.
    t, z : int
        Frame and slice to begin with.

    Returns
    -------
    dict
        JSON's types.
    """
    sources = {url: f"{found.rstrip('/')}/|zarr:" for url, found in addresses.items()}
    drawn = [
        {
            "type": "segmentation",
            "name": layer.name,
            "source": sources[layer.url],
            "selectedAlpha": 0.5,
            "visible": layer is labels[-1],
        }
        for layer in labels
    ]
    return {
        "dimensions": dimensions(image),
        "position": _position(image, t, z),
        "crossSectionScale": scale_on_screen(image),
        "layout": "xy",
        "showAxisLines": False,
        "layers": [*_image_layers(image, sources[image.url], contrast(image, t, z)), *drawn],
    }


def link(shown: Mapping[str, Any], page: str = HOSTED) -> str:
    """A link that opens a neuroglancer page with this state."""
    return f"{page}#!{urllib.parse.quote(json_text(shown, separators=(',', ':')))}"

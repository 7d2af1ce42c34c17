"""Three classes, background, cell and contour: their ground truth, and objects from their stored probabilities.

A contour is the boundary of a cell, one pixel wide, so that the insides of touching cells are never 4-adjacent. Masks
are exact in the whole given region, since the class of a pixel depends only on its own three probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cellscale.kernels.touching import boundary_pixels
from cellscale.methods.parts.decoding import fragments
from cellscale.methods.protocol import Maps
from cellscale.types import Box, Fragments, Labels, Mask, StoredMaps

CLASSES = ("background", "cell", "contour")
MAPS = ("cell", "contour")
"""Names of the stored maps; the background's share is the rest."""


@dataclass(frozen=True, kw_only=True)
class Contours:
    """Settings for contour pixels and small objects."""

    contour_radius: int = 3
    """Greatest distance at which a contour pixel is assigned to the nearest cell, px; others become background; not in
    the paper."""
    minimum_area: int = 0
    """Smaller objects are dropped, px; fitted by `calibrate`; not in the paper."""

    def decode(self, maps: StoredMaps, valid: Box) -> Fragments:
        """4-connected components of the cells' insides; contour pixels go to the nearest."""
        inside, contour = greatest(maps)
        return fragments(inside, contour, self.contour_radius, valid)


def greatest(maps: StoredMaps) -> tuple[Mask, Mask]:
    """Pixels where the cell, and where the contour is most probable; ties go to the background, then to the cell."""
    cell, contour = (maps[name].astype(np.int16) for name in MAPS)
    background = 255 - cell - contour
    return (cell > background) & (cell >= contour), (contour > background) & (contour > cell)


def contour_classes(labels: Labels) -> NDArray[np.uint8]:
    """0 background, 1 inside of a cell, 2 contour: cell pixels with a 4-neighbour of another label; (y, x)."""
    classes: NDArray[np.uint8] = np.where(boundary_pixels(labels), 2, labels > 0).astype(np.uint8)
    return classes


def perfect_maps(labels: Labels) -> Maps:
    """The classes as probabilities 0 and 1."""
    classes = contour_classes(labels)
    return {name: (classes == number).astype(np.float32) for number, name in enumerate(MAPS, 1)}

"""Objects from stored maps, in integers: thresholds, components, touching pixels, minimum areas.

Masks are plain thresholds, exact in the whole given region, so components formed outside the valid box consist of true
links as well. A gap pixel depends on GAP_REACH px around it and is computed only in the valid box.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cellscale.kernels.components import connected_components
from cellscale.kernels.touching import assign_touching
from cellscale.kernels.watershed import basins, flooded, joined_shallow
from cellscale.types import Box, Fragments, Labels, Mask, Table

GAP_REACH = 2
"""Radius of the part of the mask that decides whether a pixel is in a gap, px."""
SQUARE = np.ones((3, 3), bool)
CROSS = ndimage.generate_binary_structure(2, 1)


def above(stored: NDArray[np.uint8], threshold: float) -> Mask:
    """Whether p > threshold, by comparing integers: round(255 p) > floor(255 threshold)."""
    found: Mask = stored > math.floor(255 * threshold + 1e-9)
    return found


def gaps(cells: Mask) -> Mask:
    """Background that a closing with a 3×3 square fills: gaps of one or two pixels, none at the frame's border."""
    inner = slice(GAP_REACH, -GAP_REACH)
    closed: Mask = ndimage.binary_closing(np.pad(cells, GAP_REACH), SQUARE)[inner, inner]
    found: Mask = closed & ~cells
    return found


def contact_pixels(labels: Labels, neighbours: Mask = CROSS) -> Mask:
    """Return the cell pixels with a pixel of another cell among their neighbours, 4 unless given as a 3×3 mask."""
    other_cell = np.where(labels > 0, labels, np.iinfo(labels.dtype).max)
    least = ndimage.minimum_filter(other_cell, footprint=neighbours, mode="nearest")
    most = ndimage.maximum_filter(labels, footprint=neighbours, mode="nearest")
    found: Mask = (labels > 0) & ((least != labels) | (most != labels))
    return found


def fragments(cells: Mask, touching: Mask, radius: int, valid: Box) -> Fragments:
    """Algorithm 2 of Guerrero-Peña et al. (2018): components of the cells, then touching pixels to the nearest cell.

    Parameters
    ----------
    cells, touching : bool array, (y, x)
        Masks of a region; a pixel in both is touching.
    radius : int
        Touching pixels farther than this from any cell become background, px.
    valid : Box
        The part of the region whose fragments are returned.
    """
    components, _ = connected_components(cells & ~touching, connectivity=4)
    assigned = assign_touching(components, touching, radius=radius)
    return Fragments(labels=renumbered(assigned[valid.slices]))


def renumbered(labels: Labels) -> NDArray[np.int32]:
    """Number the labels that occur 1 … n, in their order."""
    present = np.zeros(int(labels.max(initial=0)) + 1, bool)
    present[labels.ravel()] = True
    present[0] = False
    table = np.where(present, np.cumsum(present), 0).astype(np.int32)
    return table[labels]


def large_enough(nodes: Table, minimum_area: int) -> NDArray[np.int64]:
    """Drop the objects of fewer pixels: entry i is i, or −1."""
    area = nodes["area"]
    return np.where(area >= minimum_area, np.arange(len(area)), -1)


def marked_basins(markers: Mask, heights: NDArray[np.uint8], mask: Mask, valid: Box) -> Fragments:
    """Basins of a watershed from markers, by steepest descent; `flooded_cells` joins them.

    Parameters
    ----------
    markers, mask : bool array, (y, x)
        Markers of cells, and foreground; markers belong to the mask.
    heights : uint8 array, (y, x)
        Height map, 1 … 254; markers get 0.
    valid : Box
        The part whose fragments are returned; exact if the rest is exact 1 px beyond it.
    """
    relief = np.where(markers, np.uint8(0), heights)
    found, _ = basins(relief, mask | markers, box=valid)
    return Fragments(labels=found, relief=relief[valid.slices])


def flooded_cells(nodes: Table, edges: Table, minimum_area: int) -> NDArray[np.int64]:
    """Join the basins that a marker floods; drop those that none reaches, and small cells.

    Basins that meet at height 0 share a marker: such a pass is never above the shallower one's lowest pixel.
    """
    low = edges["saddle"] == 0
    connected = joined_shallow(nodes, {name: column[low] for name, column in edges.items()}, depth=1)
    groups = flooded(connected, nodes, edges, marker=0)
    area = np.zeros(len(groups), np.int64)
    np.add.at(area, groups[groups >= 0], nodes["area"][groups >= 0])
    return np.where((groups >= 0) & (area[groups] >= minimum_area), groups, -1)

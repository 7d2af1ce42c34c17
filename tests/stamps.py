"""The smallest method whose objects have anchors: local maxima that suppress each other and stamp squares."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cellscale.methods.parts.decoding import large_enough, renumbered
from cellscale.types import Box, Fragments, Mask, Reach, StoredMaps, Table


@dataclass(frozen=True, kw_only=True)
class Stamps:
    """A candidate is the greatest pixel by key (value, −y, −x) within `search`; it goes if one with a higher key is
    within `extent`; what is left claims the pixels within `extent` of at least half its value, higher keys first.

    So a pixel looks for anchors (extent), these for rivals (extent), and these for what makes them (search).
    """

    extent: int = 3
    search: int = 2
    minimum_area: int = 0

    @property
    def reaches(self) -> Reach:
        return Reach(decode_reach=2 * self.extent + self.search, link=1)

    def best(self, keys: NDArray[np.int64], among: Mask, radius: int) -> Mask:
        """Which pixels of a set have the highest key of the set within `radius`."""
        ranked = np.where(among, keys, -1)
        highest: Mask = ndimage.maximum_filter(ranked, 2 * radius + 1, mode="constant", cval=-1) == keys
        return among & highest

    def decode(self, maps: StoredMaps, valid: Box) -> Fragments:
        values = maps["peak"].astype(np.int64)
        keys = values * values.size + np.arange(values.size)[::-1].reshape(values.shape)
        kept = self.best(keys, self.best(keys, values > 128, self.search), self.extent)
        places = np.argwhere(kept)[np.argsort(keys[kept])]
        owner = np.zeros(values.shape, np.uint32)
        for number, (y, x) in enumerate(places, 1):
            box = Box(y, x, y + 1, x + 1).grow(self.extent).clip(Box.of(values.shape)).slices
            owner[box] = np.where(2 * values[box] >= values[y, x], number, owner[box])
        labels = owner[valid.slices]
        anchors = places[np.unique(labels[labels > 0]).astype(np.int64) - 1] - (valid.y0, valid.x0)
        return Fragments(labels=renumbered(labels), anchors=anchors)

    def merge_objects(self, nodes: Table, edges: Table) -> NDArray[np.int64]:
        return large_enough(nodes, self.minimum_area)

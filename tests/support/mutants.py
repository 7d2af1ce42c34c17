"""Methods with one rule of tiling weakened, and the search for a frame on which that shows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cellscale.errors import RunError
from cellscale.methods.protocol import Method
from cellscale.testing.cases import random_maps
from cellscale.tiling.in_memory import tiled_frame, whole_frame
from cellscale.types import Box, Fragments, Reach, StoredMaps, Table


@dataclass(frozen=True)
class Mutant:
    """A method with one rule weakened."""

    method: Method
    decode_reach_less: int = 0
    link_less: int = 0
    judge_in_tile: bool = False

    @property
    def reaches(self) -> Reach:
        own = self.method.reaches
        return Reach(decode_reach=own.decode_reach - self.decode_reach_less, link=own.link - self.link_less)

    def decode(self, maps: StoredMaps, valid: Box) -> Fragments:
        fragments = self.method.decode(maps, valid)
        if not self.judge_in_tile:
            return fragments
        area = np.bincount(fragments.labels.ravel())
        kept = np.where(area >= 20, fragments.labels.max(initial=0) > -1, False)
        kept[0] = False
        return replace(fragments, labels=np.where(kept[fragments.labels], fragments.labels, 0))

    def merge_objects(self, nodes: Table, edges: Table) -> NDArray[np.int64]:
        return self.method.merge_objects(nodes, edges)


def breaks(mutant: Mutant, cases: int = 300) -> bool:
    """Whether some random frame is decoded differently by tiles than at once."""
    for seed in range(cases):
        maps = random_maps(mutant.method.maps, (60, 60), seed)
        try:
            tiled = tiled_frame(mutant, maps, 17)
        except RunError:
            return True
        if not np.array_equal(tiled, whole_frame(mutant.method, maps)):
            return True
    return False

"""How far contours by tiles differ from those of the whole frame: none by basins, some with Icy's mutual push.

Run `python benchmarks/coupling.py --side 4096 --cells 4000 --tile 512`: maps of a synthetic frame, perfect or with
edges of a tenth of their height, owners of pixels compared. A push travels through a chain of touching cells, farther
than any ring of a tile; between perfect edges contours do not meet.
"""

import argparse
import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellscale.methods import load_method
from cellscale.methods.protocol import Method
from cellscale.sources.synthetic import Scene
from cellscale.tiling.tiles import Grid
from cellscale.types import Box, StoredMaps, part_of


def owners(method: Method, maps: StoredMaps, side: int, tile: int) -> NDArray[np.int64]:
    """Raster index + 1 of the anchor of each pixel's cell, 0 outside cells, (y, x)."""
    grid = Grid(shape=(side, side), size=tile)
    found = np.zeros(grid.shape, np.int64)
    for number in range(len(grid)):
        core, read = grid.core(number), grid.read(number, method.reaches.link, method.reaches.decode_reach)
        fragments = method.decode(part_of(maps, read), core.within(read))
        y, x = (fragments.anchors + np.array([core.y0, core.x0])).T
        found[core.slices] = np.concatenate([[0], y * side + x + 1])[fragments.labels]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=4096)
    parser.add_argument("--cells", type=int, default=4000)
    parser.add_argument("--tile", type=int, default=512)
    given = parser.parse_args()
    truth = Scene(shape=(1, given.side, given.side), cells=given.cells).labels(0, Box(0, 0, given.side, given.side))
    for coupling, height in itertools.product(("basins", "icy"), (1.0, 0.1)):
        method: Any = load_method("multicellnet", radius=24, extent=64, coupling=coupling)
        ideal = method.perfect_prediction(truth)
        scaled = {"region": ideal["region"], "edge": height * ideal["edge"]}
        maps = {name: np.rint(255 * values).astype(np.uint8) for name, values in scaled.items()}
        whole, tiled = (owners(method, maps, given.side, tile) for tile in (given.side, given.tile))
        differ = whole != tiled
        cells, changed = (
            np.unique(values[values > 0]).size for values in (whole, np.append(whole[differ], tiled[differ]))
        )
        print(
            f"{coupling}, edges of height {height}: {differ.sum()} of {(whole > 0).sum()} cell pixels differ, "
            f"in {changed} of {cells} cells"
        )


if __name__ == "__main__":
    main()

"""Join: the pieces of a plane's tiles become its cells, numbered in raster order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cellscale.arrays import Table
from cellscale.segmentation.decode import unpacked
from cellscale.segmentation.plan import Run, Unit
from cellscale.segmentation.records import Arrays
from cellscale.tiles import seams
from cellscale.tiles.seams import Cells, TileRecord


def _tile_records(run: Run, plane: int) -> list[TileRecord]:
    """All tile records of a plane, in the order of the grid."""
    units = [(plane,)] if run.fused else [(plane, tile) for tile in range(len(run.grid))]
    found: dict[int, TileRecord] = {}
    for unit in units:
        if (unit[1] if len(unit) > 1 else -1) not in found:
            record = run.record_of(run.decode, unit)
            found |= {made.tile: made for of, made in unpacked(record, run.grid, run.method.link) if of == plane}
    return [found[tile] for tile in range(len(run.grid))]


def join(run: Run, units: Sequence[Unit]) -> Arrays:
    """Join planes: offsets, finals and the object table of each, under the plane's number."""
    arrays: Arrays = {}
    for (plane,) in units:
        cells = seams.join(_tile_records(run, plane), run.grid, run.method.link, run.method.unite)
        arrays |= {f"{plane}/offsets": cells.offsets, f"{plane}/finals": cells.finals}
        arrays |= {f"{plane}/objects/{name}": column for name, column in cells.objects.items()}
    return arrays


def cells_of(run: Run, plane: int) -> Cells:
    """Read back the cells of a plane."""
    record = run.record_of(run.join, (plane,))
    prefix = f"{plane}/objects/"
    objects: Table = {name[len(prefix) :]: column for name, column in record.items() if name.startswith(prefix)}
    return Cells(
        offsets=record[f"{plane}/offsets"], finals=record[f"{plane}/finals"].astype(np.uint32), objects=objects
    )

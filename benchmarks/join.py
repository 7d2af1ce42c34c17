"""The join of one plane of a million tiles and a hundred million cells, tables only: time and memory.

    python benchmarks/join.py --rows 1000 --columns 1000

Every tile is the same field of 10 × 10 cells, some of which cross its borders; its record is moved to its place. Row
groups are joined and swept one after the other in this process, as one worker would; what the driver holds is timed
apart. Planes of up to 400 tiles are compared with the components of the whole field.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cellscale.kernels.components import connected_components
from cellscale.methods.parts.decoding import large_enough, renumbered
from cellscale.segmentation.work_items import Step, StepName
from cellscale.tiling.ring_rule import TileRecord, record
from cellscale.tiling.row_groups import RowGroup, RowGroups, join_row_group, sweep
from cellscale.tiling.tiles import Grid
from cellscale.types import Box, Fragments
from peak import peak_mb

TILE = 96
PITCH = TILE / 10
LINK = 1


def field(height: int, width: int) -> NDArray[np.bool_]:
    """Discs at a pitch that divides a tile, moved so that tile borders cut them: (y, x)."""
    y, x = ((np.arange(size) % TILE + 0.3 * PITCH) % PITCH - PITCH / 2 for size in (height, width))
    return y[:, None] ** 2 + x**2 < (0.42 * PITCH) ** 2


def prototype() -> TileRecord:
    """The record of the middle tile of 3 × 3, at its place."""
    grid = Grid(shape=(3 * TILE, 3 * TILE), size=TILE)
    components, _ = connected_components(field(3 * TILE, 3 * TILE)[grid.valid(4, LINK).slices], connectivity=4)
    return record(Fragments(labels=renumbered(components.astype(np.uint32))), grid, 4, LINK)[1]


def moved(made: TileRecord, grid: Grid, tile: int) -> TileRecord:
    """Move a record to another tile; its overlap bands end at the frame."""
    core, valid = grid.core(tile), grid.valid(tile, LINK)
    dy, dx = core.y0 - TILE, core.x0 - TILE
    area, seen = made.nodes["area"], made.nodes["area"] > 0
    y, x = np.divmod(made.nodes["first"], 3 * TILE)
    nodes = {
        **made.nodes,
        "sum_y": made.nodes["sum_y"] + area * dy,
        "sum_x": made.nodes["sum_x"] + area * dx,
        "first": np.where(seen, (y + dy) * grid.shape[1] + x + dx, made.nodes["first"]),
    }
    for side, by in (("y0", dy), ("y1", dy), ("x0", dx), ("x1", dx)):
        nodes[side] = np.where(seen, made.nodes[side] + by, made.nodes[side])
    inner = valid.within(Box(core.y0 - LINK, core.x0 - LINK, core.y1 + LINK, core.x1 + LINK))
    top, bottom, left, right = made.overlap
    columns = slice(inner.x0, inner.x1)
    overlap = (
        top[inner.y0 :, columns],
        bottom[: LINK if valid.y1 > core.y1 else 0, columns],
        left[:, inner.x0 :],
        right[:, : LINK if valid.x1 > core.x1 else 0],
    )
    return replace(made, tile=tile, nodes=nodes, overlap=overlap)


def joined_row_groups(row_groups: RowGroups, made: TileRecord, seconds: list[float]) -> Iterator[RowGroup]:
    """Join the row groups of the plane, one after the other."""
    for group in range(len(row_groups)):
        tiles = (*row_groups.tiles(group), *row_groups.at_top(group + 1))
        records = {tile: moved(made, row_groups.grid, tile) for tile in tiles}
        began = time.perf_counter()
        joined = join_row_group(records, row_groups, group)
        seconds.append(time.perf_counter() - began)
        yield joined


def driver(tiles: int) -> dict[str, float]:
    """Measure what the driver holds of a step of this number of tiles: its tasks and the names of their records."""
    began, before = time.perf_counter(), peak_mb()
    step = Step(kind=StepName.DECODE, planes=1, items_yx=(1, tiles), block=(1, 1, 64), item_px=1024**2)
    done = frozenset(step.record_name(task) for task in range(0, len(step), 2))
    todo = [step.task(t) for t in range(len(step)) if step.record_name(t) not in done]
    return {"tasks": len(step), "to_do": len(todo), "s": time.perf_counter() - began, "mb": peak_mb() - before}


def main() -> None:
    """Measure and print as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--columns", type=int, default=1000)
    size = parser.parse_args()
    grid = Grid(shape=(size.rows * TILE, size.columns * TILE), size=TILE)
    row_groups = RowGroups(grid=grid, link=LINK, span=LINK)
    start, joining, sweeping, cells, area = peak_mb(), list[float](), list[float](), 0, 0
    began = time.perf_counter()
    for decided in sweep(
        joined_row_groups(row_groups, prototype(), joining), lambda nodes, edges: large_enough(nodes, 1)
    ):
        cells, area = cells + len(decided.cells["area"]), area + int(decided.cells["area"].sum())
        sweeping.append(time.perf_counter() - began - joining[-1])
        began = time.perf_counter()
    if len(grid) <= 400:
        _, expected = connected_components(field(*grid.shape), connectivity=4)
        assert (cells, area) == (expected, int(field(*grid.shape).sum())), (cells, area, expected)
    tenth = max(1, len(joining) // 10)
    found = {
        "tiles": len(grid),
        "cells": cells,
        "mean_area_px": area / cells,
        "join_row_group_s": {
            "first tenth": float(np.mean(joining[:tenth])),
            "last tenth": float(np.mean(joining[-tenth:])),
        },
        "sweep_s": {"first tenth": float(np.mean(sweeping[:tenth])), "last tenth": float(np.mean(sweeping[-tenth:]))},
        "total_s": sum(joining) + sum(sweeping),
        "peak_mb": {"before": start, "after": peak_mb()},
        "driver": driver(len(grid)),
    }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

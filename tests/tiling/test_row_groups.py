"""Row groups: each is joined by itself; a sweep merges them and finishes objects that reach no further group."""

import numpy as np
import pytest

from cellscale.kernels.components import connected_components
from cellscale.tiling.ring_rule import TileRecord, record
from cellscale.tiling.row_groups import RowGroups, join_row_group, labels_of, sweep
from cellscale.tiling.tiles import Grid
from cellscale.types import Fragments

FRAME = np.array(
    [
        [1, 0, 1, 1, 0, 1],
        [1, 0, 0, 0, 0, 1],
        [1, 0, 1, 0, 0, 1],
        [0, 0, 1, 0, 0, 1],
        [0, 1, 0, 0, 0, 1],
        [0, 1, 0, 1, 1, 1],
    ],
    bool,
)


def records_of(mask: np.ndarray, grid: Grid) -> dict[int, TileRecord]:
    made = {}
    for tile in range(len(grid)):
        components, _ = connected_components(mask[grid.valid(tile, 1).slices], connectivity=4)
        made[tile] = record(Fragments(labels=components.astype(np.int32)), grid, tile, 1)[1]
    return made


def decided(mask: np.ndarray, size: int, least: int = 1) -> list[list[tuple[int, int]]]:
    """First pixel and area of the cells that are finalized after each group."""
    row_groups = RowGroups(grid=Grid(shape=mask.shape, size=size), link=1, span=1)
    records = records_of(mask, row_groups.grid)
    joined = [join_row_group(records, row_groups, group) for group in range(len(row_groups))]
    found = sweep(joined, lambda nodes, edges: np.where(nodes["area"] >= least, np.arange(len(nodes["area"])), -1))
    return [list(zip(part.cells["first"].tolist(), part.cells["area"].tolist(), strict=True)) for part in found]


def test_objects_are_finalized_as_soon_as_no_further_row_group_has_them() -> None:
    """The cell at 14 ends in the second group, in its last row: tiles of the third see it in their rings."""
    assert decided(FRAME, 2) == [[(2, 2)], [(0, 3)], [(5, 8), (14, 2), (25, 2)]]


def test_small_objects_are_decided_whole() -> None:
    assert decided(FRAME, 2, least=3) == [[], [(0, 3)], [(5, 8)]]


def test_one_row_group_is_the_whole_frame() -> None:
    assert decided(FRAME, 6) == [[(0, 3), (2, 2), (5, 8), (14, 2), (25, 2)]]


@pytest.mark.parametrize(("size", "span", "rows", "count"), [(4, 1, 1, 3), (4, 9, 3, 1), (2, 3, 2, 3), (64, 70, 2, 1)])
def test_a_row_group_is_as_high_as_ties_can_span(size: int, span: int, rows: int, count: int) -> None:
    row_groups = RowGroups(grid=Grid(shape=(12, 30), size=size), link=1, span=span)
    assert (row_groups.tile_rows, len(row_groups)) == (rows, count)
    numbers = [tile for group in range(count) for tile in row_groups.tiles(group)]
    assert numbers == list(range(len(row_groups.grid)))
    assert all(row_groups.of_tile(tile) == group for group in range(count) for tile in row_groups.tiles(group))
    assert not row_groups.tiles(count)


def test_row_groups_grow_to_a_task() -> None:
    assert RowGroups(grid=Grid(shape=(100, 100), size=10), link=1, span=1, least_px=3500).tile_rows == 4


def test_labels_are_ranks_of_first_pixels() -> None:
    firsts = np.array([7, -1, 3, 7, 20])
    assert labels_of(firsts, np.array([3, 7, 20]), before=10).tolist() == [12, 0, 11, 12, 13]

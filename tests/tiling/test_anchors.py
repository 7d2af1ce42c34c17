"""The promise for objects with anchors: any tiling gives the whole frame's labels; equal anchors are one object."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cellscale.errors import RunError
from cellscale.tiling import ring_rule
from cellscale.tiling.in_memory import Cells, join, tiled_frame, whole_frame
from cellscale.tiling.row_groups import RowGroups
from cellscale.tiling.tiles import Grid
from cellscale.types import Fragments, Reach
from tests.stamps import Stamps


def peaks(shape: tuple[int, int], seed: int) -> dict[str, np.ndarray]:
    """A rough random map with many local maxima, plateaus among them."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.standard_normal(shape), rng.uniform(0.5, 1.5))
    return {"peak": np.clip(128 + 90 * noise / noise.std(), 0, 255).astype(np.uint8)}


@settings(max_examples=150, deadline=None)
@given(
    shape=st.tuples(st.integers(4, 40), st.integers(4, 40)),
    size=st.integers(2, 24),
    extent=st.integers(1, 4),
    search=st.integers(1, 3),
    minimum_area=st.sampled_from([0, 6]),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_tiling_gives_the_whole_frames_labels(
    shape: tuple[int, int], size: int, extent: int, search: int, minimum_area: int, seed: int
) -> None:
    method = Stamps(extent=extent, search=search, minimum_area=minimum_area)
    maps = peaks(shape, seed)
    assert np.array_equal(tiled_frame(method, maps, size), whole_frame(method, maps))


def breaks(extent: int, search: int, less: int) -> bool:
    class Mutant(Stamps):
        @property
        def reaches(self) -> Reach:
            return Reach(decode_reach=2 * self.extent + self.search - less, link=1)

    mutant = Mutant(extent=extent, search=search)
    for seed in range(150):
        maps = peaks((40, 40), seed)
        try:
            if not np.array_equal(tiled_frame(mutant, maps, 13), whole_frame(mutant, maps)):
                return True
        except RunError:
            return True
    return False


@pytest.mark.parametrize(("extent", "search"), [(2, 1), (3, 2)])
def test_one_px_less_breaks_the_promise(extent: int, search: int) -> None:
    assert not breaks(extent, search, 0)
    assert breaks(extent, search, 1)


def halves(left: int, right: int) -> list[ring_rule.TileRecord]:
    """Two tiles of 4 × 4 px, each full of one fragment with the given anchor in the frame's first row."""
    grid, records = Grid(shape=(4, 8), size=4), []
    for tile, x in enumerate((left, right)):
        valid = grid.valid(tile, 1)
        fragments = Fragments(
            labels=np.ones(valid.shape, np.int32),
            anchors=np.array([(0, x - valid.x0)]),
            flags={"cut": np.array([tile])},
        )
        records.append(ring_rule.record(fragments, grid, tile, 1)[1])
    return records


def joined(records: list[ring_rule.TileRecord], shape: tuple[int, int] = (4, 8)) -> Cells:
    row_groups = RowGroups(grid=Grid(shape=shape, size=4), link=1, span=8)
    return join(records, row_groups, lambda nodes, edges: np.arange(len(nodes["area"])))


def test_fragments_of_one_anchor_are_one_object_with_the_flags_of_both() -> None:
    cells = joined(halves(6, 6))
    assert {name: column.tolist() for name, column in cells.objects.items() if name in ("area", "anchor", "cut")} == {
        "area": [32],
        "anchor": [6],
        "cut": [1],
    }


def test_tiles_that_disagree_on_an_anchor_are_named() -> None:
    with pytest.raises(RunError, match=r"Tiles 0 and 1 .*anchors.*decode_reach"):
        joined(halves(2, 6))


def test_parts_without_contact_are_one_object() -> None:
    grid = Grid(shape=(3, 9), size=4)
    records = []
    for tile in range(3):
        valid = grid.valid(tile, 1)
        labels = np.zeros((3, 9), np.int32)
        labels[1, [0, 8]] = 1
        part = labels[valid.slices]
        found = Fragments(labels=part, anchors=np.array([(0, 4 - valid.x0)] * int(part.max())).reshape(-1, 2))
        records.append(ring_rule.record(found, grid, tile, 1)[1])
    cells = joined(records, (3, 9))
    assert cells.finals.tolist() == [1, 1, 1]
    assert cells.objects["area"].tolist() == [2]


def test_parts_in_two_row_groups_without_contact_are_one_object() -> None:
    grid = Grid(shape=(12, 3), size=4)
    records = []
    for tile in range(3):
        valid = grid.valid(tile, 1)
        labels = np.zeros((12, 3), np.int32)
        labels[[2, 9], 1] = 1
        part = labels[valid.slices]
        found = Fragments(labels=part, anchors=np.array([(5 - valid.y0, 1)] * int(part.max())).reshape(-1, 2))
        records.append(ring_rule.record(found, grid, tile, 1)[1])
    row_groups = RowGroups(grid=grid, link=1, span=8)
    assert len(row_groups) == 2
    cells = join(records, row_groups, lambda nodes, edges: np.arange(len(nodes["area"])))
    assert cells.objects["area"].tolist() == [2]


def test_a_frame_without_objects_has_no_cells() -> None:
    maps = {"peak": np.zeros((9, 9), np.uint8)}
    assert not tiled_frame(Stamps(), maps, 4).any()

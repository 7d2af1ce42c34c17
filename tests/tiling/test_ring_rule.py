"""The promise in small: any tiling gives the whole frame's labels, numbers included; each rule is needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellscale.errors import RunError
from cellscale.kernels.tables import WALL
from cellscale.methods import METHODS, load_method
from cellscale.settings.fields import flat
from cellscale.testing.cases import CASES, random_maps
from cellscale.tiling import in_memory, ring_rule
from cellscale.tiling.in_memory import tiled_frame, whole_frame
from cellscale.tiling.row_groups import RowGroups
from cellscale.tiling.tiles import Grid
from cellscale.types import Box, Fragments, Labels, Reach, StoredMaps, Table
from tests.support.mutants import Mutant, breaks

CASES_OF_THE_PROMISE = 3000
"""In the slow tests; each run draws others, and the quick one a sixth of them."""
OTHERS = {"mu-lux", "l2s"}
"""Methods without a radius; their own tests hold them to the promise."""
LINKED = sorted(name for name in METHODS if load_method(name).join == "links" and name not in OTHERS)


def load_settings(method: Any) -> dict[str, Any]:
    """Settings by the last part of their names."""
    return {name.rpartition(".")[2]: value for name, value in flat(method).items()}


def with_radius(name: str, radius: int, **settings: int) -> Any:
    """A method whose touching, gap or separating pixels depend on `radius` px around them, without postprocessing."""
    settable = {"fill_radius", "touching_radius", "band_radius", "contour_radius", "growth"}
    (key,) = settable & load_settings(load_method(name)).keys()
    return uncleaned(name, **{key: radius}, **settings)


def uncleaned(name: str, **settings: int) -> Any:
    """A method that fills no holes, drops no specks and cuts no necks (`test_postprocessing.py` has those).

    Parting pixels are those of the mask too, so thresholds that only one class can pass would leave none.
    """
    small = {"fill_holes_px": 0, "min_object_px": 0, "split_neck_px": 0, "separation": 0.3, "band_radius": 2}
    known = load_settings(load_method(name))
    low = {"threshold": 0.2} if "separation" in known else {}
    return load_method(name, **{key: value for key, value in small.items() if key in known} | low | settings)


def naive_whole_frame(method: Any, maps: StoredMaps) -> Labels:
    """Decode at once, drop small objects, rank by first pixel; no tables, no tiles."""
    found = method.decode(maps, Box.of(next(iter(maps.values())).shape)).labels
    ids, first, area = np.unique(found, return_index=True, return_counts=True)
    least = load_settings(method)["minimum_area"]
    kept = [i for _, i, a in sorted(zip(first, ids, area, strict=True)) if i and a >= least]
    labels = np.zeros(found.shape, np.uint32)
    for rank, number in enumerate(kept, 1):
        labels[found == number] = rank
    return labels


@pytest.mark.parametrize(
    "cases", [CASES_OF_THE_PROMISE // 6, pytest.param(CASES_OF_THE_PROMISE, marks=pytest.mark.slow)]
)
def test_any_tiling_gives_the_whole_frames_labels(cases: int) -> None:
    @settings(max_examples=cases, deadline=None)
    @given(
        name=st.sampled_from(LINKED),
        shape=st.tuples(st.integers(8, 70), st.integers(8, 70)),
        size=st.integers(3, 40),
        radius=st.integers(1, 6),
        minimum_area=st.sampled_from([0, 5, 20]),
        seed=st.integers(0, 2**32 - 1),
    )
    def holds(name: str, shape: tuple[int, int], size: int, radius: int, minimum_area: int, seed: int) -> None:
        method = with_radius(name, radius, minimum_area=minimum_area)
        maps = random_maps(method.maps, shape, seed)
        expected = naive_whole_frame(method, maps)
        assert np.array_equal(whole_frame(method, maps), expected)
        assert np.array_equal(tiled_frame(method, maps, size), expected)

    holds()


@pytest.mark.parametrize("name", LINKED)
def test_the_unchanged_method_survives_the_search_for_a_break(name: str) -> None:
    assert not breaks(Mutant(load_method(name)), cases=60)


@pytest.mark.parametrize("name", LINKED)
def test_less_decode_reach_breaks_the_promise(name: str) -> None:
    assert breaks(Mutant(uncleaned(name), decode_reach_less=1))


def test_without_a_ring_the_promise_breaks() -> None:
    assert breaks(Mutant(load_method("unet2"), link_less=1))


def test_a_ring_of_less_than_half_the_link_misses_a_link() -> None:
    """A link of r px is seen by the tile of either end: a ring of ⌈r / 2⌉ px still holds, one px less does not."""
    method = with_radius("saw", 8)
    maps = {name: np.zeros((64, 64), np.uint8) for name in method.maps}
    maps["cell"][20, 28] = maps["touching"][20, 36] = 255
    assert whole_frame(method, maps).max() == 1
    assert tiled_frame(Mutant(method, link_less=4), maps, 32).max() == 1
    assert tiled_frame(Mutant(method, link_less=5), maps, 32).max() == 2


def test_judging_objects_in_the_tile_breaks_the_promise() -> None:
    method: Any = load_method("saw", minimum_area=20)
    assert breaks(Mutant(method, judge_in_tile=True))


@pytest.mark.parametrize("case", sorted(CASES))
@pytest.mark.parametrize("size", [5, 16, 32, 33])
def test_named_counterexamples(case: str, size: int) -> None:
    method: Any = load_method("saw")
    maps = {
        name: np.rint(255 * values).astype(np.uint8) for name, values in method.perfect_prediction(CASES[case]).items()
    }
    assert np.array_equal(tiled_frame(method, maps, size), naive_whole_frame(method, maps))


def test_disagreeing_tiles_are_named() -> None:
    grid = Grid(shape=(4, 8), size=4)
    full, empty = np.ones((4, 5), np.int32), np.zeros((4, 5), np.int32)
    records = [
        ring_rule.record(Fragments(labels=labels), grid, tile, 1)[1] for tile, labels in enumerate((full, empty))
    ]
    with pytest.raises(RunError, match="Tiles 0 and 1 disagree"):
        in_memory.join(
            records, RowGroups(grid=grid, link=1, span=1), lambda nodes, edges: np.arange(len(nodes["area"]))
        )


def test_borders_add_up_over_tiles() -> None:
    """Tables are the same for any tiling: lengths without walls summed, saddles and heights least."""
    seen: dict[int, Table] = {}

    @dataclass(frozen=True)
    class Halves:
        size: int
        reaches: ClassVar[Reach] = Reach(decode_reach=0, link=1)

        def decode(self, maps: StoredMaps, valid: Box) -> Fragments:
            return Fragments(labels=maps["half"][valid.slices].astype(np.int32), relief=maps["relief"][valid.slices])

        def merge_objects(self, nodes: Table, edges: Table) -> np.ndarray:
            seen[self.size] = {**edges, "lowest": nodes["lowest"][nodes["area"] > 0]}
            return np.zeros(len(nodes["area"]), np.int64)

    maps = {"half": np.ones((20, 30), np.uint8), "relief": np.full((20, 30), 9, np.uint8)}
    maps["half"][:, 13:] = 2
    maps["relief"][5, 12:14] = 4
    maps["relief"][15, 3] = 2
    maps["relief"][9:12, 13] = WALL
    for size in (30, 7, 5):
        assert (tiled_frame(Halves(size), maps, size) == 1).all()
    for size in (30, 7, 5):
        assert {name: column.tolist() for name, column in seen[size].items()} == {
            "a": [0],
            "b": [1],
            "length": [17],
            "saddle": [4],
            "lowest": [2, 4],
        }

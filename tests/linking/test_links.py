"""Links: equal to an exhaustive search on small frames and to those of laptrack, by rules of two frames alone."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from laptrack import LapTrack

from cellscale.errors import InputError
from cellscale.linking.assignment import UNIT, assign
from cellscale.linking.links import LinkRules, daughters, link_frames, link_gap, radius_of
from cellscale.linking.tables import object_sums, overlap_sums, scaled_centroids, whole_objects, whole_overlaps
from cellscale.types import Labels, Table
from tests.linking.sequences import discs, renumbered, walkers

SHAPE = (80, 100)


def objects(labels: Labels) -> Table:
    return whole_objects([object_sums(labels, origin=(0, 0), z=0, shape=labels.shape)])


def pair(before: Labels, after: Labels) -> tuple[Table, Table, Table]:
    first, second = objects(before), objects(after)
    return first, second, whole_overlaps([overlap_sums(before, after)], first, second)


def by_label(rows: np.ndarray, before: Table, after: Table) -> dict[int, int]:
    return {int(before["label"][a]): int(after["label"][b]) for a, b in rows}


@given(seed=st.integers(0, 2**32), n=st.integers(1, 4), m=st.integers(1, 4))
@settings(max_examples=80, deadline=None)
def test_assignment_is_the_cheapest_of_all(seed: int, n: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    costs = rng.integers(0, 12, (n, m))
    allowed = rng.random((n, m)) < 0.7
    a, b = np.nonzero(allowed & (costs < 8))
    candidates = {"a": a, "b": b, "cost": costs[a, b]}
    chosen = assign(candidates, (n, m), nothing=8)
    total = int(candidates["cost"][chosen].sum()) + 8 * (n - len(chosen))
    known = {(int(i), int(j)): int(costs[i, j]) for i, j in zip(a, b, strict=True)}
    best = min(
        sum(known.get(link, 0) for link in links) + 8 * (n - len(links))
        for size in range(min(n, m) + 1)
        for links in itertools.combinations(known, size)
        if len({i for i, _ in links}) == len({j for _, j in links}) == size
    )
    assert total == best
    assert len(set(a[chosen])) == len(set(b[chosen])) == len(chosen)


@pytest.mark.parametrize("seed", range(6))
def test_cells_that_overlap_nothing_are_linked_as_by_laptrack(seed: int) -> None:
    rng = np.random.default_rng(seed)
    grid = np.array([(y, x) for y in range(8, 72, 16) for x in range(8, 92, 16)])
    before, after = discs(
        [[(k + 1, float(y), float(x), 1.0) for k, (y, x) in enumerate(rng.permutation(grid)[:12])] for _ in range(2)],
        SHAPE,
    )
    first, second, pairs = pair(before, after)
    nothing = {name: column[:0] for name, column in pairs.items()}
    links = link_frames(first, second, nothing, LinkRules(max_distance=200.0))
    places = [scaled_centroids(table, (1.0, 1.0, 1.0)) for table in (first, second)]
    graph = LapTrack.model_validate({"cutoff": 200.0**2, "gap_closing_cutoff": False}).predict(places)
    others = np.array([(i, j) for (_, i), (_, j) in graph.edges])

    def cost(rows: np.ndarray) -> float:
        return float(((places[0][rows[:, 0]] - places[1][rows[:, 1]]) ** 2).sum())

    assert len(links) == len(others) == 12
    assert cost(links) == pytest.approx(cost(others), abs=200.0**2 / UNIT * 12)


def test_numbers_of_labels_change_nothing() -> None:
    frames = walkers(3, frames=2, cells=20, shape=SHAPE, step=2.0)
    other = renumbered(frames, 7)
    links, others = (link_frames(*pair(*planes), LinkRules()) for planes in (frames, other))
    assert len(links) == 20
    assert np.array_equal(links, others)


def test_a_cell_that_moves_farther_than_its_size_is_found_within_the_radius() -> None:
    before, after = discs([[(1, 20, 20, 3), (2, 60, 80, 3)], [(9, 20, 32, 3), (8, 60, 80, 3)]], SHAPE)
    first, second, pairs = pair(before, after)
    assert by_label(link_frames(first, second, pairs, LinkRules()), first, second) == {1: 9, 2: 8}
    assert by_label(link_frames(first, second, pairs, LinkRules(max_distance=11.0)), first, second) == {2: 8}


def test_the_radius_is_the_spacing_or_three_diameters() -> None:
    far, near = discs([[(1, 20, 20, 3), (2, 60, 80, 3)], [(1, 20, 20, 3), (2, 20, 30, 3), (3, 20, 40, 3)]], SHAPE)
    diameter = 2 * np.sqrt(objects(far)["area"][0] / np.pi)
    assert radius_of(objects(far), LinkRules()) == pytest.approx(3 * diameter)
    assert radius_of(objects(near), LinkRules()) == 10.0
    assert radius_of(objects(np.zeros(SHAPE, np.uint32)), LinkRules()) == 0.0
    assert radius_of(objects(far), LinkRules(max_distance=5.0)) == 5.0


def test_a_gap_is_closed_by_place_and_size() -> None:
    before, after = discs([[(1, 20, 20, 5)], [(1, 22, 21, 5), (2, 24, 30, 2)]], SHAPE)
    first, second = objects(before), objects(after)
    assert by_label(link_gap(first, second, (np.array([0]), np.array([0, 1])), 1, LinkRules()), first, second) == {1: 1}
    assert len(link_gap(first, second, (np.array([0]), np.array([1])), 1, LinkRules())) == 0


def test_a_second_daughter_is_as_large_and_on_the_other_side() -> None:
    mother = [(1, 40, 50, 8)]
    cases = {
        "division": [(1, 40, 43, 6), (2, 40, 57, 6)],
        "another cell beside": [(1, 40, 50, 8), (2, 40, 61, 4)],
        "debris": [(1, 40, 43, 6), (2, 40, 57, 1)],
    }
    found = {}
    for name, after in cases.items():
        first, second, pairs = pair(*discs([mother, after], SHAPE))
        links = link_frames(first, second, pairs, LinkRules())
        new = np.setdiff1d(np.arange(2), links[:, 1])
        found[name] = len(daughters(first, second, pairs, links, new, LinkRules()))
        assert len(daughters(first, second, pairs, links, new, LinkRules(divisions=False))) == 0
    assert found == {"division": 1, "another cell beside": 0, "debris": 0}


def test_rules_that_make_no_sense_are_refused() -> None:
    with pytest.raises(InputError, match=r"max_gap is -1; expected a number of frames, 0 or more\."):
        LinkRules(max_gap=-1)
    for length in (0.0, float("nan")):
        with pytest.raises(InputError, match=rf"max_distance is {length}; expected a length above 0 px\."):
            LinkRules(max_distance=length)


def test_costs_are_exact_in_floats() -> None:
    assert 2 * UNIT * 2**31 <= 2**53

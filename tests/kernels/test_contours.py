from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from cellscale.errors import InputError
from cellscale.kernels.contours.evolve import Motion, evolve
from cellscale.kernels.contours.outlines import UNIT, Polygons, fill_polygons, outlines
from cellscale.kernels.contours.polygons import area_of, move, respaced
from cellscale.kernels.contours.pushing import depth_in, push_depths
from cellscale.kernels.distances.transform import nearest_label
from cellscale.kernels.seeds import class_limits, hierarchical_seeds, level_errors
from cellscale.testing.cases import CASES, disc, painted
from cellscale.testing.naive import contours as naive
from cellscale.testing.strategies import label_images
from cellscale.types import Box, Labels

SHORT = Motion(iterations=60)


def polygons_of(points: Any, starts: Any) -> list[Any]:
    return [points[a:b] for a, b in itertools.pairwise(starts)]


def wavy(seed: int, shape: tuple[int, int] = (48, 52), count: int = 7) -> tuple[Any, NDArray[np.uint32]]:
    """A smooth speed map and some seeds of one to a few pixels on it."""
    rng = np.random.default_rng(seed)
    speed = ndimage.gaussian_filter(rng.standard_normal(shape), 3)
    speed = np.clip(0.5 + speed / speed.std() / 2, 0, 1)
    seeds = np.zeros(shape, np.uint32)
    for number in range(1, count + 1):
        y, x = rng.integers(0, shape[0] - 3), rng.integers(0, shape[1] - 3)
        box = seeds[y : y + rng.integers(1, 4), x : x + rng.integers(1, 4)]
        box[box == 0] = number
    return speed, seeds


@settings(max_examples=150)
@given(label_images())
def test_outlines_have_a_point_for_each_outer_side(labels: Labels) -> None:
    points, starts, owners, first = outlines(labels)
    places = points + np.repeat(first[owners], np.diff(starts), axis=0)
    own = np.repeat(owners, np.diff(starts))
    assert sorted(zip(own, *places.T, strict=True)) == naive.sides(labels)


@settings(max_examples=150)
@given(label_images())
def test_filled_outlines_are_the_regions(labels: Labels) -> None:
    points, starts, owners, first = outlines(labels)
    order = np.argsort(owners, kind="stable")
    ordered = [polygons_of(points, starts)[i] for i in order]
    ends = np.concatenate([[0], np.cumsum([len(polygon) for polygon in ordered], dtype=np.int64)]).astype(np.int64)
    joined = np.concatenate([np.zeros((0, 2)), *ordered])
    assert np.array_equal(fill_polygons(Polygons(joined, ends, owners[order], first), shape=labels.shape), labels)


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1))
def test_any_polygons_are_filled_by_their_winding_number(seed: int) -> None:
    """Knotted and crossing ones too; coordinates on a coarse grid put many centres on edges."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, 9, 3)
    points = rng.integers(-4, 40, (lengths.sum(), 2)) / 4 if seed % 2 else rng.uniform(-1, 10, (lengths.sum(), 2))
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    owners, first = np.array([1, 1, 2]), np.array([[-1, -1], [0, 0], [2, 3]])
    allowed_labels = rng.integers(0, 3, (12, 14)).astype(np.uint32)
    found = fill_polygons(Polygons(points, starts, owners, first), shape=(12, 14), allowed_labels=allowed_labels)
    expected = naive.filled_polygons(polygons_of(points, starts), owners, first, (12, 14), UNIT, allowed_labels)
    assert np.array_equal(found, expected)


@settings(max_examples=80)
@given(st.integers(0, 2**32 - 1))
def test_a_step_and_a_respacing_are_their_formulas(seed: int) -> None:
    rng = np.random.default_rng(seed)
    speed = np.pad(rng.random((9, 11)).astype(np.float32), 1)
    points, motion = rng.uniform(-1, 9, (rng.integers(3, 20), 2)), Motion(spacing=1.5)
    out = np.empty((2 * len(points) + 1, 2))
    move(points, np.empty(0), speed, 1, 1, motion.stiffness / motion.spacing, out)
    np.testing.assert_allclose(out[: len(points)], naive.moved(points, speed[1:-1, 1:-1], motion), atol=1e-6)
    n = respaced(points, 1.5, out)
    np.testing.assert_allclose(out[:n], naive.respaced(points, 1.5))


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1))
def test_depths_are_distances_to_the_boundary(seed: int) -> None:
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, 9))
    polygon = 10 + rng.uniform(3, 8, (9, 1)) * np.stack([np.sin(angles), np.cos(angles)], axis=1)
    for y, x in rng.uniform(0, 20, (8, 2)):
        assert depth_in(polygon, y, x) == pytest.approx(naive.depth(polygon, y, x), abs=0.05)


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(2, 7), st.sampled_from([4, 9, 30]), st.sampled_from([0, 1, 3]))
def test_seeds_are_those_of_the_definition(seed: int, extent: int, largest: int, smallest: int) -> None:
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.standard_normal((18, 20)), rng.uniform(0.3, 2))
    values = np.clip(128 + 70 * noise / noise.std(), 0, 255).astype(np.uint8)
    levels = sorted(rng.choice(np.arange(60, 250), 4, replace=False).tolist())
    found = hierarchical_seeds(values, levels, smallest=smallest, largest=largest, extent=extent)
    assert np.array_equal(found, naive.seeds(values, levels, smallest, largest, extent))


def test_levels_rise_until_touching_cells_come_apart() -> None:
    values = np.zeros((20, 40), np.uint8)
    values[5:15, 5:35] = 100
    values[6:14, 6:18] = values[6:14, 22:34] = 200
    assert hierarchical_seeds(values, [50, 150], smallest=4, largest=400, extent=40).max() == 1
    assert hierarchical_seeds(values, [50, 150], smallest=4, largest=200, extent=40).max() == 2
    assert hierarchical_seeds(values, [50, 150], smallest=97, largest=200, extent=40).max() == 0


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.sampled_from([1, 4, 12]))
def test_level_errors_are_joined_pairs_and_cells_without_a_seed(seed: int, cells: Any, smallest: int) -> None:
    rng = np.random.default_rng(seed)
    labels = (5 * nearest_label(np.diag(np.arange(1, cells + 1))[rng.permutation(cells)])[0]).repeat(3, 0).repeat(2, 1)
    labels[rng.random(labels.shape) < 0.2] = 0
    values = rng.integers(0, 256, labels.shape).astype(np.uint8)
    found = level_errors(values, labels, smallest=smallest)
    for level in (0, 1, 60, 128, 200, 255):
        assert found[level] == naive.level_errors(values, labels, level, smallest)


def test_class_limits_are_midway_between_the_centres() -> None:
    counts = np.zeros(256, np.int64)
    counts[[10, 20, 200, 210]] = 5
    assert class_limits(counts, 2) == (110,)
    assert class_limits(np.zeros(256, np.int64), 4) == ()
    assert class_limits(np.bincount([7, 7, 7], minlength=256), 3) == ()


@pytest.mark.parametrize("seed", range(8))
def test_contours_keep_to_their_basins_and_do_not_depend_on_order_or_place(seed: int) -> None:
    speed, seeds = wavy(seed)
    whole = evolve(speed, seeds, radius=9, motion=SHORT)
    cells = whole.labels()
    basins, _ = nearest_label(seeds, radius=9)
    assert np.array_equal(cells[cells > 0], basins[cells > 0])
    order = np.random.default_rng(seed).permutation(int(seeds.max())) + 1
    shuffled = np.concatenate([[0], order]).astype(np.uint32)
    assert np.array_equal(evolve(speed, shuffled[seeds], radius=9, motion=SHORT).labels(), shuffled[cells])
    moved = evolve(np.pad(speed, ((5, 0), (11, 2))), np.pad(seeds, ((5, 0), (11, 2))), radius=9, motion=SHORT)
    assert np.array_equal(moved.points, whole.points)
    part = evolve(speed, seeds, radius=9, motion=SHORT, within=Box(10, 10, 30, 30))
    assert np.array_equal(part.labels()[10:30, 10:30], cells[10:30, 10:30])


@pytest.mark.parametrize("seed", range(4))
def test_a_contour_depends_on_nothing_beyond_twice_the_radius(seed: int) -> None:
    speed, seeds = wavy(seed, (60, 60), 9)
    seeds[28:31, 28:31] = 77
    window = Box(28, 28, 31, 31).grow(2 * 6 + 2).slices
    near = evolve(speed[window], seeds[window], radius=6, motion=SHORT)
    whole = evolve(speed, seeds, radius=6, motion=SHORT)
    mine = [np.concatenate(polygons_of(c.points, c.starts)[list(c.owners).index(77) :][:1]) for c in (near, whole)]
    assert np.array_equal(mine[0], mine[1])


@pytest.mark.parametrize("coupling", ["basins", "icy"])
def test_touching_discs_meet_without_a_common_pixel(coupling: Literal["basins", "icy"]) -> None:
    cells = painted(disc((60, 80), 30, 26, 14), disc((60, 80), 30, 53, 14))
    seeds = painted(disc((60, 80), 30, 26, 3), disc((60, 80), 30, 53, 3))
    found = evolve((cells > 0).astype(np.float32), seeds, radius=20, coupling=coupling)
    assert found.converged.all() or coupling == "icy"
    assert not found.cut.any()
    for label in (1, 2):
        a, b = cells == label, found.labels() == label
        assert not (b & ~ndimage.binary_dilation(cells > 0)).any()  # interpolated speed ends 1 px beyond the mask
        assert (a & b).sum() / (a | b).sum() > 0.9


def test_a_hole_stays_where_the_speed_is_zero_and_closes_where_it_is_not() -> None:
    ring = disc((60, 60), 30, 30, 24) & ~disc((60, 60), 30, 30, 9)
    start = painted(disc((60, 60), 30, 30, 20) & ~disc((60, 60), 30, 30, 13))
    held = evolve(ring.astype(float), start, radius=20)
    assert len(held.owners) == 2
    assert held.labels()[30, 30] == 0
    closed = evolve(disc((60, 60), 30, 30, 24).astype(float), start, radius=20)
    assert closed.labels()[30, 30] == 1
    assert sorted(np.diff(closed.starts) == 0) == [False, True]


@pytest.mark.parametrize("coupling", ["basins", "icy"])
def test_what_the_radius_cuts_is_said(coupling: Literal["basins", "icy"]) -> None:
    speed, seeds = np.ones((60, 60)), painted(disc((60, 60), 30, 30, 3))
    assert evolve(speed, seeds, radius=8, coupling=coupling).cut.all()
    free = evolve(disc((60, 60), 30, 30, 8).astype(float), seeds, radius=12, coupling=coupling)
    assert not free.cut.any()
    assert free.converged.all()
    assert not evolve(speed, seeds, radius=60, motion=Motion(iterations=5)).converged.any()


def test_a_seed_without_speed_shrinks_and_vanishes() -> None:
    seeds = painted(disc((30, 30), 15, 15, 3))
    found = evolve(np.zeros((30, 30)), seeds, radius=5, motion=Motion(iterations=1000))
    assert found.points.shape == (0, 2)
    assert not found.labels().any()


def test_a_free_contour_grows_by_its_speed() -> None:
    found = evolve(np.full((80, 80), 0.5), painted(disc((80, 80), 40, 40, 6)), radius=60, motion=Motion(iterations=40))
    radius = np.sqrt(area_of(found.points) / np.pi)
    assert radius == pytest.approx(6 + 40 * 0.5, abs=1.0)


@pytest.mark.parametrize("coupling", ["basins", "icy"])
def test_contours_that_tangle_in_noise_stop(coupling: Literal["basins", "icy"]) -> None:
    speed = np.random.default_rng(0).random((72, 80))
    seeds = painted(disc((72, 80), 36, 40, 9))
    found = evolve(speed, seeds, radius=60, coupling=coupling, motion=Motion(iterations=120))
    assert len(found.points) < 20_000
    assert not found.converged.any()


def test_icys_push_is_the_same_for_any_order_of_cells() -> None:
    speed, seeds = wavy(3)
    found = evolve(speed, seeds, radius=9, coupling="icy", motion=SHORT)
    order = np.random.default_rng(0).permutation(int(seeds.max())) + 1
    shuffled = np.concatenate([[0], order]).astype(np.uint32)
    again = evolve(speed, shuffled[seeds], radius=9, coupling="icy", motion=SHORT)
    lengths = dict(zip(shuffled[found.owners], np.diff(found.starts), strict=True))
    assert lengths == dict(zip(again.owners, np.diff(again.starts), strict=True))
    assert found.basins is None
    apart = replace(found, basins=np.zeros(speed.shape, np.uint32))
    assert not apart.labels().any()


@pytest.mark.parametrize("case", ["empty", "cluster"])
def test_empty_and_crowded_frames(case: str) -> None:
    labels = CASES[case]
    for coupling in ("basins", "icy"):
        found = evolve((labels > 0).astype(float), labels, radius=5, coupling=coupling, motion=SHORT).labels()
        assert found.max() == labels.max()


def test_what_does_not_fit_is_refused() -> None:
    seeds = np.ones((4, 4), np.uint32)
    with pytest.raises(InputError, match=r"speed is int64 .*expected floats"):
        evolve(np.ones((4, 4), int), seeds, radius=3)
    with pytest.raises(InputError, match=r"speed is 0\.0 to 2\.0; expected 0 to 1"):
        evolve(2 * np.eye(4), seeds, radius=3)
    with pytest.raises(InputError, match="speed and seeds have the shapes"):
        evolve(np.eye(5), seeds, radius=3)
    with pytest.raises(InputError, match="expected 0 ≤ 4 stiffness ≤ spacing"):
        evolve(np.eye(4), seeds, radius=3, motion=Motion(stiffness=1.0))


def test_a_vertex_pushed_over_the_border_is_in_the_first_grid_cell() -> None:
    """Two squares, one inside the other, 40 px beyond the top and the left of the frame."""
    square = np.array([[0.0, 0.0], [0.0, 30.0], [30.0, 30.0], [30.0, 0.0]])
    points = np.concatenate([square - 40, square / 3 - 30])
    starts, owners, first = np.array([0, 4, 8]), np.array([1, 2]), np.zeros((3, 2), np.int64)
    inside = push_depths(points[:, ::-1].copy(), starts, owners, first)
    inside = np.maximum(inside, push_depths(points, starts, owners, first))
    moved = points + 100
    expected = np.maximum(
        push_depths(moved[:, ::-1].copy(), starts, owners, first), push_depths(moved, starts, owners, first)
    )
    assert expected.max() == 10
    assert inside == pytest.approx(expected)

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from cellscale.errors import InputError
from cellscale.kernels.components import connected_components
from cellscale.kernels.watershed import (
    basins,
    flooded,
    inner_distance,
    joined_long,
    joined_shallow,
    remove_small_holes,
    remove_small_objects,
)
from cellscale.testing.naive import watershed as naive
from cellscale.testing.strategies import masks
from cellscale.types import Box


@st.composite
def reliefs(draw):
    """A mask and heights of few levels, so that plateaus are common."""
    mask = draw(masks())
    levels = draw(st.sampled_from([1, 3, 20]))
    rough = draw(arrays.arrays(np.uint8, mask.shape, elements=st.integers(0, levels)))
    return rough, mask


@given(reliefs())
def test_basins_are_where_walks_down_end(relief) -> None:
    labels, count = basins(*relief)
    expected, expected_count = naive.basins(*relief)
    assert labels.dtype == np.int32
    assert np.array_equal(labels, expected)
    assert count == expected_count


@given(reliefs(), st.integers(0, 8), st.integers(0, 8), st.integers(0, 14), st.integers(0, 14))
def test_links_in_a_box_are_those_of_the_whole(relief, y0, x0, height, width) -> None:
    """Two pixels of a box have one number if and only if links inside the box tie them."""
    box = Box(y0, x0, y0 + height, x0 + width).clip(Box.of(relief[1].shape))
    if box.area == 0:
        return
    labels, _ = basins(*relief, box=box)
    links = np.arange(box.area)
    for y, x in np.argwhere(relief[1][box.slices]):
        j, i = np.subtract(naive.lower(*relief, y + box.y0, x + box.x0), (box.y0, box.x0))
        if 0 <= j < box.shape[0] and 0 <= i < box.shape[1]:
            a, b = links[y * box.shape[1] + x], links[j * box.shape[1] + i]
            links[links == max(a, b)] = min(a, b)
    inside = relief[1][box.slices].ravel()
    _, expected = np.unique(links[inside], return_inverse=True)
    assert np.array_equal(labels.ravel()[inside], expected + 1)
    assert not labels.ravel()[~inside].any()


@given(masks(), st.integers(1, 31))
def test_heights_fall_to_the_middle(mask, cap) -> None:
    found = inner_distance(mask, cap=cap)
    assert found.dtype == np.uint8
    assert np.array_equal(found, naive.inner_distance(mask, cap))


@given(masks(), st.integers(0, 12))
def test_specks_and_holes_are_small_components(mask, area) -> None:
    assert np.array_equal(remove_small_objects(mask, area), naive.without_small_components(mask, area))
    assert np.array_equal(remove_small_holes(mask, area), ~naive.without_small_components(~mask, area))


tables = st.integers(1, 7).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 4), min_size=n, max_size=n),
        st.permutations(range(n)),
        st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1), st.integers(0, 6)), max_size=12),
    )
)


def columns(borders, name):
    rows = np.array([border for border in borders if border[0] != border[1]], np.int64).reshape(-1, 3)
    return {"a": rows[:, 0], "b": rows[:, 1], name: rows[:, 2]}


@given(tables, st.integers(0, 4))
def test_shallow_basins_are_joined_lowest_pass_first(table, depth) -> None:
    lowest, first, borders = table
    borders = [(a, b, max(saddle, lowest[a], lowest[b])) for a, b, saddle in borders if a != b]
    nodes = {"lowest": np.array(lowest, np.int64), "first": np.array(first, np.int64)}
    found = joined_shallow(nodes, columns(borders, "saddle"), depth=depth)
    assert found.tolist() == naive.joined_shallow(lowest, first, borders, depth)
    assert nodes["lowest"].tolist() == lowest


@given(tables, st.integers(1, 8))
def test_long_borders_are_joined_whatever_the_order(table, length) -> None:
    lowest, _, borders = table
    found = joined_long(np.arange(len(lowest)), columns(borders, "length"), length=length)
    assert found.tolist() == naive.joined_long(range(len(lowest)), [b for b in borders if b[0] != b[1]], length)


def test_each_disc_of_a_row_is_a_basin() -> None:
    rows, columns_ = np.indices((40, 100))
    mask = np.any([(rows - 20) ** 2 + (columns_ - x) ** 2 <= 12**2 for x in (20, 42, 64)], axis=0)
    labels, count = basins(inner_distance(mask, cap=15), mask)
    assert connected_components(mask)[1] == 1
    assert [labels[20, x] for x in (20, 42, 64)] == sorted({labels[20, x] for x in (20, 42, 64)})
    assert count >= 3
    assert np.array_equal(ndimage.binary_fill_holes(labels > 0), mask)


def test_what_does_not_fit_is_refused() -> None:
    mask = np.ones((3, 3), bool)
    with pytest.raises(InputError, match="heights are of int64; expected uint8"):
        basins(np.zeros((3, 3), np.int64), mask)
    with pytest.raises(InputError, match=r"is not a part of an image of \(3, 3\) px"):
        basins(np.zeros((3, 3), np.uint8), mask, box=Box(0, 0, 4, 3))
    with pytest.raises(InputError, match="cap is 32 px; expected 1 to 31"):
        inner_distance(mask, cap=32)


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(0, 4))
def test_markers_flood_the_lowest_passes_first(seed, count, marker) -> None:
    rng = np.random.default_rng(seed)
    nodes = {"lowest": rng.integers(0, 9, count), "first": rng.permutation(count)}
    pairs = [(a, b) for a in range(count) for b in range(a + 1, count) if rng.random() < 0.5]
    ends = np.array(pairs, np.int64).reshape(-1, 2)
    edges = {"a": ends[:, 0], "b": ends[:, 1], "saddle": rng.integers(0, 12, len(ends))}
    borders = list(zip(*(edges[name].tolist() for name in ("a", "b", "saddle")), strict=True))
    groups = np.arange(count)
    groups[1:] = np.where(rng.random(count - 1) < 0.2, 0, groups[1:])
    found = flooded(groups, nodes, edges, marker=marker)
    expected = naive.flooded(groups.tolist(), nodes["lowest"].tolist(), nodes["first"].tolist(), borders, marker)
    assert found.tolist() == expected

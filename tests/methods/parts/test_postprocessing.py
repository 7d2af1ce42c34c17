"""Holes, specks and necks through tiles: any tiling gives the whole frame's labels, and each px of reach is needed."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from cellscale.errors import RunError
from cellscale.methods import load_method
from cellscale.methods.parts.postprocessing import Postprocessing
from cellscale.testing.cases import disc, random_maps
from cellscale.testing.naive import watershed as naive
from cellscale.testing.naive.distances import nearest_label
from cellscale.tiling.in_memory import tiled_frame, whole_frame
from cellscale.types import Box, Mask
from tests.support.mutants import Mutant, breaks

NOTHING = {"fill_holes_px": 0, "min_object_px": 0, "split_neck_px": 0, "band_radius": 0}
EVERYTHING = {"minimum_area": 0, "minimum_confidence": 0.0, "minimum_peak": 0.0}
"""No object is dropped."""
BOTH: dict[str, Any] = {"threshold": 0.2, "separation": 0.3}
"""Random maps sum to one: with these, a pixel can be of the mask and parting."""


def maps_of(cell: Any, separation: Any = None) -> dict[str, Any]:
    """Certain maps of masks."""
    parting = np.zeros_like(cell) if separation is None else separation
    return {"cell": 255 * cell.astype(np.uint8), "separation": 255 * parting.astype(np.uint8)}


def naive_whole_frame(method: Any, maps: Any) -> tuple[NDArray[np.int64], Mask]:
    """The same steps one after the other, each as slow and obvious as it can be; cells in raster order."""
    how = method.postprocessing
    mask = ~naive.without_small_components(maps["cell"] <= 255 * method.threshold, how.fill_holes_px)
    parting = mask & (maps["separation"] > 255 * method.separation)
    solid = naive.without_small_components(mask & ~parting, max(how.min_object_px - 1, 0))
    heights = naive.inner_distance(solid, how.cap)
    basins, count = naive.basins(heights, solid)
    distance = ndimage.distance_transform_edt(~solid)
    borders, saddles = [], []
    for (y, x), (dy, dx) in ((p, s) for p in np.ndindex(solid.shape) for s in ((0, 1), (1, 0))):
        j, i = y + dy, x + dx
        if j < solid.shape[0] and i < solid.shape[1] and solid[y, x] and solid[j, i] and basins[y, x] != basins[j, i]:
            a, b = int(basins[y, x]) - 1, int(basins[j, i]) - 1
            borders.append((a, b, 1))
            saddles.append((a, b, int(max(heights[y, x], heights[j, i]))))
    lowest = [int(heights[basins == k].min()) for k in range(1, count + 1)]
    # Passes of one height are taken in the order of their basins' first pixels, parting pixels that they get included.
    nearest, _ = nearest_label(basins, method.band_radius)
    owners = np.where(parting, nearest, basins).ravel()
    firsts = [int(np.flatnonzero(owners == k)[0]) for k in range(1, count + 1)]
    shallow = naive.joined_shallow(lowest, firsts, saddles, math.ceil(8 * how.prominence))
    groups = np.array([-1, *naive.joined_long(shallow, borders, how.split_neck_px)])[basins]
    return groups, parting & (distance <= method.band_radius)


small = st.fixed_dictionaries(
    {
        "fill_holes_px": st.integers(0, 6),
        "min_object_px": st.integers(0, 7),
        "split_neck_px": st.integers(0, 9),
        "postprocessing.cap": st.integers(1, 12),
        "prominence": st.sampled_from([0.0, 0.5, 2.0]),
        "band_radius": st.integers(0, 6),
        "minimum_area": st.sampled_from([0, 5, 20]),
        "minimum_confidence": st.sampled_from([0.0, 0.5, 0.55, 1.0]),
        "minimum_peak": st.sampled_from([0.0, 0.9, 0.98, 1.0]),
    }
)


@settings(max_examples=100, deadline=None)
@given(
    how=small,
    name=st.sampled_from(["deepsplit", "unet-ronneberger"]),
    shape=st.tuples(st.integers(8, 70), st.integers(8, 70)),
    size=st.integers(5, 40),
    seed=st.integers(0, 2**32 - 1),
)
@example(
    how=NOTHING | {"split_neck_px": 5, "postprocessing.cap": 1, "prominence": 0.0, "band_radius": 2},
    name="deepsplit",
    shape=(8, 69),
    size=31,
    seed=31,
)
def test_any_tiling_gives_the_whole_frames_labels(
    how: Any, name: str, shape: tuple[int, int], size: int, seed: int
) -> None:
    radius = how.pop("band_radius")
    special = {"band_radius": radius, **BOTH} if name == "deepsplit" else {"fill_radius": radius}
    method: Any = load_method(name, **how, **special)
    maps = random_maps(method.maps, shape, seed)
    assert np.array_equal(tiled_frame(method, maps, size), whole_frame(method, maps))


@settings(max_examples=30, deadline=None)
@given(how=small, seed=st.integers(0, 2**32 - 1))
@example(how=NOTHING | {"split_neck_px": 2, "postprocessing.cap": 2, "prominence": 0.5, "band_radius": 1}, seed=5136767)
def test_the_whole_frame_is_what_the_steps_say(how: Any, seed: int) -> None:
    """The partition of the mask is that of the slow steps; parting pixels within the radius belong to a cell."""
    method: Any = load_method(
        "deepsplit",
        **{**how, **EVERYTHING, "split_neck_px": max(1, how["split_neck_px"])},
        **BOTH,
    )
    maps = random_maps(method.maps, (24, 30), seed)
    found = whole_frame(method, maps)
    groups, band = naive_whole_frame(method, maps)
    inside = groups >= 0
    assert np.array_equal(found > 0, inside | (band if inside.any() else False))
    pairs = np.unique(np.stack([found[inside], groups[inside]]), axis=1)
    assert pairs.shape[1] == len(np.unique(pairs[0])) == len(np.unique(pairs[1]))


@pytest.mark.parametrize("neck", [0, 5])
def test_objects_of_a_low_mean_probability_are_dropped(neck: int) -> None:
    """Two discs, the mean of one just below the limit; gap pixels count as pixels of their cell."""
    method: Any = load_method("unet-ronneberger", split_neck_px=neck, fill_radius=0, min_object_px=0)
    cell = np.where(disc((40, 80), 20, 20, 9), 200, 0) + np.where(disc((40, 80), 20, 60, 9), 204, 0)
    maps = {"cell": cell.astype(np.uint8)}
    for limit, kept in ((0.0, 2), (0.78, 2), (0.8, 1), (0.81, 0)):
        how = dataclasses.replace(method.postprocessing, minimum_confidence=limit)
        found = whole_frame(dataclasses.replace(method, postprocessing=how), maps)
        assert found.max() == kept
        assert np.array_equal(found > 0, cell > 0 if kept == 2 else cell > 200 if kept else cell > 255)


@pytest.mark.parametrize("neck", [0, 5])
def test_objects_without_a_probable_pixel_are_dropped(neck: int) -> None:
    """Two discs of low probability, one with a pixel that just reaches the limit."""
    method: Any = load_method("unet-ronneberger", split_neck_px=neck, fill_radius=0, min_object_px=0)
    cell = np.where(disc((40, 80), 20, 20, 9) + disc((40, 80), 20, 60, 9), 140, 0).astype(np.uint8)
    cell[20, 60] = 204
    for limit, kept in ((0.0, 2), (0.5, 2), (0.8, 1), (0.81, 0)):
        how = dataclasses.replace(method.postprocessing, minimum_peak=limit)
        found = whole_frame(dataclasses.replace(method, postprocessing=how), {"cell": cell})
        assert found.max() == kept
        assert np.array_equal(found > 0, (cell > 0) & (np.arange(80) > (40 if kept == 1 else -1)) & (kept > 0))


@pytest.mark.parametrize("limit", ["minimum_confidence", "minimum_peak"])
@pytest.mark.parametrize("name", ["unet-ronneberger", "deepsplit"])
def test_a_limit_that_drops_every_cell_is_searched_with_the_threshold(name: str, limit: str) -> None:
    """Cells of other images, of a low probability: under the limit of the initial model no threshold finds them."""
    truth = (disc((40, 80), 20, 20, 9) + 2 * disc((40, 80), 20, 60, 9)).astype(np.uint32)
    method: Any = load_method(name, **{limit: 0.8}, threshold=0.5, min_object_px=0)
    maps = {one: np.zeros(truth.shape, np.uint8) for one in method.maps} | {"cell": (80 * (truth > 0)).astype(np.uint8)}
    assert not whole_frame(method, maps).any()
    assert np.array_equal(whole_frame(method.calibrate([(maps, truth)]), maps) > 0, truth > 0)


def straight(length: int, at: Any) -> NDArray[Any]:
    """A frame of 64 px with a line of pixels that ends at column `at`."""
    line = np.zeros((64, 64), bool)
    line[20, at : at + length] = True
    return line


@pytest.mark.parametrize(("kind", "limit"), [("fill_holes_px", 9), ("min_object_px", 10)])
def test_a_hole_or_speck_is_seen_as_far_as_its_area(kind: str, limit: Any) -> None:
    """A line of one px more than the largest that goes, whose first pixel is the last that a tile must know."""
    method: Any = load_method("deepsplit", **{**NOTHING, kind: limit})
    line = straight(10, 16)
    maps = maps_of(~line if kind == "fill_holes_px" else line)
    assert not breaks_on(Mutant(method), maps)
    assert breaks_on(Mutant(method, decode_reach_less=1), maps)


def breaks_on(mutant: Any, maps: Any) -> bool:
    """Whether tiles of 16 px give other labels than the whole frame, or disagree."""
    try:
        return not np.array_equal(tiled_frame(mutant, maps, 16), whole_frame(mutant.method, maps))
    except RunError:
        return True


def test_less_reach_for_basins_breaks_the_promise() -> None:
    method: Any = load_method(
        "deepsplit", **{**NOTHING, "split_neck_px": 9, "postprocessing.cap": 4, "prominence": 0.0}, **BOTH
    )
    assert not breaks(Mutant(method), cases=10)
    assert breaks(Mutant(method, decode_reach_less=1), cases=10)


def dumbbell() -> NDArray[np.bool_]:
    """Two cells of 17 px radius whose masks share a neck of 4 px, over the corner of tiles of 32 px."""
    shape = (64, 96)
    neck = np.zeros(shape, bool)
    neck[30:34, 20:70] = True
    return disc(shape, 31.5, 26, 14) | disc(shape, 31.5, 62, 14) | neck


def waisted() -> NDArray[np.bool_]:
    """One cell of two lobes; the border of their basins is long."""
    shape = (64, 96)
    return disc(shape, 31.5, 36, 16) | disc(shape, 31.5, 56, 16)


@pytest.mark.parametrize("size", [96, 48, 32, 31, 16, 7])
def test_a_short_neck_is_cut_and_a_long_border_is_not(size: int) -> None:
    method: Any = load_method("deepsplit", split_neck_px=8)
    for mask, cells in ((dumbbell(), 2), (waisted(), 1)):
        maps = maps_of(mask)
        found = tiled_frame(method, maps, size)
        assert found.max() == cells
        assert np.array_equal(found > 0, mask)
        assert np.array_equal(found, whole_frame(method, maps))
    assert len(np.unique(tiled_frame(method, maps_of(dumbbell()), size)[31, [26, 62]])) == 2


def test_the_lobes_are_two_basins_that_only_their_border_joins() -> None:
    maps = maps_of(waisted())
    assert whole_frame(load_method("deepsplit", split_neck_px=64), maps).max() == 2


def test_parting_pixels_are_no_border() -> None:
    """Two cells that the separation parts over 20 px stay two, though parting pixels go to either."""
    cell, parting = np.zeros((40, 60), bool), np.zeros((40, 60), bool)
    cell[10:30, 10:50] = True
    parting[10:30, 28:32] = True
    found = whole_frame(load_method("deepsplit"), maps_of(cell, parting))
    assert found[20].tolist() == [0] * 10 + [1] * 20 + [2] * 20 + [0] * 10


def test_separating_pixels_next_to_a_small_object_go_to_a_cell() -> None:
    cell, parting = np.zeros((30, 40), bool), np.zeros((30, 40), bool)
    cell[10:20, 10:25] = True
    parting[10:20, 20:23] = True
    parting[12:20, 20:25] = True
    with_speck = whole_frame(load_method("deepsplit", min_object_px=9), maps_of(cell, parting))
    assert with_speck.max() == 1
    assert with_speck[15, 10:25].all()
    assert whole_frame(load_method("deepsplit", min_object_px=0), maps_of(cell, parting)).max() == 2


def test_nothing_set_is_components_alone() -> None:
    cells = np.random.default_rng(0).random((40, 50)) < 0.6
    probability = 255 * cells.astype(np.uint8)
    found = Postprocessing().fragments(cells, np.zeros_like(cells), 0, Box(5, 5, 30, 40), probability).labels
    assert np.array_equal(found > 0, cells[5:30, 5:40])
    assert found.max() == ndimage.label(cells[5:30, 5:40])[1]

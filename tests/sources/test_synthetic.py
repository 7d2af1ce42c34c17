from __future__ import annotations

import pickle
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cellscale.errors import InputError, MissingError
from cellscale.sources.synthetic import Scene
from cellscale.types import Box

HEIGHT, WIDTH = 230, 190
FRAME = Box(0, 0, HEIGHT, WIDTH)
SCENES = [
    Scene(shape=(16, HEIGHT, WIDTH), cells=50, look="fluorescence", seed=3, division_rate=0.05),
    Scene(shape=(16, HEIGHT, WIDTH), cells=50, look="brightfield", seed=4, landmarks=True, radius_px=4),
]
WHOLE = {(scene, t): (scene.labels(t, FRAME), scene.image(t, FRAME)) for scene in SCENES for t in (0, 12)}
scenes = pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.look)


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    y0, x0 = draw(st.integers(0, HEIGHT - 1)), draw(st.integers(0, WIDTH - 1))
    return Box(y0, x0, draw(st.integers(y0, HEIGHT)), draw(st.integers(x0, WIDTH)))


def fragments(labels: np.ndarray) -> dict[int, int]:
    """Number of connected components of each label."""
    return {
        int(i): ndimage.label(labels[part] == i, np.ones((3, 3)))[1]
        for i, part in enumerate(ndimage.find_objects(labels.astype(np.int32)), 1)
        if part is not None
    }


@scenes
@settings(max_examples=40, deadline=None)
@given(box=boxes(), t=st.sampled_from([0, 12]))
def test_a_block_is_the_crop_of_the_frame(scene: Scene, box: Box, t: int) -> None:
    labels, image = WHOLE[scene, t]
    np.testing.assert_array_equal(scene.labels(t, box), labels[box.slices])
    np.testing.assert_array_equal(scene.image(t, box), image[box.slices])
    assert scene.labels(t, box).dtype == np.uint32
    assert scene.image(t, box).dtype == np.uint16


@scenes
def test_equal_scenes_give_equal_pixels_and_other_seeds_others(scene: Scene) -> None:
    again = pickle.loads(pickle.dumps(scene))
    np.testing.assert_array_equal(again.image(12, FRAME), WHOLE[scene, 12][1])
    other = Scene(shape=scene.shape, cells=scene.cells, seed=scene.seed + 1)
    assert not np.array_equal(other.labels(0, FRAME), WHOLE[scene, 0][0])


def test_every_cell_is_there_at_the_first_frame_and_in_one_piece() -> None:
    scene = Scene(shape=(16, 400, 400), cells=200, seed=5)
    box = Box.of(scene.shape)
    first, later = fragments(scene.labels(0, box)), fragments(scene.labels(15, box))
    assert set(first) == set(range(1, 201))
    assert set(first.values()) | set(later.values()) == {1}


def test_cells_of_a_cluster_touch() -> None:
    labels = Scene(shape=(1, 400, 400), cells=150, seed=6).labels(0, Box(0, 0, 400, 400))
    left, right = labels[:, :-1].ravel(), labels[:, 1:].ravel()
    seam = (left != right) & (left > 0) & (right > 0)
    assert len(np.unique(np.concatenate([left[seam], right[seam]]))) > 110


def test_cells_move_smoothly() -> None:
    scene = Scene(shape=(16, HEIGHT, WIDTH), cells=40, seed=7, division_rate=0.0)
    frames = [scene.labels(t, FRAME) for t in range(16)]
    edge = set(np.concatenate([np.r_[f[0], f[-1], f[:, 0], f[:, -1]] for f in frames]))
    inner = [i for i in range(1, 41) if i not in edge]
    places = np.array([ndimage.center_of_mass(f > 0, f, inner) for f in frames])
    steps = np.linalg.norm(np.diff(places, axis=0), axis=2)
    assert len(inner) > 10
    assert steps.max() < 5
    assert np.linalg.norm(places[-1] - places[0], axis=1).mean() > 1


def test_a_mother_is_replaced_by_two_daughters() -> None:
    scene = SCENES[0]
    seen = [set(np.unique(scene.labels(t, FRAME)).tolist()) - {0} for t in range(16)]
    divided = 0
    for mother in range(1, scene.cells + 1):
        daughters = {scene.cells + 2 * mother - 1, scene.cells + 2 * mother}
        for before, after in pairwise(seen):
            assert not (mother in before and daughters & before)
            divided += mother in before and daughters <= after
    assert divided >= 10


def test_cells_are_brighter_than_their_surroundings_and_seams_darker_than_cells() -> None:
    scene = Scene(shape=(1, 400, 400), cells=150, seed=6)
    box = Box(0, 0, 400, 400)
    labels, image = scene.labels(0, box), scene.image(0, box).astype(float)
    near = ndimage.maximum_filter(labels, 3) != ndimage.minimum_filter(np.where(labels > 0, labels, 10**6), 3)
    free = ndimage.minimum_filter(labels, 5) > 0
    far = ndimage.maximum_filter(labels, 9) == 0
    core = ndimage.minimum_filter(labels, 9) == ndimage.maximum_filter(labels, 9)
    seam, inside = image[near & free].mean(), image[core & (labels > 0)].mean()
    assert inside > 1.25 * seam
    assert seam > 2 * image[far].mean()


def test_landmarks_have_numbers_of_their_own_and_stay() -> None:
    scene = Scene(shape=(9, 700, 900), cells=60, seed=2, landmarks=True, radius_px=6)
    box = Box.of(scene.shape)
    first, last = scene.labels(0, box), scene.labels(8, box)
    marks = range(3 * scene.cells + 1, 3 * scene.cells + 7)
    found = fragments(first)
    assert [found[i] for i in marks] == [1] * 6
    assert all(np.array_equal(first == i, last == i) for i in marks)
    assert {first[k, k] for k in (64, 128, 256)} == {marks[0]}
    assert {first[k, k] for k in (384, 512, 640)} == {marks[1]}
    huge = np.argwhere(first == marks[5])
    assert np.ptp(huge, axis=0).min() > 200


def test_a_block_of_a_large_crowded_frame() -> None:
    scene = Scene(shape=(2, 16_384, 16_384), cells=100_000, seed=1)
    box = Box(8000, 8000, 8200, 8160)
    labels = scene.labels(1, box)
    np.testing.assert_array_equal(scene.labels(1, Box(8050, 8030, 8150, 8100)), labels[50:150, 30:100])
    assert labels.shape == box.shape


def test_a_scene_without_cells_is_background() -> None:
    scene = Scene(shape=(1, 40, 30), cells=0)
    box = Box(0, 0, 40, 30)
    assert scene.labels(0, box).max() == 0
    assert scene.image(0, box).max() < 1000
    assert scene.labels(0, Box(7, 7, 7, 9)).shape == (0, 2)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"shape": (1, 0, 5)}, "at least 1"),
        ({"cells": -1}, "at least 0 cells"),
        ({"radius_px": 2.0}, "at least 4 px"),
        ({"seed": -1}, "expected 0 to 4294967295"),
        ({"look": "x-ray"}, "'brightfield'"),
    ],
)
def test_a_scene_refuses_what_cannot_be(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        Scene(**{"shape": (1, 50, 50), "cells": 1, **fields})


def test_a_scene_says_where_it_ends() -> None:
    scene = Scene(shape=(2, 50, 50), cells=900)
    with pytest.raises(MissingError, match="no frame 2; it has frames 0 to 1"):
        scene.labels(2, Box(0, 0, 5, 5))
    with pytest.raises(InputError, match="Clip it to the frame"):
        scene.image(0, Box(0, 0, 51, 5))
    with pytest.raises(InputError, match="has room for"):
        scene.labels(0, Box(0, 0, 5, 5))

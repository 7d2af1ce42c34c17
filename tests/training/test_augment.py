import numpy as np
import pytest

from cellscale.training.augment import (
    Augmentation,
    coordinates,
    other_intensities,
    smooth_field,
    view_of,
    view_of_image,
    view_of_labels,
)
from cellscale.types import Box

RIGID = Augmentation(warped=0.0)
PLAIN = Augmentation(gamma=1.0, contrast=1.0, brightness=0.0, shading=0.0, noise=0.0, blur=0.0)


def generator(seed=0):
    return np.random.default_rng(seed)


def test_without_warp_a_view_is_one_of_the_eight_turns_and_flips():
    frame = np.arange(64, dtype=np.uint32).reshape(8, 8)
    turns = [np.rot90(flipped, k) for flipped in (frame, frame[::-1]) for k in range(4)]
    seen = set()
    for seed in range(60):
        view = view_of_labels(frame, view_of(coordinates(generator(seed), (3.5, 3.5), 8, RIGID), frame.shape))
        (turn,) = [i for i, turned in enumerate(turns) if np.array_equal(turned, view)]
        seen.add(turn)
    assert seen == set(range(8))


@pytest.mark.parametrize(("flips", "count"), [("none", 1), ("horizontal", 2), ("both", 4)])
def test_without_turns_a_view_may_be_mirrored(flips, count):
    frame = np.arange(64, dtype=np.uint32).reshape(8, 8)
    how = Augmentation(warped=0.0, turns=False, flips=flips)
    points = [coordinates(generator(seed), (3.5, 3.5), 8, how) for seed in range(30)]
    views = [view_of_labels(frame, view_of(each, frame.shape)) for each in points]
    assert len({view.tobytes() for view in views}) == count
    if flips == "horizontal":
        assert any(np.array_equal(view, frame[:, ::-1]) for view in views)


@pytest.mark.parametrize("seed", range(5))
def test_image_and_labels_are_warped_together(seed):
    labels = np.zeros((96, 96), np.uint32)
    labels[20:70, 30:60] = 3
    points = coordinates(generator(seed), (48.0, 48.0), 64, Augmentation(warped=1.0))
    view = view_of(points, labels.shape)
    image = view_of_image((labels > 0).astype(np.float32)[None, *view.box.slices], view, slice(None))[0]
    cells = view_of_labels(labels[view.box.slices], view)
    assert set(np.unique(cells)) == {0, 3}
    assert np.array_equal(image[(image < 0.01) | (image > 0.99)] > 0.5, cells[(image < 0.01) | (image > 0.99)] > 0)


def test_beyond_the_frame_the_image_is_mirrored():
    frame = np.arange(5, dtype=np.float32)[None, None].repeat(5, axis=1)
    points = np.stack(np.meshgrid(np.zeros(1), np.arange(-3, 8), indexing="ij")).astype(np.float32)
    view = view_of(points, (5, 5))
    assert view.box == Box(0, 0, 3, 5)
    assert view_of_image(frame, view, slice(None))[0, 0].tolist() == [3, 2, 1, 0, 1, 2, 3, 4, 3, 2, 1]


def test_a_scale_of_two_shows_half_as_much():
    how = Augmentation(warped=1.0, rotation=0.0, elastic=0.0, scale=2.0)
    extents = [np.ptp(coordinates(generator(seed), (50.0, 50.0), 33, how)[0]) for seed in range(40)]
    assert 16 <= min(extents) < 20
    assert 54 < max(extents) <= 64.01


def test_intensities_stay_as_they_are_when_nothing_may_change():
    image = generator().random((2, 16, 16), np.float32)
    np.testing.assert_allclose(other_intensities(image, generator(), PLAIN), image, atol=1e-6)


def test_intensities_change_by_the_generator_alone():
    image = generator().random((1, 32, 32), np.float32)
    first, again, other = (other_intensities(image, generator(seed), Augmentation()) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.dtype == np.float32


def test_a_smooth_field_is_smooth_and_standard_normal_at_its_nodes():
    field = smooth_field(generator(), 400, 20)
    assert field.shape == (400, 400)
    assert np.abs(np.diff(field, axis=0)).max() < 0.5
    assert 0.5 < field.std() < 1.0

import dataclasses

import numpy as np
import pytest
import torch

from cellscale.methods import load_method
from cellscale.training.augment import Augmentation
from cellscale.training.samples import Samples, batches
from cellscale.training.settings import TrainingSettings
from tests.methods.test_conformance import discs

SETTINGS = TrainingSettings(steps=6, batch_size=2, crop=30, margin=8, loader_workers=0)
FRAMES = [discs(0), discs(1, (40, 50)), discs(2, (20, 90))]


@pytest.fixture
def samples():
    return Samples(load_method("dwm", depth=2), FRAMES, SETTINGS)


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_sample_is_a_function_of_seed_and_number(samples):
    other = Samples(load_method("dwm", depth=2), FRAMES, SETTINGS)
    other[5]
    assert equal(samples[3], other[3])
    assert not equal(samples[3], samples[4])
    reseeded = Samples(load_method("dwm", depth=2), FRAMES, dataclasses.replace(SETTINGS, seed=1))
    assert not equal(samples[3], reseeded[3])


def test_a_sample_has_the_crops_size_rounded_up_even_where_the_frame_is_smaller(samples):
    for i in range(12):
        sample = samples[i]
        assert sample["image"].shape == (1, 32, 32)
        assert {sample[name].shape for name in ("labels", "classes", "weight")} == {(32, 32)}
        assert (sample["image"].dtype, sample["labels"].dtype) == (torch.float32, torch.int64)


def test_targets_see_beyond_the_crop():
    """Weights at the border of a crop are those of the whole frame, for views that are only turned."""
    method = load_method("dwm", depth=1, beta=6)
    settings = TrainingSettings(crop=32, margin=12, augmentation=Augmentation(warped=0.0))
    samples, frame = Samples(method, FRAMES[:1], settings), FRAMES[0]
    whole = method.targets(frame[1])["weight"]
    for i in range(20):
        sample = samples[i]
        labels, weight = sample["labels"].numpy(), sample["weight"].numpy()
        turns = [np.rot90(a, k) for a in (whole, whole[::-1]) for k in range(4)]
        twins = [np.rot90(a, k) for a in (frame[1], frame[1][::-1]) for k in range(4)]
        assert any(found(labels, weight, twin, turn) for twin, turn in zip(twins, turns, strict=True))


def found(labels, weight, whole_labels, whole_weight):
    """Whether a crop lies somewhere in a frame, weights and all."""
    views = np.lib.stride_tricks.sliding_window_view(whole_labels, labels.shape)
    places = np.argwhere((views == labels).all(axis=(2, 3)))
    height, width = labels.shape
    return any(np.allclose(whole_weight[y : y + height, x : x + width], weight) for y, x in places)


def test_batches_of_two_workers_together_are_those_of_one(samples):
    wide = dataclasses.replace(SETTINGS, batch_size=4)
    alone = list(batches(samples, wide, first=0))
    pair = [list(batches(samples, SETTINGS, first=0, rank=rank, world=2)) for rank in (0, 1)]
    for step, values in enumerate(alone):
        joined = {name: torch.cat([pair[rank][step][name] for rank in (0, 1)]) for name in values}
        assert equal(values, joined)


def test_batches_from_a_later_step_are_the_same_ones(samples):
    whole, rest = list(batches(samples, SETTINGS, first=0)), list(batches(samples, SETTINGS, first=4))
    assert len(rest) == 2
    assert all(equal(a, b) for a, b in zip(whole[4:], rest, strict=True))


def test_a_loader_process_makes_the_same_batches(samples):
    apart = batches(samples, dataclasses.replace(SETTINGS, loader_workers=1), first=3)
    assert all(equal(a, b) for a, b in zip(batches(samples, SETTINGS, first=3), apart, strict=True))

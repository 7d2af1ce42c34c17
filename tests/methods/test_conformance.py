import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cellscale.methods import METHODS, load_method
from cellscale.settings.fields import replaced
from tests.cases import CASES
from tests.methods import conformance

TINY = {"width": 4, "depth": 2, "learning_rate": 0.01}
GAME = {"width": 4, "features": 4, "side": 16, "estimator_steps": 1, "discriminator_steps": 1, "noise": 0.5}
RATES = {"learning_rate": 0.01, "discriminator_rate": 0.01}
SMALL = {
    "ribcage": {**GAME, **RATES},
    "classdisc": {**GAME, "hidden": 16, "learning_rate": 0.004, "discriminator_rate": 0.004},
    "ribcage-ce": {"width": 4},
    "l2s": {"iterations": 40},
    "pixel-forest": {"scales": [0.7, 1.6], "trees": 10, "leaves": 30, "batches": 3, "pixels": 300},
}
"""Settings of the methods that have no U-Net."""
LONGER = dataclasses.replace(conformance.QUICK, steps=100, crop=53)
QUICK = {"ribcage": LONGER, "classdisc": LONGER}
"""Trainings of the methods that need other crops."""


def discs(seed, shape=(64, 64)):
    """A frame with bright round cells, some of which touch: (1, y, x) uint8 and labels."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint32)
    y, x = np.mgrid[: shape[0], : shape[1]]
    for number in range(1, 9):
        cy, cx = rng.integers(6, shape[0] - 6), rng.integers(6, shape[1] - 6)
        inside = ((y - cy) ** 2 + (x - cx) ** 2 < rng.integers(5, 10) ** 2) & (labels == 0)
        labels[inside] = number
    image = np.where(labels > 0, 160, 60) + rng.normal(0, 8, shape)
    return image.clip(0, 255).astype(np.uint8)[None], labels


FRAMES = [discs(seed) for seed in range(3)]


def seen_by(method):
    """The responses that a forest compares with its thresholds, as maps."""
    return lambda window: {
        str(i): torch.from_numpy(plane[None]) for i, plane in enumerate(method.features(window[0].numpy()))
    }


SCHEDULES = {
    f"{schedule} {name}": (name, {"schedule": schedule, "dropout": 0.05})
    for name in ("deepsplit", "branchnet", "double-unet")
    for schedule in ("cumulative", "simultaneous")
}
OWN_TESTS = {"maskrcnn"}
"""Methods without maps: tests/methods/test_shape_aware_loss.py holds them to what applies."""
VARIANTS = {name: (name, {}) for name in METHODS if f"cumulative {name}" not in SCHEDULES and name not in OWN_TESTS}
VARIANTS |= SCHEDULES


@pytest.fixture(params=VARIANTS)
def method(request):
    """Every method and schedule, small, with the statistics of the frames."""
    name, settings = VARIANTS[request.param]
    return load_method(name, **SMALL.get(name, TINY), **settings).prepared(labels for _, labels in FRAMES)


@pytest.fixture
def quick(method):
    """How the method is trained here."""
    return QUICK.get(method.name, conformance.QUICK)


@pytest.mark.parametrize("case", CASES)
def test_decoding_the_perfect_prediction_returns_the_labels(method, case):
    conformance.check_ideal(method, CASES[case])


def test_the_computed_reach_covers_the_measured_one(method):
    if method.whole == "windowed":
        pytest.skip("each window is solved as a whole")
    conformance.check_reach(method, seen_by(method) if method.name == "pixel-forest" else None)


EXACT = sorted(name for name, (method, _) in VARIANTS.items() if load_method(method).whole == "exact")


@pytest.mark.parametrize("variant", EXACT)
@settings(max_examples=3)
@given(
    shape=st.tuples(st.integers(20, 110), st.integers(30, 110)),
    window=st.integers(24, 120),
    tile=st.integers(20, 120),
    seed=st.integers(0, 99),
)
def test_labels_depend_on_neither_window_nor_tile(variant, shape, window, tile, seed):
    name, chosen = VARIANTS[variant]
    method = load_method(name, **SMALL.get(name, TINY), **chosen)
    image = np.random.default_rng(seed).random((method.channels, *shape))
    conformance.check_windows(method, image, window, tile)


def test_settings_survive_json(method):
    conformance.check_json(method)


@pytest.mark.parametrize("seed", range(5))
def test_pieces_of_a_part_have_the_foreground_of_the_whole(method, seed):
    rng = np.random.default_rng(seed)
    maps = {name: rng.integers(0, 256, (72, 80)).astype(np.uint8) for name in method.maps}
    conformance.check_pieces(method, maps)


def test_a_training_is_repeatable_and_comes_nearer_to_the_labels(method, quick, tmp_path):
    conformance.check_training(method, FRAMES, tmp_path, quick)


def test_resting_networks_stay_bit_equal(method, quick):
    conformance.check_resting(method, FRAMES, quick)


def test_a_loss_is_a_mean_of_sample_losses(method, quick):
    if method.name in QUICK:  # every second sample with its truth; noise is drawn for the batch
        conformance.check_sample_means(replaced(method, {"noise": 0.0}), FRAMES, quick, together=2)
    else:
        conformance.check_sample_means(method, FRAMES, quick)

import numpy as np
import pytest

from cellscale.methods import METHODS, load_method
from tests.cases import CASES
from tests.methods import conformance

TINY = {"width": 4, "depth": 2, "learning_rate": 0.01}


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


SCHEDULES = {
    f"{schedule} {name}": (name, {"schedule": schedule, "dropout": 0.05})
    for name in ("deepsplit", "branchnet", "double-unet")
    for schedule in ("cumulative", "simultaneous")
}
VARIANTS = {name: (name, {}) for name in METHODS if f"cumulative {name}" not in SCHEDULES} | SCHEDULES


@pytest.fixture(params=VARIANTS)
def method(request):
    """Every method and schedule, small, with the statistics of the frames."""
    name, settings = VARIANTS[request.param]
    return load_method(name, **TINY, **settings).prepared(labels for _, labels in FRAMES)


@pytest.mark.parametrize("case", CASES)
def test_decoding_the_perfect_prediction_returns_the_labels(method, case):
    conformance.check_ideal(method, CASES[case])


def test_the_computed_reach_covers_the_measured_one(method):
    conformance.check_reach(method)


def test_settings_survive_json(method):
    conformance.check_json(method)


@pytest.mark.parametrize("seed", range(5))
def test_pieces_of_a_part_have_the_foreground_of_the_whole(method, seed):
    rng = np.random.default_rng(seed)
    maps = {name: rng.integers(0, 256, (72, 80)).astype(np.uint8) for name in method.maps}
    conformance.check_pieces(method, maps)


def test_a_training_is_repeatable_and_comes_nearer_to_the_labels(method, tmp_path):
    conformance.check_training(method, FRAMES, tmp_path)


def test_resting_networks_stay_bit_equal(method):
    conformance.check_resting(method, FRAMES)


def test_a_loss_is_a_mean_of_sample_losses(method):
    conformance.check_sample_means(method, FRAMES)

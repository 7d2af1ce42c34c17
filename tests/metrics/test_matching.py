"""F1, AP and PQ against another implementation, many frames together."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
import tifffile
from stardist.matching import matching_dataset

from cellscale.metrics import scores
from cellscale.types import Labels
from tests.metrics.damage import damaged, scattered

Pairs: TypeAlias = Sequence[tuple[Labels, Labels]]

JUST_ABOVE_HALF = 0.5 + 1e-6
PERCENTS = range(55, 100, 5)


def other_scores(pairs: Pairs) -> dict[str, float]:
    thresholds = [JUST_ABOVE_HALF, *(percent / 100 for percent in PERCENTS)]
    found = matching_dataset(*zip(*pairs, strict=True), thresh=thresholds, show_progress=False)
    at_half, accuracies = found[0], [each.accuracy for each in found]
    return {
        "precision": at_half.precision,
        "recall": at_half.recall,
        "f1": at_half.f1,
        "pq": at_half.panoptic_quality,
        "mean_matched_iou": at_half.mean_matched_score,
        "mean_iou": at_half.mean_true_score,
        "ap": float(np.mean(accuracies)),
        **{f"ap_{percent}": value for percent, value in zip([50, *PERCENTS], accuracies, strict=True)},
    }


def assert_equal_scores(pairs: Pairs) -> None:
    others, ours = other_scores(pairs), scores(pairs)
    assert {key: ours[key] for key in others} == pytest.approx(others, abs=1e-6)


@pytest.mark.parametrize("seed", range(24))
def test_random_cells_score_as_elsewhere(seed: int) -> None:
    truth = scattered(seed, number=12)
    assert_equal_scores([(truth, damaged(truth, seed))])


def test_tiny_cells_that_lie_on_the_thresholds_score_as_elsewhere() -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(1, 401, dtype=np.uint32), 20).reshape(80, 100)
    assert_equal_scores([(truth, np.where(rng.random(truth.shape) < rng.random((80, 1)), truth, 0).astype(np.uint32))])


def test_many_frames_score_as_elsewhere() -> None:
    truths = [scattered(seed, number=5 + seed) for seed in range(8)]
    assert_equal_scores([(truth, damaged(truth, seed)) for seed, truth in enumerate(truths)])


def test_real_cells_score_as_elsewhere(data: Path) -> None:
    truths = tifffile.imread(data / "DIC-C2DH-HeLa" / "01_st_seg.tif", key=[0, 20, 40, 83])
    assert_equal_scores([(truth, damaged(truth, seed)) for seed, truth in enumerate(truths)])


@pytest.mark.parametrize(("width", "matched"), [(10, 0), (11, 1)])
def test_a_jaccard_index_of_exactly_one_half_does_not_match(width: int, matched: int) -> None:
    truth, prediction = np.zeros((3, 22), np.uint32), np.zeros((3, 22), np.uint32)
    truth[1, 1:21] = 5
    prediction[1, 1 : 1 + width] = 9
    found = scores([(truth, prediction)])
    assert found["f1"] == found["ap_50"] == found["recall"] == matched


@pytest.mark.parametrize("percent", PERCENTS)
def test_higher_thresholds_include_themselves(percent: int) -> None:
    truth = np.ones((1, 100), np.uint32)
    prediction = (np.arange(100)[None] < percent).astype(np.uint32)
    found = scores([(truth, prediction)])
    assert found[f"ap_{percent}"] == 1.0
    assert found["ap"] == pytest.approx(((percent - 50) // 5 + 1) / 10)

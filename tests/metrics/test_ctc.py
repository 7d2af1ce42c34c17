"""SEG and DET against another implementation of the challenge's measures, many frames together."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
import tifffile
from ctc_metrics.metrics.technical.det import det
from ctc_metrics.metrics.technical.seg import seg
from ctc_metrics.utils.representations import count_acyclic_graph_correction_operations, match

from cellscale.metrics import scores
from cellscale.types import Labels
from tests.metrics.damage import damaged, halved, merged, scattered

Pairs: TypeAlias = Sequence[tuple[Labels, Labels]]


def small_numbers(labels: Labels) -> Labels:
    return np.unique(labels, return_inverse=True)[1].reshape(labels.shape).astype(np.uint16)


def other_scores(pairs: Pairs, folder: Path) -> dict[str, float]:
    frames = []
    for truth, prediction in pairs:
        tifffile.imwrite(folder / "truth.tif", small_numbers(truth))
        tifffile.imwrite(folder / "prediction.tif", small_numbers(prediction))
        frames.append(match(str(folder / "truth.tif"), str(folder / "prediction.tif")))
    cells, predicted, held, holders, jaccard = zip(*frames, strict=True)
    operations = count_acyclic_graph_correction_operations(None, None, cells, predicted, held, holders)
    return {"seg": seg(cells, jaccard), "det": det(**operations)}


def assert_equal_scores(pairs: Pairs, folder: Path) -> None:
    ours = scores(pairs)
    assert {key: ours[key] for key in ("seg", "det")} == pytest.approx(other_scores(pairs, folder), abs=1e-12)


@pytest.mark.parametrize("seed", range(24))
def test_random_cells_score_as_elsewhere(seed: int, tmp_path: Path) -> None:
    truth = scattered(seed, number=12)
    assert_equal_scores([(truth, damaged(truth, seed))], tmp_path)


def test_many_frames_score_as_elsewhere(tmp_path: Path) -> None:
    truths = [scattered(seed, number=5 + seed) for seed in range(8)]
    assert_equal_scores([(truth, damaged(truth, seed)) for seed, truth in enumerate(truths)], tmp_path)


def test_unrelated_cells_score_as_elsewhere(tmp_path: Path) -> None:
    assert_equal_scores([(scattered(seed), scattered(seed + 100, number=40)) for seed in range(4)], tmp_path)


def test_real_cells_score_as_elsewhere(data: Path, tmp_path: Path) -> None:
    truths = tifffile.imread(data / "DIC-C2DH-HeLa" / "01_st_seg.tif", key=[0, 20, 40, 83])
    assert_equal_scores([(truth, damaged(truth, seed)) for seed, truth in enumerate(truths)], tmp_path)


def test_half_of_a_cell_is_not_enough() -> None:
    truth = np.zeros((4, 10), np.uint32)
    truth[1:3, 1:9] = 1
    prediction = truth.copy()
    prediction[:, 5:] = 0
    assert scores([(truth, prediction)])["seg"] == 0.0
    prediction[1, 5] = 1
    assert scores([(truth, prediction)])["seg"] == pytest.approx(9 / 16)


def test_a_merged_pair_costs_one_split() -> None:
    truth = np.zeros((8, 20), np.uint32)
    truth[2:6, 2:9] = 1
    truth[2:6, 9:17] = 2
    found = scores([(truth, merged(truth))])
    assert found["det"] == pytest.approx(1 - 5 / 20)
    assert (found["merges"], found["splits"]) == (1, 0)


def test_a_cell_in_two_halves_is_a_split() -> None:
    truth = np.zeros((6, 20), np.uint32)
    truth[1:5, 4:15] = 1
    found = scores([(truth, halved(truth))])
    assert (found["merges"], found["splits"], found["predicted_cells"]) == (0, 1, 2)
    assert found["det"] == pytest.approx(1 - 1 / 10)


def test_det_has_a_floor() -> None:
    truth = np.zeros((30, 30), np.uint32)
    truth[0, 0] = 1
    crowd = np.arange(900, dtype=np.uint32).reshape(30, 30)
    assert scores([(truth, crowd)])["det"] == 0.0

import math
import weakref
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from cellscale.errors import InputError
from cellscale.metrics import FrameScores, frame_scores, scores, summary, tiled_scores, total
from cellscale.testing import cases
from cellscale.testing.naive.metrics import scores as naive_scores
from cellscale.types import Labels
from tests.metrics.damage import damaged, scattered

EMPTY = np.zeros((20, 30), np.uint32)
CELL = np.pad(np.ones((6, 8), np.uint32), 7)
SHARES = (
    "precision",
    "recall",
    "f1",
    "mean_matched_iou",
    "mean_iou",
    "ap",
    "ap_50",
    "ap_95",
    "pq",
    "aji",
    "dsc",
    "cds",
    "contour_f1_3",
)


@st.composite
def two_frames(draw: st.DrawFn) -> tuple[Labels, Labels]:
    shape = draw(array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9))
    labels = arrays(np.uint32, shape, elements=st.sampled_from([0, 1, 2, 4, 4_294_967_295]))
    return draw(labels), draw(labels)


@settings(max_examples=150, deadline=None)
@given(two_frames())
def test_scores_equal_their_definitions_on_any_frame(frames: tuple[Labels, Labels]) -> None:
    assert scores([frames]) == pytest.approx(naive_scores(*frames), abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("seed", range(16))
def test_scores_equal_their_definitions_on_damaged_cells(seed: int) -> None:
    truth = scattered(seed)
    prediction = damaged(truth, seed)
    assert scores([(truth, prediction)]) == pytest.approx(naive_scores(truth, prediction), abs=1e-12)


def test_a_perfect_prediction_has_full_marks_whatever_its_numbers() -> None:
    truth = cases.two_touching()
    found = scores([(truth, truth * np.uint32(77))])
    assert {found[key] for key in (*SHARES, "seg", "det")} == {1.0}
    assert (found["splits"], found["merges"], found["truth_cells"], found["predicted_cells"]) == (0, 0, 2, 2)


def test_frames_are_pooled_not_averaged() -> None:
    pairs = [(cases.two_touching(), cases.two_touching()), (CELL, np.zeros_like(CELL))]
    found = scores(pairs)
    assert found["recall"] == found["seg"] == found["mean_iou"] == pytest.approx(2 / 3)
    assert found["det"] == pytest.approx(1 - 10 / 30)


def test_counts_add_up_in_any_grouping() -> None:
    frames = [frame_scores(truth, damaged(truth, seed)) for seed, truth in enumerate(map(scattered, range(4)))]
    halves = total([total(frames[:2]), total(frames[2:])])
    assert summary(halves) == pytest.approx(summary(total(frames)), rel=1e-12)
    assert summary(total(frames)) == scores((t, damaged(t, seed)) for seed, t in enumerate(map(scattered, range(4))))


@settings(max_examples=40, deadline=None)
@given(
    arrays(np.uint32, (23, 31), elements=st.sampled_from([0, 0, 3, 3, 7, 2**32 - 1])),
    st.integers(0, 99),
    st.integers(9, 40),
)
def test_tiles_count_what_the_whole_frame_does(noise: Labels, seed: int, side: int) -> None:
    truth = scattered(seed)
    truth[4:27, 8:39] = noise
    prediction = damaged(truth, seed)
    tiled = tiled_scores(lambda box: (truth[box.slices], prediction[box.slices]), truth.shape, side)
    assert tiled == frame_scores(truth, prediction)


def test_no_frames_are_the_counts_of_nothing() -> None:
    assert total([]) == FrameScores()
    assert summary(frame_scores(EMPTY, EMPTY)) == pytest.approx(summary(total([])), nan_ok=True)


def test_neither_truth_nor_prediction_is_full_marks_without_seg_and_det() -> None:
    found = scores([(EMPTY, EMPTY)])
    assert {found[key] for key in SHARES} == {1.0}
    assert math.isnan(found["seg"])
    assert math.isnan(found["det"])


def test_a_prediction_without_truth_scores_nothing() -> None:
    found = scores([(np.zeros_like(CELL), CELL)])
    assert {found[key] for key in SHARES} == {0.0}
    assert math.isnan(found["seg"])
    assert math.isnan(found["det"])
    assert found["predicted_cells"] == 1


def test_truth_without_prediction_scores_nothing() -> None:
    found = scores([(CELL, np.zeros_like(CELL))])
    assert {found[key] for key in (*SHARES, "seg", "det")} == {0.0}


def test_scores_are_plain_numbers() -> None:
    found = scores([(scattered(1), damaged(scattered(1), 1))])
    assert {type(value) for value in found.values()} == {int, float}


def test_no_frame_is_kept() -> None:
    frames: list[weakref.ref[Labels]] = []
    alive = []

    def stream() -> Iterator[tuple[Labels, Labels]]:
        for seed in range(4):
            alive.append(sum(frame() is not None for frame in frames))
            truth = scattered(seed)
            frames.append(weakref.ref(truth))
            yield truth, truth
            del truth

    assert scores(stream())["f1"] == 1.0
    assert max(alive) <= 1


def test_different_shapes_are_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"truth and prediction have the shapes \(20, 30\) and \(20, 22\)"):
        scores([(EMPTY, CELL)])


def test_probabilities_are_refused() -> None:
    with pytest.raises(InputError, match="prediction is of float64; expected integers"):
        scores([(EMPTY, np.zeros((20, 30)))])

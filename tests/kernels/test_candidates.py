import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellscale.errors import InputError
from cellscale.kernels.candidates import painted, unsuppressed
from cellscale.testing.naive import candidates as naive
from cellscale.testing.strategies import candidates as competing
from cellscale.types import Candidates


@settings(max_examples=80)
@given(competing(), st.sampled_from([0.0, 0.2, 0.5, 1.0]))
def test_a_higher_key_suppresses_what_it_overlaps(candidates, most) -> None:
    assert np.array_equal(unsuppressed(candidates, most=most), naive.unsuppressed(candidates, most))


@settings(max_examples=80)
@given(competing(), st.sampled_from([0, 1, 100, 128]))
def test_pixels_go_to_the_strongest_claim(candidates, least) -> None:
    assert np.array_equal(painted(candidates, least=least), naive.painted(candidates, least))


def in_a_row(*columns: tuple[int, int], scores: tuple[int, ...]) -> Candidates:
    boxes = np.array([(0, x0, 10, x1) for x0, x1 in columns], np.int32)
    masks = np.full((len(boxes), 4, 4), 255, np.uint8)
    return Candidates(
        shape=(10, 40), boxes=boxes, anchors=boxes[:, :2], scores=np.array(scores, np.uint16), masks=masks
    )


def test_suppression_is_one_step() -> None:
    """The second goes by the first; the third goes by the second although that one goes."""
    chain = in_a_row((0, 10), (3, 13), (6, 16), scores=(9, 8, 7))
    assert unsuppressed(chain, most=0.5).tolist() == [True, False, False]


def test_a_stronger_mask_wins_where_boxes_overlap() -> None:
    owner = painted(in_a_row((0, 10), (6, 16), scores=(7, 8)))
    assert owner[5, [0, 5, 6, 9, 15, 16]].tolist() == [1, 1, 2, 2, 2, 0]


def test_no_candidate_owns_nothing() -> None:
    nothing = in_a_row((0, 10), scores=(1,)).some(np.zeros(1, bool))
    assert unsuppressed(nothing, most=0.5).shape == (0,)
    assert not painted(nothing).any()


def test_an_overlap_beyond_one_is_refused() -> None:
    with pytest.raises(InputError, match=r"greatest overlap is 2; expected 0 to 1"):
        unsuppressed(in_a_row((0, 10), scores=(1,)), most=2)

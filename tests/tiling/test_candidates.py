"""Candidates through windows and tiles: owned by one window, the same labels for any tiling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellscale.errors import RunError
from cellscale.methods import load_method
from cellscale.methods.shape_aware_loss import MaskRCNN
from cellscale.testing.cases import random_candidates
from cellscale.tiling.candidates import arrays_of, from_arrays, gathered, owned
from cellscale.tiling.in_memory import tiled_frame, whole_frame
from cellscale.tiling.windows import Windows
from cellscale.types import Box, Candidates, Fragments, Reach, Table


def method_for(longest: int, **settings: Any) -> MaskRCNN:
    """Mask R-CNN for boxes of at most so many px."""
    method: Any = load_method("maskrcnn", **{"cells.longest": longest, "growth": 1.0, "score": 0.1, **settings})
    assert isinstance(method, MaskRCNN)
    return method


@settings(max_examples=100, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    size=st.integers(2, 24),
    longest=st.integers(1, 12),
    minimum_area=st.sampled_from([0, 5]),
    most_overlap=st.sampled_from([0.1, 0.3, 0.6]),
    count=st.integers(0, 60),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_tiling_gives_the_whole_frames_labels(
    shape: tuple[int, int], size: int, longest: int, minimum_area: int, most_overlap: Any, count: int, seed: int
) -> None:
    method = method_for(longest, minimum_area=minimum_area, most_overlap=most_overlap)
    candidates = random_candidates(shape, count, longest, seed)
    assert np.array_equal(tiled_frame(method, candidates, size), whole_frame(method, candidates))


@dataclass(frozen=True)
class Mutant:
    """Mask R-CNN that looks less far."""

    method: MaskRCNN
    less: int

    @property
    def reaches(self) -> Reach:
        return Reach(decode_reach=self.method.reaches.decode_reach - self.less, link=1)

    def decode(self, candidates: Candidates, valid: Box) -> Fragments:
        return self.method.decode(candidates, valid)

    def merge_objects(self, nodes: Table, edges: Table) -> np.ndarray:
        return self.method.merge_objects(nodes, edges)


def breaks(less: int) -> bool:
    """Whether some random frame is decoded differently by tiles than at once."""
    mutant = Mutant(method_for(7, most_overlap=0.05), less)
    for seed in range(60):
        candidates = random_candidates((40, 40), 40, 7, seed, levels=60000)
        try:
            if not np.array_equal(tiled_frame(mutant, candidates, 13), whole_frame(mutant, candidates)):
                return True
        except RunError:
            return True
    return False


def test_two_px_less_break_the_promise() -> None:
    """The reach is exact for rivals that meet a candidate in one pixel; such an overlap is too small to matter."""
    assert not breaks(0)
    assert breaks(2)


def at(*boxes: tuple[int, int, int, int], shape: tuple[int, int] = (96, 96)) -> Candidates:
    found = np.array(boxes, np.int32).reshape(-1, 4)
    return Candidates(
        shape=shape,
        boxes=found,
        anchors=found[:, :2],
        scores=np.full(len(found), 9, np.uint16),
        masks=np.full((len(found), 2, 2), 255, np.uint8),
    )


WINDOWS = Windows(shape=(128, 128), core=64, multiple=8, reach=16, framed=True)


def test_a_window_keeps_what_has_its_middle_in_the_core() -> None:
    inside, across, beyond = (20, 20, 40, 40), (70, 70, 86, 88), (76, 70, 88, 80)
    found = owned(at(inside, across, beyond), WINDOWS, 0, seam=0)
    assert found.boxes.tolist() == [[4, 4, 24, 24], [54, 54, 70, 72]]


def test_the_seam_keeps_what_lies_just_beyond() -> None:
    assert len(owned(at((76, 20, 86, 30)), WINDOWS, 0, seam=0)) == 0
    assert len(owned(at((76, 20, 86, 30)), WINDOWS, 0, seam=8)) == 1


def test_boxes_at_a_cut_side_are_dropped_and_at_the_frames_border_are_kept() -> None:
    assert len(owned(at((40, 40, 96, 60)), WINDOWS, 0, seam=0)) == 0
    assert len(owned(at((0, 40, 60, 60)), WINDOWS, 0, seam=0)) == 1


def test_a_cell_that_the_mirror_completes_has_its_middle_in_the_frame() -> None:
    found = owned(at((2, 40, 26, 60)), WINDOWS, 0, seam=0)
    assert found.boxes.tolist() == [[-14, 24, 10, 44]]
    assert found.anchors.tolist() == [[0, 24]]
    assert len(owned(at((2, 40, 15, 60)), WINDOWS, 0, seam=0)) == 0


def test_stored_candidates_come_back_and_windows_add_up() -> None:
    candidates = random_candidates((30, 30), 7, 9, 0)
    back = from_arrays(arrays_of(candidates), candidates.shape)
    both = gathered([back, back.some(np.arange(2))], (30, 30))
    assert both.boxes.tolist() == [*candidates.boxes.tolist(), *candidates.boxes[:2].tolist()]


@pytest.mark.parametrize("box", [Box(0, 0, 5, 5), Box(10, 3, 14, 30)])
def test_a_part_has_all_candidates_with_a_pixel_in_it(box: Any) -> None:
    candidates = random_candidates((30, 30), 40, 9, 1)
    part = candidates.within(box)
    wanted = [Box(*b).clip(box).area > 0 for b in candidates.boxes.tolist()]
    assert len(part) == sum(wanted)
    moved = candidates.boxes[wanted] - [box.y0, box.x0, box.y0, box.x0]
    assert np.array_equal(part.boxes, moved)

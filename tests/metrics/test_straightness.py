from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cellscale.metrics.straightness import RUN, lines_beside, seam_quality, straight_pixels
from cellscale.testing.naive import straightness
from cellscale.types import Box
from tests.blobs import blurred_noise


def counted(labels: np.ndarray, lines: list[int], side: int) -> np.ndarray:
    """Add up the counts of square boxes."""
    total = np.zeros((len(lines), 2), np.int64)
    height, width = labels.shape
    for y in range(0, height, side):
        for x in range(0, width, side):
            box = Box(y, x, min(y + side, height), min(x + side, width))
            seen = Box(max(0, y - RUN), max(0, x - RUN), box.y1, box.x1)
            total += straight_pixels(labels[seen.slices], seen, box, lines)
    return total


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**31), st.integers(2, 40), st.integers(1, 60), st.integers(1, 45), st.sampled_from([0.1, 0.5, 0.95])
)
def test_any_division_into_boxes_counts_what_the_whole_frame_has(
    seed: int, height: int, width: int, side: int, share: float
) -> None:
    labels = (np.random.default_rng(seed).random((height, width)) < share).astype(np.uint32)
    labels[1::2] = 0
    lines = sorted({1, height // 2, height - 1} - {0})
    expected = [straightness.straight_pixels(labels, y, RUN) for y in lines]
    assert counted(labels, lines, side).tolist() == [list(pair) for pair in expected]


@given(st.sets(st.integers(1, 499)), st.integers(0, 9))
def test_partners_lie_between_their_line_and_the_next(lines: set[int], seed: int) -> None:
    ordered = sorted(lines)
    pairs = lines_beside(ordered, 500, seed)
    ends = dict(zip(ordered, [*ordered[1:], 500], strict=True)) if ordered else {}
    assert all(line < beside < ends[line] for line, beside in pairs)
    assert pairs == lines_beside(ordered, 500, seed)


def quality(labels: np.ndarray, tile: int) -> dict[str, object]:
    rows = []
    for axis, turned in enumerate((labels, labels.T)):
        pairs = lines_beside(list(range(tile, turned.shape[0], tile)), turned.shape[0], seed=axis)
        sides = [counted(turned, [pair[side] for pair in pairs], 512) for side in (0, 1)]
        rows.append(np.concatenate(sides, axis=1))
    return seam_quality(np.concatenate(rows))


def test_cells_cut_at_tiles_show_and_whole_cells_do_not() -> None:
    from scipy import ndimage

    bright = blurred_noise((640, 640)) > 2500
    whole, _ = ndimage.label(bright)
    found = quality(whole, 64)
    low, high = found["interval"]
    assert low <= 0 <= high
    rows, columns = np.indices(bright.shape) // 64
    cut = np.where(bright, whole * 1000 + rows * 10 + columns, 0)
    seams = quality(cut, 64)
    assert seams["interval"][0] > 0.2
    assert seams["share_beside"] < 0.2 < seams["share"]


def test_no_lines_and_no_cells_have_no_quality() -> None:
    assert seam_quality(np.zeros((0, 4), np.int64))["interval"] is None
    assert seam_quality(np.zeros((5, 4), np.int64))["share"] is None

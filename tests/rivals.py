"""Random candidates that compete for pixels, for Hypothesis."""

import numpy as np
from hypothesis import strategies as st

from cellscale.types import Candidates


def drawn(shape: tuple[int, int], count: int, longest: int, seed: int, levels: int = 4) -> Candidates:
    """Boxes of any place and size up to `longest` px that meet the frame, with equal scores among them."""
    rng = np.random.default_rng(seed)
    size = rng.integers(1, longest + 1, (count, 2))
    start = rng.integers(1 - size, np.array(shape), (count, 2))
    boxes = np.concatenate([start, start + size], axis=1).astype(np.int32)
    return Candidates(
        shape=shape,
        boxes=boxes,
        anchors=np.maximum(boxes[:, :2], 0),
        scores=(rng.integers(1, levels + 1, count) * 60000 // levels).astype(np.uint16),
        masks=rng.integers(0, 256, (count, 5, 5)).astype(np.uint8),
    )


@st.composite
def rivals(draw, longest=9):
    """Up to twelve candidates in a frame of up to 14 × 14 px."""
    shape = (draw(st.integers(1, 14)), draw(st.integers(1, 14)))
    return drawn(shape, draw(st.integers(0, 12)), longest, draw(st.integers(0, 2**32 - 1)))

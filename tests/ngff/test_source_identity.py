import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellscale.ngff.source_identity import ChunkGrid
from cellscale.types import Box

GRID = ChunkGrid(shape=(70, 100), chunk=(16, 32))


@given(st.integers(0, 69), st.integers(0, 99), st.integers(1, 70), st.integers(1, 100))
@settings(deadline=None)
def test_a_box_of_whole_chunks_is_the_smallest_that_holds_a_box(y: int, x: int, height: int, width: int) -> None:
    box = Box(y, x, y + height, x + width).clip(Box(0, 0, 70, 100))
    whole = GRID.whole(box)
    assert whole.clip(box) == box
    assert (whole.y0 % 16, whole.x0 % 32) == (0, 0)
    assert whole.y1 in {16, 32, 48, 64, 70}
    assert whole.x1 in {32, 64, 96, 100}
    assert box.y0 - whole.y0 < 16
    assert whole.x1 - box.x1 < 32


@pytest.mark.parametrize("dtype", ["uint8", "uint16", ">i4", "float16", "float32", "float64", "bool"])
def test_checksums_of_a_part_are_those_of_the_whole_and_see_one_pixel(dtype: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 2, (2, 70, 100)).astype(dtype)
    whole = GRID.checksums(pixels, Box(0, 0, 70, 100))
    assert whole.shape == (2, 5, 4)
    assert whole.min() >= 0
    part = Box(16, 64, 48, 100)
    assert np.array_equal(GRID.checksums(pixels[(slice(None), *part.slices)], part), whole[:, 1:3, 2:4])
    changed = pixels.copy()
    changed[1, 69, 99] = not pixels[1, 69, 99]
    assert np.argwhere(GRID.checksums(changed, Box(0, 0, 70, 100)) != whole).tolist() == [[1, 4, 3]]


def test_a_checksum_is_the_castagnoli_polynomial() -> None:
    """The check value of CRC-32C: that of the digits 1 to 9."""
    digits = np.frombuffer(b"123456789", np.uint8).reshape(1, 1, 9)
    assert ChunkGrid(shape=(1, 9), chunk=(1, 9)).checksums(digits, Box(0, 0, 1, 9)).tolist() == [[[0xE3069283]]]

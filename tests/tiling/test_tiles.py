import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellscale.errors import InputError
from cellscale.tiling.tiles import Grid
from cellscale.types import Box

SIDES = st.integers(1, 60)


@given(SIDES, SIDES, st.integers(1, 70))
def test_cores_partition_the_frame(height: int, width: int, size: int) -> None:
    grid = Grid(shape=(height, width), size=size)
    owners = np.zeros((height, width), int)
    for tile in range(len(grid)):
        owners[grid.core(tile).slices] += 1
    assert (owners == 1).all()


@given(SIDES, SIDES, st.integers(1, 20), st.integers(-5, 60), st.integers(-5, 60), st.integers(1, 30))
def test_touching_tiles_are_those_with_a_common_pixel(h: int, w: int, size: int, y: int, x: int, side: int) -> None:
    grid = Grid(shape=(h, w), size=size)
    box = Box(y, x, y + side, x + side)
    expected = [tile for tile in range(len(grid)) if grid.core(tile).clip(box).shape > (0, 0)]
    assert list(grid.touching(box)) == [tile for tile in expected if min(grid.core(tile).clip(box).shape) > 0]


def test_valid_and_read_boxes_grow_and_are_clipped() -> None:
    grid = Grid(shape=(20, 30), size=10)
    assert grid.valid(0, 2) == Box(0, 0, 12, 12)
    assert grid.read(4, 2, 3) == Box(5, 5, 20, 25)


def test_a_grid_without_pixels_is_refused() -> None:
    with pytest.raises(InputError, match="at least 1 px"):
        Grid(shape=(0, 5), size=10)

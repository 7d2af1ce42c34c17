import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellscale.errors import InputError
from cellscale.tiling.windows import Windows, cut, mirrored
from cellscale.types import Box


@given(st.integers(1, 200), st.integers(1, 200), st.sampled_from([8, 16, 64]), st.integers(0, 30))
@settings(deadline=None)
def test_cores_partition_and_windows_have_one_shape(height: int, width: int, core: int, reach: int) -> None:
    windows = Windows(shape=(height, width), core=core, multiple=8, reach=reach)
    owners = np.zeros((height, width), int)
    for window in range(len(windows)):
        box, inner = windows.window_box(window), windows.core_box(window)
        owners[inner.slices] += 1
        assert box.shape == windows.window_shape
        assert box.shape[0] % 8 == box.shape[1] % 8 == 0
        assert box.clip(Box.of((height, width))).clip(inner) == inner
    assert (owners == 1).all()


@given(st.integers(1, 200), st.integers(0, 30))
@settings(deadline=None)
def test_a_window_ends_at_the_frame_or_farther_from_its_core_than_a_prediction_looks(n: int, reach: int) -> None:
    windows = Windows(shape=(n, n), core=32, multiple=8, reach=reach)
    end = -(-n // 8) * 8
    for window in range(len(windows)):
        box, inner = windows.window_box(window), windows.core_box(window)
        assert box.y0 == 0 or (box.y0 > 0 and inner.y0 - box.y0 >= reach)
        assert box.y1 == end or (box.y1 < end and box.y1 - inner.y1 >= reach)
        assert box.y0 % 8 == 0


def test_an_axis_no_longer_than_a_window_has_one_window() -> None:
    windows = Windows(shape=(48, 49), core=32, multiple=8, reach=8)
    assert windows.window_shape == (48, 48)
    assert len(windows) == 2
    assert windows.core_box(0) == Box(0, 0, 48, 32)
    assert windows.touching(Box(40, 10, 48, 49)) == [0, 1]
    assert (list(windows.cuts(0)), list(windows.cuts(1))) == ([], [32])


@given(st.integers(1, 200), st.integers(0, 30))
@settings(deadline=None)
def test_framed_windows_have_a_halo_at_every_side(n: int, reach: int) -> None:
    windows = Windows(shape=(n, n), core=32, multiple=8, reach=reach, framed=True)
    for window in range(len(windows)):
        box, inner = windows.window_box(window), windows.core_box(window)
        assert box.shape == windows.window_shape
        assert box.shape[0] % 8 == 0
        assert inner.y0 - box.y0 >= windows.halo
        assert box.y1 - inner.y1 >= windows.halo
        assert -windows.halo <= box.y0 < box.y1 <= -(-n // 8) * 8 + windows.halo


def test_windows_of_a_box() -> None:
    windows = Windows(shape=(100, 100), core=32, multiple=8, reach=4)
    assert windows.touching(Box(30, 0, 40, 10)) == [0, 4]


@given(st.integers(1, 20), st.integers(-50, 50), st.integers(0, 60))
@settings(deadline=None)
def test_mirrored_is_numpy_reflection(n: int, start: int, length: int) -> None:
    before, after = max(0, -start), max(0, start + length - n)
    padded = np.pad(np.arange(n), (before, after), mode="reflect")
    assert mirrored(start, start + length, n).tolist() == padded[start + before : start + before + length].tolist()


def test_a_cut_beyond_the_image_is_numpy_reflection() -> None:
    image = np.arange(60, dtype=np.float32).reshape(2, 5, 6)
    expected = np.pad(image, [(0, 0), (2, 3), (1, 4)], mode="reflect")
    assert (cut(image, Box(-2, -1, 8, 10)) == expected).all()


def test_a_core_that_is_no_multiple_is_refused() -> None:
    with pytest.raises(InputError, match="multiple of 16"):
        Windows(shape=(100, 100), core=40, multiple=16, reach=4)

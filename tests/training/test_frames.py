from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cellscale.errors import InputError
from cellscale.methods.intensity import Intensity
from cellscale.training.frames import Joined, MappedFrames, checked, mapped


class Counting(list[Any]):
    """Frames that count how often they are read."""

    reads = 0

    def __getitem__(self, index: Any) -> Any:
        self.reads += 1
        return super().__getitem__(index)


def frame(
    value: float, shape: tuple[int, int] = (8, 8), channels: int = 1
) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    return np.full((channels, *shape), value, np.uint8), np.zeros(shape, np.uint32)


def test_joined_frames_are_numbered_through() -> None:
    joined = Joined(parts=([frame(1), frame(2)], [], [frame(3)]))
    assert [int(joined[i][0][0, 0, 0]) for i in range(len(joined))] == [1, 2, 3]
    with pytest.raises(IndexError):
        joined[3]


def test_a_frame_is_mapped_as_a_whole() -> None:
    image = np.arange(100, dtype=np.uint16).reshape(1, 10, 10) + 32_978
    found = mapped(image, Intensity(low=0, high=100))
    assert found.dtype == np.float32
    assert (found.min(), found.max()) == (0.0, 1.0)


def test_the_latest_frames_are_kept_within_the_budget() -> None:
    frames = Counting([frame(i) for i in range(3)])
    kept = MappedFrames(frames, Intensity(), budget_bytes=2 * (8 * 8 * 8))
    for index in (0, 1, 0, 1, 2, 1, 0):
        kept[index]
    assert frames.reads == 4
    tiny = MappedFrames(frames, Intensity(), budget_bytes=0)
    assert np.array_equal(tiny[1][0], tiny[1][0])
    assert frames.reads == 5


def test_no_frames_at_all() -> None:
    with pytest.raises(InputError, match="No training frames"):
        checked([[]], 1, "training")


def test_another_number_of_channels() -> None:
    with pytest.raises(InputError, match=r"shape \(2, 8, 8\); the method reads 1"):
        checked([[frame(0, channels=2)]], 1, "training")


def test_labels_of_another_size() -> None:
    with pytest.raises(InputError, match=r"images are \(8, 8\) px, labels \(4, 4\) px"):
        checked([[(frame(0)[0], np.zeros((4, 4), np.uint32))]], 1, "training")

import numpy as np
import pytest

from cellscale.errors import InputError
from cellscale.training.frames import Joined, checked
from cellscale.types import Box

WHOLE = Box(0, 0, 8, 8)


def frame(value, shape=(8, 8), channels=1, cells=0):
    return np.full((channels, *shape), value, np.uint8), np.full(shape, cells, np.uint32)


def test_joined_frames_are_numbered_through():
    joined = Joined.of([[frame(1), frame(2)], [], [frame(3)]])
    assert [int(joined.read_image(i, WHOLE)[0, 0, 0]) for i in range(len(joined))] == [1, 2, 3]
    with pytest.raises(IndexError):
        joined.read_image(3, WHOLE)


def test_no_frames_at_all():
    with pytest.raises(InputError, match="No training frames"):
        checked([[]], 1, "training")


def test_frames_without_a_cell():
    with pytest.raises(InputError, match="None of the 2 validation frames has a cell"):
        checked([[frame(0), frame(1)]], 1, "validation")
    with pytest.raises(InputError, match="None of the 1 training frames has a cell"):
        checked([[frame(0, cells=9)]], 1, "training", 9)
    assert len(checked([[frame(0), frame(1, cells=9)]], 1, "training")) == 2


def test_another_number_of_channels():
    with pytest.raises(InputError, match=r"shape \(2, 8, 8\); the method reads 1"):
        checked([[frame(0, channels=2)]], 1, "training")


def test_labels_of_another_size():
    with pytest.raises(InputError, match=r"images are \(8, 8\) px, labels \(4, 4\) px"):
        checked([[(frame(0)[0], np.zeros((4, 4), np.uint32))]], 1, "training")

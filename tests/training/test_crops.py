"""Crops of frames of any size: the pixels of the whole frame, whatever the blocks in which it is stored."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from cellscale.errors import InputError
from cellscale.methods.intensity import Intensity, Scale
from cellscale.training.augment import Augmentation, View, coordinates, view_of, view_of_image, view_of_labels
from cellscale.training.crops import Crops, row_blocks, statistics_of
from cellscale.training.frames import FramesInMemory
from cellscale.types import Box


class Blocks(FramesInMemory):
    """Frames in memory that are read in blocks, and note what is read."""

    block: tuple[int, int]
    reads: list[tuple[int, Box]]

    def __init__(self, pairs: Any, block: Any) -> None:
        super().__init__(pairs=pairs)
        object.__setattr__(self, "block", block)
        object.__setattr__(self, "reads", [])

    def block_shape(self, index: int) -> Any:
        return self.block

    def read_labels(self, index: int, box: Any) -> NDArray[np.uint32]:
        self.reads.append((index, box))
        return super().read_labels(index, box)


def frame(
    shape: tuple[int, int] = (40, 50), dtype: str = "uint16", seed: int = 0, channels: int = 1
) -> tuple[NDArray[Any], NDArray[np.uint32]]:
    rng = np.random.default_rng(seed)
    image = (rng.random((channels, *shape)) * 900).astype(dtype)
    return image, rng.integers(0, 5, shape).astype(np.uint32)


def whole(pair: Any, rule: Any) -> tuple[NDArray[Any], Any]:
    """The frame mapped by its histogram at once."""
    image, labels = pair
    made = []
    for channel in image:
        scale = Scale.of(channel.dtype, float(channel.min()), float(channel.max()))
        made.append(rule.fit(scale.histogram(channel), scale)(channel))
    return np.stack(made), labels


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("rule", [Intensity(), Intensity(low=0, high=100), Intensity(rule="equalise")])
@pytest.mark.parametrize("block", [(40, 50), (16, 16), (7, 60)])
def test_a_box_is_that_of_the_whole_frame(dtype: Any, rule: Any, block: Any) -> None:
    pair = frame(dtype=dtype, channels=2)
    image, labels = whole(pair, rule)
    crops = Crops(Blocks([pair], block), rule, 10_000)
    for box in (Box(0, 0, 40, 50), Box(3, 5, 30, 49), Box(39, 0, 40, 1), Box(16, 16, 32, 32)):
        found, cells = crops.read(0, box)
        assert found.dtype == np.float32
        assert np.array_equal(found, image[:, *box.slices])
        assert np.array_equal(cells, labels[box.slices])


def test_a_frame_is_read_in_blocks_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cellscale.training.crops.ROWS_PX", 200)
    pair = frame(dtype="float32")
    frames = Blocks([pair], (8, 8))
    crops = Crops(frames, Intensity(), 0)
    assert max(box.area for box in row_blocks((40, 50), (8, 8))) <= 200
    assert np.array_equal(crops.read(0, Box(0, 0, 40, 50))[0], whole(pair, Intensity())[0])


def test_the_latest_blocks_are_kept_within_the_budget() -> None:
    frames = Blocks([frame((8, 8), seed=i) for i in range(3)], (8, 8))
    seen = {index: statistics_of(frames, index, Intensity()) for index in range(3)}
    frames.reads.clear()
    kept = Crops(frames, Intensity(), budget_bytes=2 * (8 * 8 * 8), seen=seen)
    for index in (0, 1, 0, 1, 2, 1, 0):
        kept.read(index, Box(0, 0, 8, 8))
    assert [index for index, _ in frames.reads] == [0, 1, 2, 0]
    tiny = Crops(frames, Intensity(), budget_bytes=0, seen=seen)
    assert np.array_equal(tiny.read(1, Box(0, 0, 8, 8))[0], tiny.read(1, Box(0, 0, 8, 8))[0])
    assert len(frames.reads) == 5


def test_what_nobody_annotated_is_the_median_of_the_rest() -> None:
    image = np.arange(60, dtype=np.uint16).reshape(1, 6, 10)
    labels = np.where(image[0] >= 40, 9, image[0] // 30).astype(np.uint32)
    found, cells = Crops([(image, labels)], Intensity(low=0, high=100), 0, ignore_label=9).read(0, Box(0, 0, 6, 10))
    assert np.array_equal(cells, np.where(labels == 9, 0, labels))
    assert np.array_equal(found[0, 4:], np.full((2, 10), found[0, 1, 9]))
    assert np.array_equal(found[0, :4], whole((image, labels), Intensity(low=0, high=100))[0][0, :4])


def test_a_checksum_is_of_pixels_and_labels_and_not_of_their_chunks() -> None:
    image, labels = frame(channels=2)
    found = [
        statistics_of(Blocks([pair], block), 0, Intensity()).checksum
        for pair, block in (
            ((image, labels), (8, 8)),
            ((image, labels), (16, 50)),
            ((image[::-1].copy(), labels), (8, 8)),
            ((image, labels[::-1].copy()), (8, 8)),
        )
    ]
    assert found[0] == found[1]
    assert len(set(found)) == 3


def test_a_frame_that_nobody_annotated_is_as_dark_as_its_bins_begin() -> None:
    image, labels = frame(dtype="uint16")
    seen = statistics_of(Blocks([(image, np.full_like(labels, 9))], (16, 16)), 0, Intensity(), ignore_label=9)
    assert seen.blank == (float(seen.mappings[0](np.zeros(()))),)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_pixel_that_is_no_number_is_named(value: float) -> None:
    image, labels = frame(dtype="float32", channels=2)
    image[1, 33, 7] = value
    frames = Blocks([frame(dtype="float32", channels=2), (image, labels)], (16, 16))
    statistics_of(frames, 0, Intensity())
    with pytest.raises(InputError, match=r"Pixel \(y 33, x 7\) of frame 1 is not a finite number"):
        statistics_of(frames, 1, Intensity())


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1), st.floats(-90, 90), st.floats(-90, 90))
def test_a_view_through_a_box_is_that_of_the_whole_frame(height: int, width: int, seed: int, y: Any, x: Any) -> None:
    """Bit for bit, mirrored beyond the frame as scipy does, however far; labels from views of the whole frame."""
    image, labels = frame((height, width), dtype="float32", seed=seed)
    points = coordinates(np.random.default_rng(seed), (y, x), 24, Augmentation())
    view = view_of(points, (height, width))
    assert Box.of((height, width)).clip(view.box) == view.box
    seen = map_coordinates(image[0], points, order=1, mode="mirror")
    assert np.array_equal(view_of_image(image[:, *view.box.slices], view, slice(None))[0], seen)
    corner = np.array([view.box.y0, view.box.x0])[:, None, None]
    whole = View(box=Box.of((height, width)), places=view.places + corner)
    assert np.array_equal(view_of_labels(labels[view.box.slices], view), view_of_labels(labels, whole))

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import pytest

from cellscale.errors import InputError
from cellscale.ngff.image import NgffImage
from cellscale.ngff.labels import LabelLayer
from cellscale.training.frames import TrainingData
from cellscale.training.selection import spread


@dataclass(frozen=True)
class Image:
    url: str


def data(*counts: Any) -> list[TrainingData]:
    """Sequences of so many frames of one slice."""
    return [
        TrainingData(
            image=cast(NgffImage, Image(str(i))), labels=cast(LabelLayer, None), planes=tuple((t, 0) for t in range(n))
        )
        for i, n in enumerate(counts)
    ]


@pytest.mark.parametrize(
    ("count", "kept"), [(1, [20]), (2, [10, 30]), (4, [5, 15, 25, 35]), (11, [1, 5, 9, 12, 16, 20, 23, 27, 30, 34, 38])]
)
def test_chosen_frames_are_spread_evenly(count: int, kept: Any) -> None:
    (found,) = spread(data(40), count)
    assert [t for t, _ in found.planes] == kept


def test_all_frames_are_all_frames() -> None:
    assert spread(data(7), 7) == data(7)


def test_frames_of_several_images_are_one_sequence() -> None:
    found = spread(data(10, 2, 30), 3)
    assert [(part.image.url, part.planes) for part in found] == [("0", ((7, 0),)), ("2", ((9, 0), (23, 0)))]


@pytest.mark.parametrize("count", [0, 8])
def test_more_frames_than_there_are_and_none_are_refused(count: int) -> None:
    with pytest.raises(InputError, match=rf"{count} training frames were asked for .* 7 have labels .* Choose 1 to 7"):
        spread(data(7), count)

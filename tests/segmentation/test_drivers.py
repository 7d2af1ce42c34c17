"""Two drivers of one run, the second started at any step of the first: one layer, whole, and both say what happened."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from cellscale.errors import RunError
from cellscale.ngff.image import NgffImage
from cellscale.segmentation.run import Task, one_by_one
from tests.blobs import blurred_noise
from tests.segmentation.test_run import SHAPE, arrays, equal, segmented, table, written


@pytest.fixture
def image(tmp_path: Path) -> NgffImage:
    return written(str(tmp_path / "movie.zarr"), blurred_noise(SHAPE))


def interrupted(step: str, by: Callable[[], Any]) -> Callable[..., Iterator[tuple[Task, Any]]]:
    """Do all tasks in this process; after the first task of a step, do something else."""
    waiting = [by]

    def spread(
        work: Callable[[Any, Task], Any], shared: Any, tasks: Sequence[Task], *, gpu: bool = False
    ) -> Iterator[tuple[Task, Any]]:
        for done in one_by_one(work, shared, tasks, gpu=gpu):
            if waiting and done[0][0].startswith(step):
                waiting.pop()()
            yield done

    return spread


@pytest.mark.parametrize("step", ["survey", "decode", "publish-0", "tables"])
def test_a_driver_that_is_overtaken_stops_and_harms_nothing(image: NgffImage, step: str) -> None:
    settings = {"tile_size": 64, "window_size": 64, "task_px": 1000}
    segmented(image, "alone", **settings)
    spread = interrupted(step, lambda: segmented(image, "cells", **settings))
    with pytest.raises(RunError, match="Another driver has signed the run"):
        segmented(image, "cells", spread=spread, **settings)
    assert equal(arrays(image, "cells"), arrays(image, "alone"))
    assert table(image, "cells").equals(table(image, "alone"))

"""Results that an object keeps: asked for once, and freed with it at once."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from cellscale.linking.links import LinkRules
from cellscale.ngff.labels import open_labels
from cellscale.segmentation.join import Numbering
from cellscale.segmentation.memory import kept
from cellscale.segmentation.plan import Settings, plan
from cellscale.storage.folder import Folder
from cellscale.tracking.plan import plan_tracks
from cellscale.tracking.tables import Frames
from tests.blobs import blobs_model
from tests.support.runs import written
from tests.tracking.test_run import cells, stored


@pytest.fixture
def no_collector() -> Iterator[None]:
    """No circles of objects are freed."""
    gc.disable()
    yield
    gc.enable()


class Reader:
    """Counts how often it reads."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.read = kept(self._read, 2)

    def _read(self, number: int) -> int:
        self.calls.append(number)
        return number**2


def freed(make: Callable[[], object]) -> bool:
    """Whether an object is gone as soon as nobody holds it."""
    made = make()
    known = weakref.ref(made)
    del made
    return known() is None


def test_the_latest_results_are_kept() -> None:
    reader = Reader()
    assert [reader.read(number) for number in (3, 4, 3, 5, 3, 4)] == [9, 16, 9, 25, 9, 16]
    assert reader.calls == [3, 4, 5, 4]


@pytest.mark.usefixtures("no_collector")
def test_what_a_task_has_read_is_freed_at_its_end(tmp_path: Path) -> None:
    image = stored(tmp_path, cells(3))
    run = plan_tracks(image, open_labels(image.url, "cells"), LinkRules(), Folder(url=f"{tmp_path}/tracks"))
    assert freed(lambda: Frames(run))
    pixels = written(f"{tmp_path}/j.zarr", np.zeros((1, 40, 40), np.uint16))
    planned = plan(pixels, blobs_model(), Settings(precision="fp32"), Folder(url=f"{tmp_path}/cells"))
    assert freed(lambda: Numbering(planned, np.zeros(1, np.int64)))
    assert freed(Reader)

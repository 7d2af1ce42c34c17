"""Tasks in this process: the errors that may pass are tried again, all are values, as on Ray."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cellscale.errors import DamagedError, InputError, RunError, StoreError
from cellscale.ngff.image import NgffImage
from cellscale.ngff.labels import list_labels
from cellscale.segmentation import decode, steps
from cellscale.segmentation.executor import Computed, Serial, one_by_one
from cellscale.storage.folder import Folder
from tests.blobs import blurred_noise
from tests.support.runs import arrays, equal, run_it, segmented, written

QUICK = Serial(attempts=3, backoff_s=0.001)


@pytest.fixture
def image(tmp_path: Path) -> NgffImage:
    return written(str(tmp_path / "movie.zarr"), blurred_noise((2, 90, 100)))


def failing(error: Exception, times: int) -> tuple[Callable[[Any, Any], Any], Counter[Any]]:
    """Work that fails so many times for each task, and its count of attempts."""
    tried: Counter[Any] = Counter()

    def work(shared: Any, task: Any) -> Any:
        tried[task] += 1
        if tried[task] <= times:
            raise error
        return task

    return work, tried


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), MemoryError(), OSError(5, "I/O"), StoreError("gone")])
def test_what_may_pass_is_tried_again(error: Exception) -> None:
    work, tried = failing(error, 2)
    assert list(QUICK(work, None, [1, 2])) == [(1, 1), (2, 2)]
    assert tried == {1: 3, 2: 3}


@pytest.mark.parametrize(
    "error", [ValueError("odd"), KeyError("x"), TypeError("t"), InputError("i"), RunError("r"), AssertionError("a")]
)
def test_what_will_not_pass_is_a_result_at_once(error: Exception) -> None:
    work, tried = failing(error, 1)
    ((task, result), other) = QUICK(lambda shared, task: work(shared, task) if task == 1 else task, None, [1, 2])
    assert (task, result, other) == (1, error, (2, 2))
    assert tried == {1: 1}


def test_a_task_is_stored_while_the_next_is_computed() -> None:
    """The first task is stored only after the second has begun; results come in the order of the tasks."""
    second = threading.Event()

    def work(shared: Any, task: int) -> Any:
        if task == 2:
            second.set()

        def store() -> int:
            assert second.wait(20)
            return -task

        return Computed(store=store)

    assert list(QUICK(work, None, [1, 2, 3])) == [(1, -1), (2, -2), (3, -3)]


def test_a_task_that_is_not_stored_is_computed_again() -> None:
    computed: Counter[int] = Counter()

    def work(shared: Any, task: int) -> Any:
        computed[task] += 1

        def store() -> int:
            if task == 2 and computed[2] < 3:
                raise OSError(28, "No space left on device")
            return computed[task]

        return Computed(store=store)

    assert list(QUICK(work, None, [1, 2, 3])) == [(1, 1), (2, 3), (3, 1)]
    computed.clear()
    (_, (_, error), _) = one_by_one(work, None, [1, 2, 3])
    assert isinstance(error, OSError)


def test_damaged_bytes_are_read_again() -> None:
    """They may have been flipped on the way."""
    work, tried = failing(DamagedError("its checksum does not fit"), 1)
    assert list(QUICK(work, None, [1])) == [(1, 1)]
    assert tried == {1: 2}


def test_a_library_out_of_memory_does_not_end_the_run(image: NgffImage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, and the labels are the same; always, and the work items are named."""
    settings: dict[str, Any] = {"window_size": 64, "tile_size": 50, "task_px": 5000}
    segmented(image, "alone", **settings)
    put: Any = vars(steps)["put"]
    failed: list[str] = []

    def short_of_memory(folder: Folder, name: str, values: Any, **options: Any) -> None:
        if name.startswith(decode.FRAGMENTS) and "1/2" in values and (always or not failed):
            failed.append(name)
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        put(folder, name, values, **options)

    monkeypatch.setattr(steps, "put", short_of_memory)
    always = False
    assert segmented(image, "once", executor=QUICK, **settings).retried == {}
    assert len(failed) == 1
    assert equal(arrays(image, "once"), arrays(image, "alone"))
    always = True
    with pytest.raises(RunError, match=r"frame 1, slice 0, tile 2 .*RuntimeError: DefaultCPUAllocator"):
        segmented(image, "always", executor=QUICK, **settings)
    assert list_labels(image.url) == ("alone", "once")


def test_a_message_names_the_first_work_items_and_where_all_of_them_are(
    image: NgffImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put: Any = vars(steps)["put"]

    def full(folder: Folder, name: str, values: Any) -> None:
        if name.startswith(decode.FRAGMENTS):
            raise OSError(28, "No space left on device")
        put(folder, name, values)

    monkeypatch.setattr(steps, "put", full)
    settings: dict[str, Any] = {"window_size": 64, "tile_size": 8, "task_px": 5000}
    told = Folder(url=str(tmp_path / "told"))
    with pytest.raises(RunError) as caught:
        run_it(image, report=told, executor=one_by_one, **settings)
    message = str(caught.value)
    assert "312 work item(s)" in message
    assert "frame 0, slice 0, tile 9 " in message
    assert "tile 10 " not in message
    assert f"and 302 more; {told.url}/report.json lists all of them" in message
    assert len(message) < 3000
    assert len(told.read_json("report.json")["failed_tiles"]) == 312
    with pytest.raises(RunError, match="and 302 more; --report FOLDER lists all of them"):
        run_it(image, overwrite=True, executor=one_by_one, **settings)


def test_a_report_that_cannot_be_written_is_refused_before_anything_is_done(image: NgffImage, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    before = sorted(Path(image.url).rglob("*"))
    with pytest.raises(StoreError, match=r"Cannot write .*/file/told"):
        run_it(image, report=Folder(url=str(tmp_path / "file" / "told")))
    assert sorted(Path(image.url).rglob("*")) == before
    assert (tmp_path / "file").read_text() == "mine"
    assert np.array_equal([], list_labels(image.url))

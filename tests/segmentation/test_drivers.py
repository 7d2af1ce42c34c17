"""Two drivers of one layer, the second begun at any step of the first: one whole layer, and both say what happened."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from cellscale.errors import ExistsError, InputError, OvertakenError
from cellscale.models.model import Model
from cellscale.ngff.image import NgffImage
from cellscale.ngff.labels import list_labels
from cellscale.segmentation.executor import one_by_one
from cellscale.segmentation.ownership import RECORD_FORMAT, stored_plan, take_ownership
from cellscale.segmentation.plan import Settings, plan
from cellscale.segmentation.records import get
from cellscale.segmentation.run import segment
from cellscale.segmentation.target import Target
from cellscale.segmentation.work_items import RecordName, Task
from cellscale.storage.folder import Folder
from tests.blobs import blobs_model, blurred_noise
from tests.support.runs import SHAPE, arrays, equal, scratch_of, segmented, table, written

TILED: dict[str, Any] = {"tile_size": 64, "window_size": 64, "task_px": 1000}


@pytest.fixture
def image(tmp_path: Path) -> NgffImage:
    return written(str(tmp_path / "movie.zarr"), blurred_noise(SHAPE))


def interrupted(step: str, by: Callable[[], Any]) -> Callable[..., Iterator[tuple[Task, Any]]]:
    """Do all tasks in this process; in the midst of the second task of a step, do something else."""
    begun: list[RecordName] = []

    def executor(
        work: Callable[[Any, Task], Any], shared: Any, tasks: Sequence[Task], *, gpu: bool = False
    ) -> Iterator[tuple[Task, Any]]:
        def met(shared: Any, task: Task) -> Any:
            if task.record.step.startswith(step):
                begun.append(task.record)
                if len(begun) == 2:
                    by()
            return work(shared, task)

        return one_by_one(met, shared, tasks, gpu=gpu)

    return executor


@pytest.mark.parametrize("step", ["intensity", "decode", "publish-0", "tables"])
def test_a_driver_that_is_overtaken_stops_and_harms_nothing(image: NgffImage, step: str) -> None:
    segmented(image, "alone", **TILED)
    executor = interrupted(step, lambda: segmented(image, "cells", **TILED))
    with pytest.raises(OvertakenError, match="Another driver has taken over the run"):
        segmented(image, "cells", executor=executor, **TILED)
    assert equal(arrays(image, "cells"), arrays(image, "alone"))
    assert table(image, "cells").equals(table(image, "alone"))
    assert not Path(f"{image.url}/.cellscale-cells").exists()


@pytest.mark.parametrize("step", ["predict", "decode", "join", "publish-0"])
def test_a_driver_of_other_settings_takes_nothing_of_the_one_that_it_overtakes(image: NgffImage, step: str) -> None:
    """The overtaken task goes on in the midst of the other's run, and leaves neither a record nor a folder."""
    other = blobs_model(minimum_area=60, radius=2)
    segmented(image, "alone", model=other, **TILED)
    executor = interrupted(step, lambda: segmented(image, "cells", model=other, overwrite=True, **TILED))
    with pytest.raises(OvertakenError, match="Another driver has taken over the run"):
        segmented(image, "cells", executor=executor, **TILED)
    assert equal(arrays(image, "cells"), arrays(image, "alone"))
    assert table(image, "cells").equals(table(image, "alone"))
    assert not Path(f"{image.url}/.cellscale-cells").exists()


def test_a_late_task_writes_into_a_folder_that_no_one_reads(image: NgffImage) -> None:
    """The other run dies at once, so that what the overtaken task writes after it would be found by the next."""

    other: dict[str, Any] = {**TILED, "tile_size": 50}

    def die() -> None:
        raise KeyboardInterrupt

    def begin_anew() -> None:
        with pytest.raises(KeyboardInterrupt):
            segmented(image, "cells", overwrite=True, executor=interrupted("predict", die), **other)

    with pytest.raises(OvertakenError):
        segmented(image, "cells", executor=interrupted("predict", begin_anew), **TILED)
    assert len(scratch_of(image, "cells").names("predict")) == 1
    segmented(image, "alone", **other)
    segmented(image, "cells", **other)
    assert equal(arrays(image, "cells"), arrays(image, "alone"))


def killed(step: str) -> Callable[..., Iterator[tuple[Task, Any]]]:
    """Die as a killed driver does, after the first record of a step."""

    def executor(
        work: Callable[[Any, Task], Any], shared: Any, tasks: Sequence[Task], *, gpu: bool = False
    ) -> Iterator[tuple[Task, Any]]:
        for done in one_by_one(work, shared, tasks, gpu=gpu):
            if done[0].record.step.startswith(step):
                raise KeyboardInterrupt
            yield done

    return executor


def as_named(image: NgffImage, url: str, **options: Any) -> None:
    """Segment with a model that is named by a URL."""
    model: Model = blobs_model()
    scratch = Folder(url=f"{image.url}/.cellscale-cells")
    run = plan(image, model, Settings(precision="fp32", **TILED), scratch)
    segment(run, model.networks, Target(store=image.url, name="cells"), model={"url": url}, **options)


@pytest.mark.parametrize("step", ["publish-0", "tables"])
def test_a_resumed_run_keeps_what_is_published_whatever_the_model_is_called(tmp_path: Path, step: str) -> None:
    image = written(str(tmp_path / "movie.zarr"), blurred_noise((1, 600, 600)))
    segmented(image, "alone", **TILED)
    with pytest.raises(KeyboardInterrupt):
        as_named(image, "model", executor=killed(step))
    as_named(image, "./model")
    assert equal(arrays(image, "cells"), arrays(image, "alone"))
    assert table(image, "cells").equals(table(image, "alone"))


def test_an_unfinished_overwrite_does_not_make_the_old_layer_its_own(image: NgffImage) -> None:
    segmented(image, "cells", **TILED)
    before = arrays(image, "cells")
    model = blobs_model(minimum_area=60)
    with pytest.raises(KeyboardInterrupt):
        segmented(image, "cells", model=model, overwrite=True, executor=killed("decode"), **TILED)
    with pytest.raises(ExistsError, match="--overwrite"):
        segmented(image, "cells", model=model, **TILED)
    assert list_labels(image.url) == ("cells",)
    assert equal(arrays(image, "cells"), before)


def test_a_run_that_died_while_it_cleaned_up_is_known_to_be_finished(
    image: NgffImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of its folder is gone; the same command deletes the rest, computes nothing and reports the same cells."""
    removal = Folder.removal

    def dies(self: Folder, *inner: str) -> Callable[[], None]:
        if ".cellscale" in self.url:
            for step in ("maps", "fragments", "decode"):
                removal(self.child(step))()
            raise KeyboardInterrupt
        return removal(self, *inner)

    monkeypatch.setattr(Folder, "removal", dies)
    with pytest.raises(KeyboardInterrupt):
        segmented(image, "cells", **TILED)
    monkeypatch.undo()
    before = arrays(image, "cells")

    def no_work(work: Any, shared: Any, tasks: Sequence[Task], *, gpu: bool = False) -> Iterator[tuple[Task, Any]]:
        raise AssertionError("nothing is left to do")

    report = segmented(image, "cells", executor=no_work, **TILED)
    assert report.cells == sum(int(frame.max()) for frame in before[0])
    assert equal(arrays(image, "cells"), before)
    assert not Path(f"{image.url}/.cellscale-cells").exists()


def test_only_folders_of_attempts_are_deleted(image: NgffImage) -> None:
    note = Path(f"{image.url}/.cellscale-cells/notes.txt")
    note.parent.mkdir()
    note.write_text("by hand")
    segmented(image, "cells", **TILED)
    assert note.read_text() == "by hand"
    assert {path.name for path in note.parent.iterdir()} == {"notes.txt"}


def test_of_two_drivers_that_sign_at_once_the_later_one_stays(image: NgffImage) -> None:
    model, scratch = blobs_model(), Folder(url=f"{image.url}/.cellscale-cells")
    run = plan(image, model, Settings(precision="fp32", **TILED), scratch)
    first, second = (take_ownership(run, allow_failed_tiles=False, attempt=None, attempts=()) for _ in range(2))
    second.check()
    with pytest.raises(OvertakenError, match="another run of this layer, with the same or other settings"):
        first.check()
    assert first.attempt != second.attempt
    third = take_ownership(run, allow_failed_tiles=False, attempt=second.attempt, attempts=())
    with pytest.raises(OvertakenError, match="its labels are the same"):
        second.check()
    second.finish()
    third.check()
    first.leave()
    third.check()
    third.finish()
    assert stored_plan(scratch) is None


def test_the_plan_of_an_attempt_outside_of_its_folder_is_refused(image: NgffImage) -> None:
    with pytest.raises(KeyboardInterrupt):
        segmented(image, "cells", executor=killed("intensity"), **TILED)
    home = Folder(url=f"{image.url}/.cellscale-cells")
    home.write_json("plan.json", {**home.read_json("plan.json"), "attempt": "../labels"})
    with pytest.raises(OSError, match=r"plan\.json is damaged"):
        segmented(image, "cells", **TILED)


def test_a_run_with_other_settings_is_refused_while_one_is_unfinished(image: NgffImage) -> None:
    with pytest.raises(KeyboardInterrupt):
        segmented(image, "cells", executor=killed("intensity"), **TILED)
    with pytest.raises(InputError, match="model"):
        segmented(image, "cells", model=blobs_model(minimum_area=60), **TILED)


@pytest.mark.parametrize("format", [None, 0, "2", [], 10**300])
def test_the_run_of_another_build_is_refused_with_what_to_do(image: NgffImage, format: Any) -> None:
    """Its records may have another meaning; the plan says their format since there is one."""
    with pytest.raises(KeyboardInterrupt):
        segmented(image, "cells", executor=killed("decode"), **TILED)
    home = Folder(url=f"{image.url}/.cellscale-cells")
    other = {key: value for key, value in home.read_json("plan.json").items() if key != "record_format"}
    home.write_json("plan.json", other if format is None else {**other, "record_format": format})
    before = home.files()
    told = rf"another build of cellscale, .*expected {RECORD_FORMAT}\. Finish it .*--overwrite"
    with pytest.raises(InputError, match=told):
        segmented(image, "cells", **TILED)
    assert home.files() == before
    segmented(image, "alone", **TILED)
    report = segmented(image, "cells", overwrite=True, **TILED)
    assert not any(report.reused.values())
    assert equal(arrays(image, "cells"), arrays(image, "alone"))
    assert not Path(f"{image.url}/.cellscale-cells").exists()


COUNTED = "area first sum_x sum_y x# y# intensity_#:#"
LAYOUT = {
    "intensity": "checksums chunk high low missing start width work_items",
    "predict": "work_items",
    "decode": f"bands edges.[a b length saddle] nodes.[{COUNTED}] tiles work_items",
    "row_groups": f"#/#.[below objects offsets] #/#.edges.[a b length saddle] #/#.nodes.[{COUNTED}] work_items",
    "cells": "#/#",
    "join": "#.[counts cut objects places unconverged] work_items",
    "publish-0": "seams.[counts groups] work_items written.[labelled_px last_label objects]",
    "tables": "work_items written.[labelled_px last_label objects]",
}
"""Columns of the records of each step."""


def test_the_layout_of_records_belongs_to_their_format(image: NgffImage) -> None:
    """Where this fails, count RECORD_FORMAT up: a build must not go on with records that it does not understand."""
    with pytest.raises(KeyboardInterrupt):
        segmented(image, "cells", executor=killed("tables"), **TILED)
    scratch, found = scratch_of(image, "cells"), {}
    for step in LAYOUT:
        records = [get(scratch, f"{step}/{name}") for name in scratch.files(step)]
        found[step] = {re.sub(r"\d+", "#", key) for record in records for key in record}
    expected = {step: set[str]() for step in LAYOUT}
    for step, text in LAYOUT.items():
        for prefix, columns, single in re.findall(r"(\S+)\[([^]]*)\]|(\S+)", text):
            expected[step] |= {f"{prefix}{name}" for name in columns.split()} if columns else {single}
    assert (RECORD_FORMAT, found) == (3, expected)


@pytest.mark.parametrize("size", ["many", -1, 0, 1.5, True, [], 10**30])
def test_a_plan_with_a_size_of_tasks_that_is_none_is_refused(image: NgffImage, size: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        segmented(image, "cells", executor=killed("decode"), **TILED)
    home = Folder(url=f"{image.url}/.cellscale-cells")
    found = home.read_json("plan.json")
    found["description"]["settings"]["task_px"] = size
    home.write_json("plan.json", found)
    with pytest.raises(InputError, match=r"Setting 'task_px' is .*expected a whole number above 0"):
        segmented(image, "cells", **TILED)

"""Tracking runs: equal tracks for any window, any workers and any resume; nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import cellscale
from cellscale.errors import ChangedError, ExistsError, InputError, MissingError, RunError
from cellscale.linking.links import LinkRules
from cellscale.ngff.image import NgffImage, open_image
from cellscale.ngff.labels import list_labels, open_labels, publish_labels, stage_labels
from cellscale.segmentation.executor import Executor, attempted, one_by_one
from cellscale.segmentation.target import Target
from cellscale.segmentation.work_items import Task
from cellscale.storage.folder import Folder
from cellscale.tracking.lineage import tracks_of
from cellscale.tracking.plan import plan_tracks
from cellscale.tracking.run import track
from cellscale.types import Box, Labels
from cellscale.viewers.lineage import lineage_picture
from tests.linking.sequences import discs, renumbered, walkers
from tests.support.runs import written

SHAPE = (120, 150)


def cells(frames: int = 9) -> list[Labels]:
    """Cells that walk; one divides in frame 4, one is missing in frames 3 and 4."""
    made = walkers(1, frames=frames, cells=9, shape=SHAPE)
    for t, labels in enumerate(made):
        if t in (3, 4):
            labels[labels == 2] = 0
        if t >= 4:
            rows, columns = np.nonzero(labels == 5)
            half = columns >= columns.mean()
            labels[rows[half], columns[half]] = 105
            middle = np.abs(columns - columns.mean()) < 1
            labels[rows[middle], columns[middle]] = 0
    return made


def stored(folder: Path, frames: Sequence[Labels], layer: str = "cells") -> NgffImage:
    """An image with a layer of these labels."""
    image = written(f"{folder}/i.zarr", np.stack(frames).astype(np.uint16))
    staged = stage_labels(image, layer, planes_z=1)
    for t, labels in enumerate(frames):
        for box in staged.shards():
            staged.write(labels[box.slices], box, t=t)
    publish_labels(staged)
    return image


def tracked(
    image: NgffImage, name: str = "tracks", *, window: int = 64, executor: Executor = one_by_one, **target: Any
) -> list[Labels]:
    run = plan_tracks(image, open_labels(image.url, "cells"), LinkRules(), home(image, name), window)
    track(run, Target(store=image.url, name=name, **target), executor=executor)
    return pixels(image, name)


def home(image: NgffImage, name: str) -> Folder:
    return Folder(url=f"{image.url}/.cellscale-{name}")


def pixels(image: NgffImage, name: str) -> list[Labels]:
    layer = open_labels(image.url, name)
    return [layer.read(Box.of(SHAPE), t=t) for t in range(layer.size("t"))]


def rows(image: NgffImage, name: str) -> pd.DataFrame:
    return pd.read_parquet(open_labels(image.url, name).place("objects.parquet"))


def test_a_cell_has_one_number_and_daughters_have_new_ones(tmp_path: Path) -> None:
    truth = cells()
    image = stored(tmp_path, renumbered(truth, 3))
    found = tracked(image)
    names = {
        label: {int(n) for true, made in zip(truth, found, strict=True) for n in np.unique(made[true == label])}
        for label in (1, 2, 3, 4, 6, 7, 8, 9, 105)
    }
    assert {len(numbers) for numbers in names.values()} == {1}
    assert all(np.array_equal(true > 0, made > 0) for true, made in zip(truth, found, strict=True))
    before, after = ({int(n) for n in np.unique(found[t][truth[t] == 5])} for t in (3, 4))
    assert not before & after
    table = rows(image, "tracks")
    daughters = table[table.parent > 0]
    assert set(daughters.track) == after | names[105]
    assert set(daughters.parent) == before
    assert set(daughters.generation) == {1}
    assert (table.label == table.track).all()
    assert len(table.drop_duplicates(["frame", "track"])) == len(table)


def test_rows_of_the_table_are_measured(tmp_path: Path) -> None:
    image = stored(tmp_path, discs([[(3, 20, 30, 4)], [(8, 23, 34, 4)], [], [(1, 25, 40, 4)]], SHAPE))
    tracked(image)
    table = rows(image, "tracks")
    assert table.frame.tolist() == [0, 1, 3]
    assert set(table.track) == {1}
    assert table.centroid_y_px.tolist() == [20, 23, 25]
    assert table.velocity_y_px.tolist()[1:] == [3, 1]
    assert table.velocity_x_px.tolist()[1:] == [4, 3]
    assert np.isnan(table.velocity_y_px[0])
    size = open_image(image.url).pixel_size_um()
    assert size is not None
    assert table.speed_um.tolist()[1] == pytest.approx(np.hypot(3 * size[0], 4 * size[1]))
    assert table.direction_rad.tolist()[1] == pytest.approx(np.arctan2(3, 4))
    assert table.area_px.tolist() == [49, 49, 49]


@pytest.mark.parametrize("window", [1, 3, 4])
def test_windows_change_nothing(tmp_path: Path, window: int) -> None:
    image = stored(tmp_path, cells())
    one, other = tracked(image, "one"), tracked(image, "other", window=window)
    assert all(map(np.array_equal, one, other))
    pd.testing.assert_frame_equal(rows(image, "one"), rows(image, "other"))


def test_numbers_of_the_labels_change_nothing(tmp_path: Path) -> None:
    images = [stored(tmp_path / str(i), frames) for i, frames in enumerate((cells(), renumbered(cells(), 5)))]
    one, other = (tracked(image) for image in images)
    assert all(map(np.array_equal, one, other))


def test_shards_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = stored(tmp_path, cells())
    one = tracked(image, "one")
    for constant in ("array_io.SHARD_PX", "array_io.CHUNK_PX", "pyramids.SHARD_PX"):
        monkeypatch.setattr(f"cellscale.ngff.{constant}", 64)
    assert len(open_labels(image.url, "cells").shards()) == 6
    assert all(map(np.array_equal, one, tracked(image, "two", window=4)))
    pd.testing.assert_frame_equal(rows(image, "one"), rows(image, "two"))


class StoppedError(Exception):
    """A driver that dies."""


def stopping(after: int) -> Executor:
    """An executor whose driver dies after this many tasks."""
    left = [after]

    def execute(work: Any, shared: Any, tasks: Sequence[Task], *, gpu: bool = False) -> Iterator[tuple[Task, Any]]:
        for task in tasks:
            if left[0] == 0:
                raise StoppedError
            left[0] -= 1
            yield task, attempted(work, shared, task, 1, 0.0)

    return execute


@pytest.mark.parametrize("after", [0, 2, 5, 8, 11, 13, 14])
def test_the_same_command_resumes_a_run_that_was_killed(tmp_path: Path, after: int) -> None:
    image = stored(tmp_path, cells())
    expected = tracked(image, "one", window=4)
    with pytest.raises(StoppedError):
        tracked(image, window=4, executor=stopping(after))
    assert list_labels(image.url) == ("cells", "one")
    assert all(map(np.array_equal, expected, tracked(image, window=4)))
    pd.testing.assert_frame_equal(rows(image, "one"), rows(image, "tracks"))
    assert not (tmp_path / "i.zarr" / ".cellscale-tracks").exists()


def test_old_tracks_stay_until_the_new_are_complete(tmp_path: Path) -> None:
    image = stored(tmp_path, cells())
    old = tracked(image)
    with pytest.raises(ExistsError, match="already has a label layer 'tracks'"):
        tracked(image)
    with pytest.raises(StoppedError):
        tracked(image, executor=stopping(6), overwrite=True)
    assert all(map(np.array_equal, old, pixels(image, "tracks")))
    assert all(map(np.array_equal, old, tracked(image, overwrite=True)))


def test_another_plan_does_not_resume(tmp_path: Path) -> None:
    image = stored(tmp_path, cells())
    with pytest.raises(StoppedError):
        tracked(image, window=4, executor=stopping(3))
    with pytest.raises(InputError, match="window: 4 → 5"):
        tracked(image, window=5)


def test_a_chunk_that_cannot_be_read_is_named_and_nothing_is_published(tmp_path: Path) -> None:
    image = stored(tmp_path, cells())
    (tmp_path / "i.zarr/labels/cells/0/c/3/0/0").write_bytes(b"damaged")
    with pytest.raises(RunError, match=r"frame 2, slice 0, shard 0 \(rows 0:120, columns 0:150\): StoreError"):
        tracked(image)
    assert list_labels(image.url) == ("cells",)


def test_a_layer_with_failed_regions_is_tracked_only_if_asked_for(tmp_path: Path) -> None:
    frames = cells(4)
    image = written(f"{tmp_path}/i.zarr", np.stack(frames).astype(np.uint16))
    failed = [
        {"frame": 2, "slice": 0, "box_px": [0, 0, 60, 75], "box_um": None},
        {"frame": 3, "slice": 0, "box_px": None, "box_um": None},
    ]
    staged = stage_labels(image, "cells", planes_z=1, metadata={"failed_regions": failed})
    for t, labels in enumerate(frames):
        for box in staged.shards():
            staged.write(labels[box.slices], box, t=t)
    publish_labels(staged)
    where = r"2 region\(s\) that were not segmented: frame 2, slice 0 \(rows 0:60, columns 0:75\); frame 3, slice 0\. "
    with pytest.raises(InputError, match=where):
        cellscale.track(image.url, backend="serial")
    assert list_labels(image.url) == ("cells",)
    result = cellscale.track(image.url, backend="serial", allow_failed_tiles=True)
    assert result.failed_regions == 2
    assert open_labels(image.url, "cells-tracks").metadata["failed_regions"] == failed


def test_the_report_has_the_lineages(tmp_path: Path) -> None:
    image = stored(tmp_path, cells())
    tracked(image)
    layer = open_labels(image.url, "tracks")
    report = Path(layer.place("report"))
    assert (report / "lineage.png").read_bytes() == lineage_picture(tracks_of(layer))
    page = (report / "report.html").read_text()
    assert "<img src=lineage.png" in page
    assert "<td>divisions<td><code>1</code>" in page


def test_options_are_known_by_name(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"'max_gaps'.*'max_gap'"):
        cellscale.track(tmp_path, max_gaps=1)  # type: ignore[call-arg]


def test_workers_of_ray_change_nothing(tmp_path: Path, cluster: None) -> None:
    image = stored(tmp_path, cells())
    one = tracked(image, "one")
    result = cellscale.track(image.url, layer="cells", new_layer="two", window=2)
    assert all(map(np.array_equal, one, pixels(image, "two")))
    assert (result.divisions, result.gaps, result.frames) == (1, 1, 9)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    image = stored(tmp_path, cells(2))
    with pytest.raises(InputError, match="have the name of the layer"):
        cellscale.track(image.url, new_layer="cells", backend="serial")
    with pytest.raises(InputError, match=r"A window of 0 frames is not valid; expected 1 to 100000\."):
        cellscale.track(image.url, window=0, backend="serial")
    with pytest.raises(MissingError, match="nothing"):
        cellscale.track(image.url, layer="nothing", backend="serial")
    still = stored(tmp_path / "still", cells(1))
    with pytest.raises(InputError, match="has one frame; tracks need at least two"):
        cellscale.track(still.url, backend="serial")


def test_a_gap_is_no_longer_than_the_movie(tmp_path: Path) -> None:
    image = stored(tmp_path, cells(4))
    for name, gap in (("long", 2), ("longer", 10**9)):
        cellscale.track(image.url, new_layer=name, max_gap=gap, backend="serial")
    assert all(map(np.array_equal, pixels(image, "long"), pixels(image, "longer")))


def test_frames_without_objects(tmp_path: Path) -> None:
    image = stored(tmp_path, [np.zeros(SHAPE, np.uint32)] * 3)
    assert not np.any(tracked(image))
    assert len(rows(image, "tracks")) == 0


@pytest.mark.parametrize("replaced", ["i.zarr", "labels/cells"])
def test_no_tracks_of_a_layer_or_image_that_was_replaced_are_published(tmp_path: Path, replaced: str) -> None:
    """All its labels have been read before: only a document tells that others are there."""
    image = stored(tmp_path, cells())

    def replaces(work: Any, shared: Any, tasks: Sequence[Task], *, gpu: bool = False) -> Iterator[tuple[Task, Any]]:
        yield from one_by_one(work, shared, tasks, gpu=gpu)
        if tasks[0].record.step == "tables":
            if replaced == "i.zarr":
                cellscale.synthesize(image.url, shape=(9, *SHAPE), cells=4, overwrite=True)
            else:
                publish_labels(stage_labels(image, "cells", planes_z=1, overwrite=True), overwrite=True)

    with pytest.raises(ChangedError, match=f"{replaced} was replaced or removed since the run began"):
        tracked(image, "tracks", executor=replaces)
    assert "tracks" not in list_labels(image.url)


@pytest.mark.parametrize("step", ["objects", "numbers"])
@pytest.mark.parametrize("frame", [0, 3])
def test_a_layer_that_changes_while_it_is_tracked_is_named(tmp_path: Path, step: str, frame: int) -> None:
    """Another program swaps two numbers: areas and counts stay as they are, the tracks would be those of others.

    Frame 3 is read with frame 2 by the first task, and for itself by the second.
    """
    image = stored(tmp_path, cells())
    layer = open_labels(image.url, "cells")

    def swaps(work: Any, shared: Any, tasks: Sequence[Task], *, gpu: bool = False) -> Iterator[tuple[Task, Any]]:
        for number, done in enumerate(one_by_one(work, shared, tasks, gpu=gpu)):
            yield done
            if (number, done[0].record.step) == (0, step):
                labels = layer.read(Box.of(SHAPE), t=frame)
                swapped = np.where(np.isin(labels, (1, 3)), np.uint32(4) - labels, labels)
                layer.write(swapped, Box.of(SHAPE), t=frame)

    with pytest.raises(ChangedError, match=rf"Frame {frame} of .*cells has other labels now.*--overwrite"):
        tracked(image, "tracks", window=3, executor=swaps)
    assert list_labels(image.url) == ("cells",)
    with pytest.raises(ChangedError, match="has other labels now"):
        tracked(image, "tracks", window=3)
    after = tracked(image, "tracks", window=3, overwrite=True)
    assert all(np.array_equal(*planes) for planes in zip(after, tracked(image, "again"), strict=True))

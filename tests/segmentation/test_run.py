"""A run as its user sees it: the same bytes for any tiling, worker and crash, and nothing lost on the way."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import ndimage
from skimage.measure import regionprops_table

from cellscale.engine.ray_map import RayExecutor
from cellscale.errors import ExistsError, InputError, MissingError, RunError
from cellscale.ngff.image import NgffImage
from cellscale.ngff.labels import list_labels
from cellscale.segmentation import join, ownership
from cellscale.segmentation.executor import attempted, one_by_one
from cellscale.storage.folder import Folder
from tests.blobs import blobs_model, blurred_noise
from tests.support.runs import SHAPE, arrays, equal, scratch_of, segmented, table, written


@pytest.fixture
def image(tmp_path: Path) -> NgffImage:
    return written(str(tmp_path / "movie.zarr"), blurred_noise(SHAPE))


def expected(pixels: np.ndarray) -> np.ndarray:
    """The blobs method on a frame, by scipy: blur, thresholds, components, nearest within 3 px, ranks."""
    low, high = float(pixels.min()), float(pixels.max())
    seen = ndimage.uniform_filter((pixels.astype(np.float64) - low) / (high - low), 5, mode="constant")
    cells, touching = (np.rint(255 * np.clip(v, 0, 1)) > np.floor(255 * 0.4) for v in (seen, 2 * seen))
    components, _ = ndimage.label(cells)
    distance, (rows, columns) = ndimage.distance_transform_edt(components == 0, return_indices=True)
    near = (distance <= 3) & (touching | cells)
    return np.where(near, components[rows, columns], 0)


def test_the_labels_are_the_methods_on_the_whole_frame(image: NgffImage) -> None:
    """Areas of cells agree with scipy's; ties and last bits of the blur may move single pixels."""
    segmented(image, "cells", tile_size=64)
    found = arrays(image, "cells")[0][0, 0]
    reference = expected(blurred_noise(SHAPE)[0])
    assert ((found > 0) == (reference > 0)).mean() > 0.995
    assert found.max() > 10


@pytest.mark.parametrize(
    "settings", [{"tile_size": 16}, {"tile_size": 37}, {"tile_size": 211}, {"tile_size": 64, "task_px": 1000}]
)
def test_tiles_and_bundles_do_not_change_a_byte(image: NgffImage, settings: dict[str, Any]) -> None:
    for window in (2048, 64):
        segmented(image, f"one-{window}", tile_size=1024, window_size=window)
        segmented(image, f"other-{window}", window_size=window, **settings)
        assert equal(arrays(image, f"one-{window}"), arrays(image, f"other-{window}"))
        assert table(image, f"one-{window}").equals(table(image, f"other-{window}"))


def test_decisions_in_one_object_or_in_many_give_the_same_bytes(
    image: NgffImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {"window_size": 64, "tile_size": 16, "task_px": 1000}
    one = segmented(image, "one", **settings)
    monkeypatch.setattr(join, "BUNDLE_BYTES", 1)
    many = segmented(image, "many", **settings)
    assert one.io["join"]["PUT"] == 2 * one.tasks["join"] < many.io["join"]["PUT"]
    assert equal(arrays(image, "one"), arrays(image, "many"))
    assert table(image, "one").equals(table(image, "many"))


def test_windows_of_any_core_give_the_same_labels(image: NgffImage) -> None:
    segmented(image, "small", window_size=32, tile_size=50)
    variants: dict[str, dict[str, Any]] = {
        "large": {"window_size": 128, "tile_size": 50},
        "one": {"window_size": 2048, "tile_size": 211},
    }
    for name, settings in variants.items():
        segmented(image, name, **settings)
        assert equal(arrays(image, "small"), arrays(image, name))
        assert table(image, "small").equals(table(image, name))


def test_flips_change_the_labels_and_tiles_still_do_not(image: NgffImage) -> None:
    model = blobs_model()
    (weight,) = model.networks["blur"].parameters()
    weight.data *= torch.linspace(0, 2, 5)
    segmented(image, "plain", model=model, window_size=64)
    variants: dict[str, dict[str, Any]] = {
        "one": {"tile_size": 37},
        "two": {"tile_size": 211},
        "three": {"tile_size": 50, "task_px": 1000},
    }
    for name, settings in variants.items():
        segmented(image, name, model=model, window_size=64, test_time_flips=True, **settings)
        assert equal(arrays(image, "one"), arrays(image, name))
    assert not equal(arrays(image, "plain"), arrays(image, "one"))
    # Unless it is told otherwise, a run predicts what the model's thresholds were fitted on.
    segmented(image, "auto", model=model.with_flips(True), window_size=64)
    segmented(image, "not", model=model.with_flips(True), window_size=64, test_time_flips=False)
    assert equal(arrays(image, "auto"), arrays(image, "one"))
    assert equal(arrays(image, "not"), arrays(image, "plain"))


def test_ray_gives_the_same_bytes(image: NgffImage, cluster: None) -> None:
    segmented(image, "serial", window_size=64, tile_size=50)
    report = segmented(image, "ray", window_size=64, tile_size=50, task_px=5000, executor=RayExecutor())
    assert report.tasks["decode"] > 1
    assert equal(arrays(image, "serial"), arrays(image, "ray"))


def test_s3_gives_the_same_bytes(image: NgffImage, s3: dict[str, Any], cluster: None) -> None:
    remote = written("s3://cells/movie.zarr", blurred_noise(SHAPE), options=s3)
    segmented(image, "cells", window_size=64, tile_size=50)
    segmented(remote, "cells", window_size=64, tile_size=50, executor=RayExecutor())
    assert equal(arrays(image, "cells"), arrays(remote, "cells"))
    assert list_labels(remote.url, storage_options=s3) == ("cells",)


def test_the_pyramid_keeps_labels(tmp_path: Path) -> None:
    image = written(str(tmp_path / "large.zarr"), blurred_noise((1, 700, 1100)))
    segmented(image, "cells", tile_size=300)
    levels = arrays(image, "cells")
    assert len(levels) == len(image.levels) > 1
    assert np.array_equal(levels[1], levels[0][..., ::2, ::2])


def test_the_object_table_is_regionprops_whatever_the_tile(image: NgffImage) -> None:
    segmented(image, "cells", tile_size=23)
    rows = table(image, "cells")
    pixels, labels = blurred_noise(SHAPE), arrays(image, "cells")[0][:, 0]
    for t in range(SHAPE[0]):
        names = ("label", "area", "centroid", "bbox", "mean_intensity")
        props = pd.DataFrame(regionprops_table(labels[t], pixels[t], properties=names))
        mine = rows[rows.frame == t].reset_index(drop=True)
        assert mine.label.tolist() == props.label.tolist()
        assert np.allclose(mine.area_px, props.area)
        assert np.allclose(mine.area_um2, props.area * 0.125)
        assert np.allclose(mine[["centroid_y_px", "centroid_x_px"]], props[["centroid-0", "centroid-1"]])
        assert np.allclose(mine[["bbox_y0_px", "bbox_x0_px", "bbox_y1_px", "bbox_x1_px"]], props.filter(like="bbox"))
        assert np.allclose(mine["intensity_mean-0"], props.mean_intensity)


def test_slices_projection_and_channels(tmp_path: Path) -> None:
    pixels = blurred_noise((2, 2, 3, 90, 80))
    image = written(str(tmp_path / "volume.zarr"), pixels, axes="tczyx")
    segmented(image, "each", channels=(1,), tile_size=40)
    segmented(image, "max", channels=(1,), z_mode="max_projection", tile_size=40)
    single = written(str(tmp_path / "single.zarr"), pixels[:, 1, 2])
    projected = written(str(tmp_path / "projected.zarr"), pixels[:, 1].max(axis=1))
    segmented(single, "cells")
    segmented(projected, "cells")
    slices, alone = arrays(image, "each")[0], arrays(single, "cells")[0][:, 0]
    for t in range(2):
        above = int(slices[t, 1].max())
        assert np.array_equal(slices[t, 2], np.where(alone[t] > 0, alone[t] + above, 0))
        assert np.unique(slices[t])[1:].tolist() == list(range(1, int(slices[t, 2].max()) + 1))
    rows = table(image, "each")
    assert not rows.duplicated(["frame", "label"]).any()
    assert rows.sort_values(["frame", "label"]).index.is_monotonic_increasing
    assert equal(arrays(image, "max")[:1], arrays(projected, "cells")[:1])
    with pytest.raises(InputError, match="2 channel"):
        segmented(image, "two", channels=(0, 5))


def test_float_images_are_segmented_like_their_integers(image: NgffImage, tmp_path: Path) -> None:
    floats = written(str(tmp_path / "floats.zarr"), blurred_noise(SHAPE).astype(np.float32) / 1000)
    segmented(image, "cells")
    segmented(floats, "cells", tile_size=40)
    same = arrays(image, "cells")[0] > 0
    assert (same == (arrays(floats, "cells")[0] > 0)).mean() > 0.995


def test_a_part_of_the_frames(image: NgffImage) -> None:
    segmented(image, "all")
    segmented(image, "part", frames=(1, 2))
    assert np.array_equal(arrays(image, "part")[0][1], arrays(image, "all")[0][1])
    assert not arrays(image, "part")[0][[0, 2]].any()
    with pytest.raises(MissingError, match="0:3"):
        segmented(image, "outside", frames=(2, 4))


@dataclass(frozen=True)
class Stopping:
    """Work through so many tasks, then die as a killed driver does: at once, with no clean-up."""

    tasks: int

    def __call__(self, work: Any, shared: Any, tasks: Sequence[Any], *, gpu: bool = False) -> Iterator[Any]:
        for number, task in enumerate(tasks):
            if number == self.tasks:
                raise KeyboardInterrupt
            yield task, attempted(work, shared, task, 1, 0.0)


@pytest.mark.parametrize("tasks", [0, 1, 2])
def test_the_same_command_again_resumes(image: NgffImage, tasks: int) -> None:
    settings: dict[str, Any] = {"window_size": 64, "tile_size": 50, "task_px": 20000}
    segmented(image, "undisturbed", **settings)
    with pytest.raises(KeyboardInterrupt):
        segmented(image, "cells", executor=Stopping(tasks), **settings)
    assert "cells" not in list_labels(image.url)
    report = segmented(image, "cells", **settings)
    assert sum(report.reused.values()) >= tasks
    assert equal(arrays(image, "cells"), arrays(image, "undisturbed"))
    assert not (Path(image.url) / ".cellscale-cells").exists()


def test_a_resumed_run_keeps_the_tasks_that_it_began_with(image: NgffImage) -> None:
    """Whatever sizes of tasks the later commands ask for: records and scratch objects are those of the first ones."""
    settings: dict[str, Any] = {"window_size": 64, "tile_size": 50}
    segmented(image, "undisturbed", **settings)
    for task_px, tasks in ((5000, 4), (20000, 7), (None, 9)):
        with pytest.raises(KeyboardInterrupt):
            segmented(image, "cells", executor=Stopping(tasks), task_px=task_px, **settings)
    report = segmented(image, "cells", task_px=100_000, **settings)
    assert report.tasks["predict"] > 9
    assert report.reused["predict"] == 20
    assert equal(arrays(image, "cells"), arrays(image, "undisturbed"))
    assert table(image, "cells").equals(table(image, "undisturbed"))


def test_a_run_that_died_before_it_cleaned_up_is_finished_by_the_same_command(
    image: NgffImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    removal = Folder.removal

    def dies(self: Folder, inner: str = "") -> Callable[[], None]:
        if ".cellscale" in self.url and list_labels(image.url):
            raise KeyboardInterrupt
        return removal(self, inner)

    monkeypatch.setattr(Folder, "removal", dies)
    with pytest.raises(KeyboardInterrupt):
        segmented(image, "cells", tile_size=50)
    monkeypatch.undo()
    before = arrays(image, "cells")
    segmented(image, "cells", tile_size=50)
    assert equal(arrays(image, "cells"), before)
    assert not (Path(image.url) / ".cellscale-cells").exists()


def test_records_without_a_plan_do_not_count(image: NgffImage) -> None:
    with pytest.raises(KeyboardInterrupt):
        segmented(image, "cells", executor=Stopping(1), task_px=20000)
    Folder(url=f"{image.url}/.cellscale-cells").delete("plan.json")
    assert set(segmented(image, "cells", task_px=20000).reused.values()) == {0}


def test_arrays_that_were_deleted_are_written_again(image: NgffImage, monkeypatch: pytest.MonkeyPatch) -> None:
    segmented(image, "undisturbed")

    def dies(layer: Any, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cellscale.segmentation.run.publish_labels", dies)
    with pytest.raises(KeyboardInterrupt):
        segmented(image, "cells")
    monkeypatch.undo()
    shutil.rmtree(Path(image.url) / "labels" / "cells")
    segmented(image, "cells")
    assert equal(arrays(image, "cells"), arrays(image, "undisturbed"))
    assert table(image, "cells").equals(table(image, "undisturbed"))


def test_an_unfinished_run_with_other_settings_is_refused(image: NgffImage) -> None:
    with pytest.raises(KeyboardInterrupt):
        segmented(image, "cells", executor=Stopping(1), tile_size=50, task_px=20000)
    with pytest.raises(InputError, match="tile_size: 50 → 60"):
        segmented(image, "cells", tile_size=60, task_px=20000)
    assert segmented(image, "cells", tile_size=60, task_px=20000, overwrite=True).reused["intensity"] == 0


def test_an_existing_layer_is_kept_unless_asked(image: NgffImage) -> None:
    segmented(image, "cells")
    before = arrays(image, "cells")
    with pytest.raises(ExistsError, match="--overwrite"):
        segmented(image, "cells", frames=(0, 1))
    assert equal(arrays(image, "cells"), before)
    segmented(image, "cells", frames=(0, 1), overwrite=True)
    assert not arrays(image, "cells")[0][1].any()


def snapshot(folder: str) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()}


def test_a_corrupt_chunk_ends_the_run_with_its_frame_and_changes_nothing(image: NgffImage) -> None:
    chunk = next(path for path in sorted((Path(image.url) / "0").rglob("*")) if path.is_file() and path.name == "0")
    chunk.write_bytes(chunk.read_bytes()[:20])
    before = snapshot(image.url)
    with pytest.raises(RunError, match=r"frame 0.*nothing was published|nothing was published.*frame 0"):
        segmented(image, "cells")
    assert snapshot(image.url) == before


@pytest.mark.parametrize("kept", [0, 2**25])
def test_lost_scratch_is_named_and_never_background(
    image: NgffImage, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that keeps what it has written does not miss it."""
    monkeypatch.setattr(ownership, "RECENT_BYTES", kept)

    @dataclass(frozen=True)
    class Losing:
        """Lose a window's maps after prediction."""

        def __call__(self, work: Any, shared: Any, tasks: Sequence[Any], *, gpu: bool = False) -> Iterator[Any]:
            yield from one_by_one(work, shared, tasks, gpu=gpu)
            scratch_of(image, "cells").child("maps").remove()

    settings: dict[str, Any] = {"window_size": 64, "tile_size": 100}
    if kept:
        segmented(image, "alone", **settings)
        segmented(image, "cells", executor=Losing(), **settings)
        assert equal(arrays(image, "cells"), arrays(image, "alone"))
        return
    with pytest.raises(RunError, match=r"frame 0, slice 0, tile 0.*missing"):
        segmented(image, "cells", executor=Losing(), **settings)
    assert list_labels(image.url) == ()


def test_missing_chunks_of_the_source_are_counted(image: NgffImage) -> None:
    next(path for path in (Path(image.url) / "0").rglob("0") if path.is_file()).unlink()
    assert segmented(image, "cells").missing_chunks == 1

"""Slices joined to 3-D objects: equal for any tiling and resume, one number for an object, and its row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cellscale.errors import InputError
from cellscale.ngff.array_io import grid_boxes
from cellscale.ngff.image import NgffImage, open_image
from cellscale.segmentation import volumes
from cellscale.types import Box
from tests.blobs import blurred_noise
from tests.linking.test_slices import stitched
from tests.support.killed import dying, killed_until_done
from tests.support.runs import arrays, equal, segmented, table, written


@pytest.fixture
def image(tmp_path: Path) -> NgffImage:
    """Two frames of four slices; cells go through slices, because each slice is half of the one before."""
    noise = blurred_noise((2, 5, 90, 120)).astype(np.float64)
    return written(str(tmp_path / "i.zarr"), (noise[:, 1:] + 2 * noise[:, :-1]).astype(np.uint16), "tzyx")


def test_objects_are_those_of_the_rule_on_whole_slices(image: NgffImage) -> None:
    segmented(image, "each")
    report = segmented(image, "cells", z_mode="linked")
    each, found = arrays(image, "each")[0], arrays(image, "cells")[0]
    for slices, volume in zip(each, found, strict=True):
        expected = stitched(slices, 0.25, mutual=True)
        _, numbers = np.unique(expected, return_inverse=True)
        assert np.array_equal(numbers.reshape(expected.shape), volume)
    assert report.cells == sum(int(volume.max()) for volume in found)
    assert 0 < report.cells < sum(int(slices.max()) for slices in each)


def test_tiles_shards_and_bundles_change_nothing(image: NgffImage, monkeypatch: pytest.MonkeyPatch) -> None:
    segmented(image, "one", z_mode="linked", z_max_gap=1)
    boxes = [Box(y, x, y + 37, x + 50).clip(Box.of((90, 120))) for y in range(0, 90, 37) for x in range(0, 120, 50)]
    monkeypatch.setattr(volumes, "grid_boxes", lambda shape: boxes)
    assert len(boxes) > len(grid_boxes((90, 120)))
    segmented(image, "other", z_mode="linked", z_max_gap=1, tile_size=33, task_px=1)
    assert equal(arrays(image, "one"), arrays(image, "other"))
    assert table(image, "one").equals(table(image, "other"))


def drive(url: str, records: int) -> None:
    segmented(open_image(url), "killed", z_mode="linked", executor=dying(records))


@pytest.mark.parametrize("records", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_a_driver_that_is_killed_after_some_records_resumes(image: NgffImage, records: int) -> None:
    segmented(image, "calm", z_mode="linked")
    steps = {"slice_tables", "slice_links"}
    report = segmented(image, "counted", z_mode="linked", overwrite=True)
    assert steps <= report.tasks.keys()
    assert killed_until_done(drive, image.url, records) == sum(report.tasks.values()) // records
    assert equal(arrays(image, "calm"), arrays(image, "killed"))
    assert table(image, "calm").equals(table(image, "killed"))


def test_rows_are_those_of_the_voxels(image: NgffImage) -> None:
    segmented(image, "cells", z_mode="linked")
    found, rows = arrays(image, "cells")[0], table(image, "cells")
    pixels = np.stack([[image.read(Box.of((90, 120)), t=t, z=z)[0] for z in range(4)] for t in range(2)])
    assert len(rows) == sum(int(volume.max()) for volume in found)
    means = rows["intensity_mean-0"].tolist()
    for row, stored in zip(rows.itertuples(), means, strict=True):
        frame = int(str(row.frame))
        inside = found[frame] == row.label
        z, y, x = np.nonzero(inside)
        assert row.volume_px == len(z)
        assert (row.slice, row.slice_end) == (z.min(), z.max() + 1)
        assert (row.centroid_z_px, row.centroid_y_px, row.centroid_x_px) == pytest.approx(
            (z.mean(), y.mean(), x.mean())
        )
        assert (row.bbox_y0_px, row.bbox_x1_px) == (y.min(), x.max() + 1)
        padded = np.pad(inside, 1)
        faces = sum(int(np.abs(np.diff(padded.astype(np.int8), axis=axis)).sum()) for axis in range(3))
        assert row.surface_faces == faces
        mean = pixels[frame][inside].astype(np.float64).mean()
        assert stored == pytest.approx(mean)


def test_numbers_through_frames(image: NgffImage) -> None:
    segmented(image, "plain", z_mode="linked")
    segmented(image, "unique", z_mode="linked", unique_ids=True)
    plain, unique = arrays(image, "plain")[0], arrays(image, "unique")[0]
    assert np.array_equal(plain[0], unique[0])
    assert np.array_equal(np.where(plain[1] > 0, plain[1] + plain[0].max(), 0), unique[1])
    assert table(image, "unique").label.is_unique


def test_images_without_slices_and_without_cells(tmp_path: Path) -> None:
    flat = written(str(tmp_path / "flat.zarr"), blurred_noise((1, 90, 120)))
    segmented(flat, "each")
    segmented(flat, "linked", z_mode="linked")
    assert equal(arrays(flat, "each"), arrays(flat, "linked"))
    empty = written(str(tmp_path / "empty.zarr"), np.zeros((1, 2, 90, 120), np.uint16), "tzyx")
    assert segmented(empty, "cells", z_mode="linked").cells == 0
    assert len(table(empty, "cells")) == 0


def test_a_threshold_that_makes_no_sense_is_refused_before_anything_is_read(image: NgffImage) -> None:
    with pytest.raises(InputError, match=r"threshold between slices is 1\.5"):
        segmented(image, "cells", z_mode="linked", z_threshold=1.5)

"""The object table as CSV, and as other programs read it."""

from __future__ import annotations

import csv
import errno
import math
import shutil
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import cellscale
from cellscale.errors import ExistsError, InputError, MissingError, StoreError
from cellscale.ngff.image import NgffImage
from cellscale.ngff.labels import open_labels, publish_labels, stage_labels
from tests.blobs import blobs_model, blurred_noise
from tests.faults.moments import Changes, changing, dies
from tests.ngff.pictures import layer, make


def _rows(image: NgffImage, name: str) -> pd.DataFrame:
    return pd.read_parquet(open_labels(image.url, name).place("objects.parquet"))


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> NgffImage:
    made = make(
        tmp_path_factory.mktemp("tables") / "i.zarr", blurred_noise((3, 90, 120)), "tyx", pixel_size_um=(0.5, 0.5)
    )
    cellscale.segment(made.url, model=blobs_model(), tile_size=40, backend="serial")
    return made


def test_csv_has_all_rows_in_order(image: NgffImage, tmp_path: Path) -> None:
    rows = cellscale.export_table(image.url, str(tmp_path / "o.csv"))
    found = pd.read_csv(tmp_path / "o.csv")
    stored = pd.read_parquet(f"{image.url}/labels/cells/objects.parquet")
    assert len(found) == rows > 20
    pd.testing.assert_frame_equal(found, stored, check_dtype=False)
    assert found.sort_values(["frame", "label"]).index.is_monotonic_increasing
    assert {"area_um2", "centroid_y_um", "bbox_y0_px"} <= set(found)


def test_what_has_no_table_is_named_and_leaves_no_file(image: NgffImage, tmp_path: Path) -> None:
    publish_labels(stage_labels(image, "bare", planes_z=1))
    with pytest.raises(MissingError, match="labels/bare"):
        cellscale.export_table(image.url, str(tmp_path / "o.csv"), layer="bare")
    assert not (tmp_path / "o.csv").exists()
    with pytest.raises(StoreError, match=r"/proc/o\.csv"):
        cellscale.export_table(image.url, "/proc/o.csv")


def test_a_table_in_a_zip_file_is_refused_with_what_to_do(image: NgffImage, tmp_path: Path) -> None:
    shutil.make_archive(str(tmp_path / "i"), "zip", image.url)
    with pytest.raises(InputError, match=r"i\.zip/labels/cells lies in a zip file.* Unpack it first"):
        cellscale.export_table(tmp_path / "i.zip", tmp_path / "t.csv")
    assert not (tmp_path / "t.csv").exists()


def test_polars_and_duckdb_read_the_table(image: NgffImage) -> None:
    duckdb, polars = pytest.importorskip("duckdb"), pytest.importorskip("polars")
    place = f"{image.url}/labels/cells/objects.parquet/*.parquet"
    areas = pd.read_parquet(f"{image.url}/labels/cells/objects.parquet").groupby("frame").area_px.sum().to_dict()
    by_polars = polars.read_parquet(place).group_by("frame").agg(polars.col("area_px").sum())
    assert dict(by_polars.rows()) == areas
    query = f"select frame, sum(area_px) from '{place}' group by frame"
    assert {frame: int(area) for frame, area in duckdb.sql(query).fetchall()} == areas


def test_a_layer_is_measured_as_the_segmentation_did(image: NgffImage) -> None:
    made = _rows(image, "cells")
    with pytest.raises(ExistsError, match="--overwrite"):
        cellscale.measure(image.url, layer="cells")
    assert cellscale.measure(image.url, layer="cells", overwrite=True) == len(made)
    pd.testing.assert_frame_equal(_rows(image, "cells"), made)
    group = Path(image.url) / "labels" / "cells"
    assert [len(list(table.iterdir())) for table in group.glob("*objects.parquet")] == [3]


def test_a_measurement_of_frames_without_labels_leaves_the_table(tmp_path: Path) -> None:
    image = make(tmp_path / "i.zarr", blurred_noise((3, 60, 60)), "tyx")
    cellscale.segment(image.url, model=blobs_model(), frames=(0, 1), backend="serial")
    before = _rows(image, "cells")
    with pytest.raises(MissingError, match=r"None of the frames 1:3 of .*cells has labels; those that have are 0:1"):
        cellscale.measure(image.url, layer="cells", frames=(1, 3), overwrite=True)
    pd.testing.assert_frame_equal(_rows(image, "cells"), before)


def test_a_measurement_does_not_replace_tracks_or_objects_through_slices(tmp_path: Path) -> None:
    image = make(tmp_path / "i.zarr", blurred_noise((2, 60, 60)), "tyx")
    cellscale.segment(image.url, model=blobs_model(), backend="serial")
    cellscale.track(image.url, backend="serial")
    stack = make(tmp_path / "z.zarr", blurred_noise((1, 2, 60, 60)), "tzyx")
    cellscale.segment(stack.url, model=blobs_model(), z_mode="linked", backend="serial")
    for found, name, column in ((image, "cells-tracks", "track"), (stack, "cells", "volume_px")):
        before = _rows(found, name)
        assert column in before
        with pytest.raises(InputError, match="would lose these columns"):
            cellscale.measure(found.url, layer=name, overwrite=True)
        pd.testing.assert_frame_equal(_rows(found, name), before)


def test_a_measurement_replaces_a_table_that_is_damaged(tmp_path: Path) -> None:
    image = make(tmp_path / "i.zarr", blurred_noise((1, 60, 60)), "tyx")
    cellscale.segment(image.url, model=blobs_model(), backend="serial")
    before = _rows(image, "cells")
    for part in Path(open_labels(image.url, "cells").place("objects.parquet")).iterdir():
        part.write_bytes(b"damaged")
    assert cellscale.measure(image.url, layer="cells", overwrite=True) == len(before)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_measurement_that_dies_at_any_of_its_changes_leaves_the_old_table_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    image = make(tmp_path / "i.zarr", np.ones((3, 40, 40), np.uint8), "tyx")
    labels = np.zeros((3, 40, 40), np.uint32)
    labels[:, 3:9, 3:9] = 1
    died, moment = True, 0
    while died:
        name = f"drawn-{moment}"
        layer(image, name, labels)
        if overwrite:
            cellscale.measure(image.url, layer=name)
        measure = partial(cellscale.measure, image.url, layer=name, overwrite=overwrite)
        died = dies(partial(measure, frames=(0, 2)), moment)
        moment += died
        frames = [] if open_labels(image.url, name).table is None else _rows(image, name).frame.tolist()
        assert frames in ([0, 1], [0, 1, 2] if overwrite else [])
        cellscale.measure(image.url, layer=name, frames=(0, 1), overwrite=True)
        assert _rows(image, name).frame.tolist() == [0]
        assert len(list((Path(image.url) / "labels" / name).glob("*objects.parquet"))) <= 2
    assert moment > 4


def test_a_layer_that_cannot_be_written_is_refused_before_it_is_measured(tmp_path: Path) -> None:
    image = make(tmp_path / "i.zarr", np.ones((2, 40, 40), np.uint8), "tyx")
    layer(image, "drawn", np.ones((2, 40, 40), np.uint32))
    measured = []

    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StoreError, match=r"Cannot write .*No space left"), changing(Changes(stop_at=0, stop=full)):
        cellscale.measure(image.url, layer="drawn", on_progress=lambda step, done, total: measured.append(done))
    assert not measured
    assert cellscale.measure(image.url, layer="drawn") == 2


def test_a_layer_that_is_replaced_while_it_is_measured_keeps_its_own_table(tmp_path: Path) -> None:
    image = make(tmp_path / "i.zarr", np.ones((1, 40, 40), np.uint8), "tyx")
    layer(image, "drawn", np.ones((1, 40, 40), np.uint32))

    def replace(step: str, done: int, total: int) -> None:
        made = stage_labels(image, "drawn", planes_z=1, overwrite=True)
        publish_labels(made, overwrite=True)

    with pytest.raises(MissingError, match="replaced or removed while its objects were measured"):
        cellscale.measure(image.url, layer="drawn", on_progress=replace)
    with pytest.raises(MissingError, match="has no object table"):
        cellscale.export_table(image.url, tmp_path / "o.csv", layer="drawn")


def test_a_layer_of_any_numbers_is_measured_in_tiles(tmp_path: Path) -> None:
    """Labels far apart, a cell over two tiles, an image of two channels, one of them with pixels that are no number."""
    pixels = np.random.default_rng(0).normal(0, 1e-9, (2, 70, 2100)).astype(np.float32)
    pixels[1, 0, 0] = np.nan
    labels = np.zeros((1, 70, 2100), np.uint32)
    labels[0, 5:9, 2040:2060], labels[0, :3, :3] = 2**32 - 1, 7
    image = make(tmp_path / "i.zarr", pixels, "cyx", pixel_size_um=(0.5, 0.25))
    layer(image, "drawn", labels)
    assert cellscale.measure(image.url, layer="drawn") == 2
    rows = pd.read_parquet(f"{image.url}/labels/drawn/objects.parquet")
    assert rows.label.tolist() == [7, 2**32 - 1]
    assert rows.area_um2.tolist() == [9 / 8, 10]
    assert rows.touches_edge.tolist() == [True, False]
    assert rows[["bbox_y0_px", "bbox_x0_px", "bbox_y1_px", "bbox_x1_px"]].iloc[1].tolist() == [5, 2040, 9, 2060]
    cell = pixels[:, 5:9, 2040:2060].reshape(2, -1).tolist()
    assert rows["intensity_mean-0"].iloc[1] == pytest.approx(math.fsum(cell[0]) / 80, rel=1e-15)
    assert rows["intensity_mean-1"].isna().tolist() == [True, False]


def test_a_layer_of_another_image_is_not_measured(image: NgffImage, tmp_path: Path) -> None:
    other = make(tmp_path / "o.zarr", np.zeros((3, 40, 40), np.uint8), "tyx")
    layer(other, "drawn", np.ones((3, 40, 40), np.uint32))
    with pytest.raises(InputError, match=r"\(3, 1, 40, 40\).*\(3, 1, 90, 120\)"):
        cellscale.measure(image.url, layer="drawn", layer_store=other.url)


@pytest.mark.parametrize("name", ["=cmd|' /C calc'!A0", '"a",b', "two\nlines", "@sum(1)", "<b>&"])
def test_names_of_channels_stay_one_column_and_no_formula(tmp_path: Path, name: str) -> None:
    image = make(tmp_path / "i.zarr", np.ones((2, 40, 40), np.uint8), "cyx", channels=["plain", name])
    layer(image, "drawn", np.ones((1, 40, 40), np.uint32))
    cellscale.measure(image.url, layer="drawn")
    cellscale.export_table(image.url, str(tmp_path / "o.csv"), layer="drawn")
    with open(tmp_path / "o.csv", newline="") as stream:
        header, row = csv.reader(stream)
    assert header[-2:] == ["intensity_mean-plain", f"intensity_mean-{name}"]
    assert len(header) == len(row)
    assert not [word for word in header + row if word[:1] in "=+-@\t\r"]

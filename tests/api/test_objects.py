"""The object table as CSV, and as other programs read it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import cellscale
from cellscale.errors import MissingError, StoreError
from cellscale.ngff.image import NgffImage
from cellscale.ngff.labels import publish_labels, stage_labels
from tests.blobs import blobs_model, blurred_noise
from tests.ngff.pictures import make


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


def test_polars_and_duckdb_read_the_table(image: NgffImage) -> None:
    duckdb, polars = pytest.importorskip("duckdb"), pytest.importorskip("polars")
    place = f"{image.url}/labels/cells/objects.parquet/*.parquet"
    areas = pd.read_parquet(f"{image.url}/labels/cells/objects.parquet").groupby("frame").area_px.sum().to_dict()
    by_polars = polars.read_parquet(place).group_by("frame").agg(polars.col("area_px").sum())
    assert dict(by_polars.rows()) == areas
    query = f"select frame, sum(area_px) from '{place}' group by frame"
    assert {frame: int(area) for frame, area in duckdb.sql(query).fetchall()} == areas

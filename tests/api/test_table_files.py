"""Object tables for other programs: files of each format have the same values, and ngio's table is one of its image."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from click.testing import CliRunner

import cellscale
from cellscale.api.annotated_data import annotated_data
from cellscale.api.objects import parts
from cellscale.api.plate_results import export_plate_table
from cellscale.cli.main import cli
from cellscale.errors import CellscaleError, DamagedError, ExistsError, InputError, MissingError, StoreError
from cellscale.ngff.feature_tables import write_feature_table
from cellscale.ngff.image import NgffImage, open_image
from cellscale.ngff.labels import open_labels, remove_labels
from tests.faults.moments import dies
from tests.ngff.pictures import layer, make

anndata = pytest.importorskip("anndata")
NGIO_PYTHON = os.environ.get("NGIO_PYTHON", sys.executable)
"""The interpreter of an environment that has ngio; this one's where it is not set."""


def drawn(url: Path | str, frames: int = 1, *, first: int = 0, version: str = "0.5", **options: Any) -> NgffImage:
    """An image with two measured cells in each frame; the labels of frame t are `first` · t + 1 and + 2."""
    pixels = np.arange(frames * 40 * 40, dtype=np.uint16).reshape(frames, 40, 40)
    image = make(url, pixels, "tyx", pixel_size_um=(0.5, 0.25), version=version, **options)
    labels = np.zeros((frames, 40, 40), np.uint32)
    for t in range(frames):
        labels[t, 3:9, 4:8], labels[t, 20:24, 30:40] = first * t + 1, first * t + 2
    layer(image, "cells", labels)
    cellscale.measure(image.url, layer="cells", storage_options=image.storage_options)
    return image


def names_of(group: Any) -> list[Any]:
    """Names that a group of tables lists."""
    found: list[Any] = group.attrs.get("tables", [])
    return found


def rows(image: NgffImage) -> pd.DataFrame:
    return pd.read_parquet(open_labels(image.url, "cells").place("objects.parquet"))


def test_files_of_all_formats_have_the_values_of_the_table(tmp_path: Path) -> None:
    image = drawn(tmp_path / "i.zarr", 3)
    stored = rows(image)
    for name in ("o.csv", "o.parquet", "o.h5ad", "o.zarr"):
        assert cellscale.export_table(image.url, tmp_path / name) == 6
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "o.parquet"), stored)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "o.csv"), stored, check_dtype=False)
    for found in (anndata.read_h5ad(tmp_path / "o.h5ad"), anndata.read_zarr(tmp_path / "o.zarr")):
        assert found.obs_names.tolist()[:3] == ["0/0/1", "0/0/2", "1/0/1"]
        features = ["area_px", "area_um2", "intensity_mean-0"]
        assert found.var_names.tolist() == features
        np.testing.assert_array_equal(found.X, stored[features])
        places = stored[["centroid_x_um", "centroid_y_um"]]
        np.testing.assert_array_equal(found.obsm["spatial"], places)
        np.testing.assert_array_equal(found.obsm["spatial_px"], places / [0.25, 0.5])
        assert found.uns["cellscale"]["spatial_unit"] == "micrometer"
        others = [str(name) for name in stored if name not in features and "centroid" not in str(name)]
        assert list(found.obs) == ["region", *others]
        pd.testing.assert_frame_equal(found.obs[others].reset_index(drop=True), stored[others])
        assert "spatialdata_attrs" not in found.uns


def test_a_row_that_its_label_names_has_the_keys_of_spatialdata(tmp_path: Path) -> None:
    image = drawn(tmp_path / "i.zarr")
    cellscale.export_table(image.url, tmp_path / "o.h5ad")
    found = anndata.read_h5ad(tmp_path / "o.h5ad")
    keys = found.uns["spatialdata_attrs"]
    assert (keys["region_key"], keys["instance_key"], list(keys["region"])) == ("region", "label", ["cells"])
    assert found.obs["region"].dtype == "category"
    assert found.obs["label"].dtype.kind == "u"


def test_a_plate_becomes_one_file_with_wells_and_fields(tmp_path: Path) -> None:
    names = ["A/1/0", "A/1/1", "B/2/0"]
    for name in names:
        drawn(tmp_path / "p.zarr" / name)
    cellscale.write_plate(tmp_path / "p.zarr", {"A/1": ["0", "1"], "B/2": ["0"]})
    assert export_plate_table(tmp_path / "p.zarr", tmp_path / "o.h5ad") == 6
    found = anndata.read_h5ad(tmp_path / "o.h5ad")
    assert found.obs.well.tolist() == ["A/1"] * 4 + ["B/2"] * 2
    assert found.obs.field.tolist() == ["0", "0", "1", "1", "0", "0"]
    assert found.obs.image.tolist() == [name for name in names for _ in range(2)]
    assert found.obs_names.is_unique
    assert list(found.uns["spatialdata_attrs"]["region"]) == ["A_1_0_cells", "A_1_1_cells", "B_2_0_cells"]
    assert export_plate_table(tmp_path / "p.zarr", tmp_path / "o.parquet", wells="B/*") == 2
    assert pd.read_parquet(tmp_path / "o.parquet").image.tolist() == ["B/2/0"] * 2
    done = CliRunner().invoke(cli, ["table", str(tmp_path / "p.zarr"), "--ngio", "--name", "nuclei", "--wells", "A/1"])
    assert done.stdout.strip() == "4 objects → tables/nuclei"
    assert [(tmp_path / "p.zarr" / name / "tables/nuclei/table.parquet").exists() for name in names] == [1, 1, 0]


def test_an_output_of_another_format_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    image = drawn(tmp_path / "i.zarr")
    with pytest.raises(InputError, match=r"o\.xlsx is not a valid name of a table; expected one that ends with \.csv"):
        cellscale.export_table(image.url, tmp_path / "o.xlsx")
    with pytest.raises(InputError, match="not on this machine"):
        cellscale.export_table(image.url, "memory://o.zarr")
    (tmp_path / "o.zarr").mkdir()
    (tmp_path / "o.zarr" / "mine").touch()
    with pytest.raises(ExistsError, match=r"o\.zarr is not empty"):
        cellscale.export_table(image.url, tmp_path / "o.zarr")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["i.zarr", "o.zarr"]


@pytest.mark.parametrize("name", ["o.csv", "o.parquet", "o.h5ad", "o.zarr"])
def test_an_export_that_dies_at_any_of_its_changes_leaves_nothing_or_all(tmp_path: Path, name: str) -> None:
    image, output = drawn(tmp_path / "i.zarr", 2), tmp_path / "out" / name
    moment, step = 0, 25 if name == "o.zarr" else 1
    while dies(lambda: cellscale.export_table(image.url, output), moment):
        moment += step
        if output.exists():
            break
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
    assert moment >= 1
    assert [path.name for path in output.parent.iterdir() if not path.name.startswith(".")] == [name]


STRANGE: dict[str, tuple[Callable[[Any], Any], str]] = {
    "no label": (lambda table: table.drop_columns(["label"]), "no column 'label'"),
    "no place": (lambda table: table.drop_columns(["centroid_x_px"]), "no column 'centroid_x_px'"),
    "twice": (lambda table: table.append_column("label", table["label"]), "two columns of the name 'label'"),
    "text": (lambda table: table.append_column("a", pa.array(["x"] * len(table))), "kind in the column 'a'"),
    "nested": (lambda table: table.append_column("a", pa.array([[1]] * len(table))), "of another kind in the column"),
    "fractions": (
        lambda table: table.set_column(2, "label", pa.array([0.5] * len(table))),
        "kind in the column",
    ),
    "images": (lambda table: table.append_column("image", pa.array([1] * len(table))), "kind in the column 'image'"),
    "null": (
        lambda table: table.set_column(0, "frame", pa.nulls(len(table), pa.int32())),
        "rows without a value in the column 'frame'",
    ),
}


@pytest.mark.parametrize("kind", STRANGE)
def test_a_table_by_a_stranger_is_refused_with_the_column(tmp_path: Path, kind: str) -> None:
    change, reason = STRANGE[kind]
    image = drawn(tmp_path / "i.zarr")
    part = next(Path(open_labels(image.url, "cells").place("objects.parquet")).iterdir())
    pq.write_table(change(pq.read_table(part)), part)
    with pytest.raises(DamagedError, match=reason):
        cellscale.export_table(image.url, tmp_path / "o.h5ad")
    assert not (tmp_path / "o.h5ad").exists()


def test_columns_of_any_name_are_features_without_a_path(tmp_path: Path) -> None:
    image = drawn(tmp_path / "i.zarr")
    part = next(Path(open_labels(image.url, "cells").place("objects.parquet")).iterdir())
    table = pq.read_table(part)
    for name in ("../../x", "a/b", "=cmd|' /C calc'!A0", "<b>", ""):
        table = table.append_column(name, pa.array([1.5] * len(table)))
    pq.write_table(table, part)
    for name in ("o.h5ad", "o.zarr"):
        cellscale.export_table(image.url, tmp_path / name)
    found = anndata.read_h5ad(tmp_path / "o.h5ad")
    assert found.var_names.tolist()[-5:] == table.column_names[-5:]
    np.testing.assert_array_equal(found.X[:, -5:], 1.5)


def test_no_cell_of_a_csv_is_a_formula(tmp_path: Path) -> None:
    """The names of wells are those of a stranger, as are those of columns."""
    formula = "=cmd|' "
    drawn(tmp_path / "p.zarr" / "B" / "1" / "0")
    image = drawn(tmp_path / "p.zarr" / "A" / "1" / "0")
    cellscale.write_plate(tmp_path / "p.zarr", {"A/1": ["0"], "B/1": ["0"]})
    document = tmp_path / "p.zarr" / "zarr.json"
    document.write_text(document.read_text().replace('"B/1"', json.dumps(f"{formula}/1")))
    shutil.move(tmp_path / "p.zarr" / "B", tmp_path / "p.zarr" / formula)
    assert export_plate_table(tmp_path / "p.zarr", tmp_path / "o.csv") == 4
    assert pd.read_csv(tmp_path / "o.csv").image.unique().tolist() == ["A/1/0", f"'{formula}/1/0"]
    part = next(Path(open_labels(image.url, "cells").place("objects.parquet")).iterdir())
    table = pq.read_table(part)
    pq.write_table(table.append_column("@sum(1)", pa.array([-1] * len(table))), part)
    cellscale.export_table(image.url, tmp_path / "o.csv")
    assert pd.read_csv(tmp_path / "o.csv").columns[-1] == "'@sum(1)"


TABLE_NOTES: tuple[tuple[str, Any], ...] = (
    ("list", None),
    ("list", {}),
    ("list", ["../labels/cells"]),
    ("names", 5),
    ("names", []),
    ("notes", "x"),
    ("notes", {"layer": "../.."}),
    ("notes", {"layer": ["cells"]}),
)


@pytest.mark.parametrize(("place", "value"), TABLE_NOTES)
def test_whatever_documents_of_tables_say_other_files_stay(tmp_path: Path, place: str, value: Any) -> None:
    image = drawn(tmp_path / "i.zarr")
    cellscale.export_ngio(image.url)
    tables = Path(image.url) / "tables"
    path = tables / "zarr.json" if place != "notes" else tables / "cells" / "zarr.json"
    document = json.loads(path.read_text())
    key = "cellscale" if place == "notes" else "tables"
    document["attributes"][key] = ["cells", value] if place == "names" else value
    path.write_text(json.dumps(document))
    (tables / "mine").touch()
    before = {path for path in tables.rglob("*") if path.is_file()}
    labels = np.ones((1, 40, 40), np.uint32)
    for use in (
        lambda: cellscale.export_ngio(image.url, overwrite=True),
        lambda: cellscale.save_labels(labels, image.url, "cells", overwrite=True),
        lambda: cellscale.save_image(labels[0], image.url, axes="yx", overwrite=True),
    ):
        with contextlib.suppress(CellscaleError):
            use()
        assert before <= {path for path in tables.rglob("*") if path.is_file()}
    # The image is replaced, whatever its tables say.
    assert open_image(image.url).dtype == labels.dtype


def test_a_table_without_rows_is_written() -> None:
    names = ("frame", "slice", "label", "centroid_y_px", "centroid_x_px", "area_px")
    made = annotated_data(pa.table({name: pa.array([], pa.int64()) for name in names}), "cells")
    assert made.shape == (0, 1)


def test_without_anndata_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = drawn(tmp_path / "i.zarr")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingError, match=r"pip install 'cellscale\[anndata\]'"):
        cellscale.export_table(image.url, tmp_path / "o.h5ad")


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_feature_table_is_a_listed_group_of_its_image_with_one_file(tmp_path: Path, version: str) -> None:
    image = drawn(tmp_path / "i.zarr", version=version)
    done = CliRunner().invoke(cli, ["table", image.url, "--ngio", "--json"])
    assert json.loads(done.stdout) == {"rows": 2, "output": "tables/cells"}
    assert cellscale.export_ngio(image.url, name="other") == 2
    group = zarr.open_group(image.url, mode="r")
    assert group["tables"].attrs["tables"] == ["cells", "other"]
    attributes = dict(group["tables/cells"].attrs)
    assert {name: attributes[name] for name in ("type", "table_version", "backend", "index_key", "index_type")} == {
        "type": "feature_table",
        "table_version": "1",
        "backend": "parquet",
        "index_key": "label",
        "index_type": "int",
    }
    assert attributes["region"] == {"path": "../labels/cells"}
    file = Path(image.url) / "tables" / "cells" / "table.parquet"
    assert file.is_file()
    pd.testing.assert_frame_equal(pd.read_parquet(file), rows(image))


def test_labels_of_several_frames_need_numbers_of_their_own(tmp_path: Path) -> None:
    image = drawn(tmp_path / "i.zarr", 2)
    with pytest.raises(InputError, match=r"one row for each label.*--unique-ids.*--output"):
        cellscale.export_ngio(image.url)
    assert not (Path(image.url) / "tables").exists()
    distinct = drawn(tmp_path / "j.zarr", 2, first=2)
    assert cellscale.export_ngio(distinct.url) == 4
    assert pd.read_parquet(Path(distinct.url) / "tables/cells/table.parquet").label.tolist() == [1, 2, 3, 4]


def test_only_tables_of_cellscale_are_replaced_and_only_when_asked(tmp_path: Path) -> None:
    image = drawn(tmp_path / "i.zarr")
    cellscale.export_ngio(image.url)
    with pytest.raises(ExistsError, match=r"tables/cells exists already\. Replace it with --overwrite"):
        cellscale.export_ngio(image.url)
    assert cellscale.export_ngio(image.url, overwrite=True) == 2
    tables = zarr.open_group(f"{image.url}/tables", mode="a")
    tables.create_group("theirs").attrs["type"] = "roi_table"
    tables.attrs["tables"] = ["cells", "theirs"]
    (Path(image.url) / "tables" / "files").mkdir()
    (Path(image.url) / "tables" / "files" / "x").touch()
    for name in ("theirs", "files"):
        with pytest.raises(ExistsError, match=f"tables/{name} exists and was not made by cellscale"):
            cellscale.export_ngio(image.url, name=name, overwrite=True)
    assert zarr.open_group(f"{image.url}/tables", mode="r").attrs["tables"] == ["cells", "theirs"]
    for name in ("a/b", "..", "zarr.json"):
        with pytest.raises(InputError, match="is not a valid name of a table"):
            cellscale.export_ngio(image.url, name=name)


def test_tables_that_are_written_at_once_are_all_listed(tmp_path: Path) -> None:
    image, names = drawn(tmp_path / "i.zarr"), [f"t{number}" for number in range(8)]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(lambda name: cellscale.export_ngio(image.url, name=name), names)) == [2] * 8
    assert sorted(names_of(zarr.open_group(f"{image.url}/tables", mode="r"))) == names


def test_a_feature_table_that_dies_at_any_of_its_changes_is_whole_or_not_listed(tmp_path: Path) -> None:
    died, moment = True, 0
    while died:
        image = drawn(tmp_path / f"{moment}.zarr")
        died = dies(lambda: cellscale.export_ngio(image.url), moment)  # noqa: B023
        moment += died
        group = zarr.open_group(image.url, mode="r")
        if "tables" in group and "cells" in names_of(group["tables"]):
            assert len(pd.read_parquet(Path(image.url) / "tables/cells/table.parquet")) == 2
        else:
            assert cellscale.export_ngio(image.url) == 2
    assert moment > 2


def test_a_replaced_layer_or_image_takes_its_tables_from_the_list(tmp_path: Path) -> None:
    image = drawn(tmp_path / "i.zarr")
    labels = np.ones((1, 40, 40), np.uint32)
    layer(image, "second", labels)
    cellscale.measure(image.url, layer="second")
    tables = zarr.create_group(f"{image.url}/tables", attributes={"tables": ["theirs", "../../out", 5]})
    tables.create_group("theirs").attrs["cellscale"] = {"layer": 5}
    layer(image, "third", labels)
    cellscale.measure(image.url, layer="third")
    for name in ("cells", "second", "third"):
        cellscale.export_ngio(image.url, layer=name)
    remove_labels(image.url, "third")
    cellscale.save_labels(labels, image.url, "cells", overwrite=True)
    assert names_of(zarr.open_group(tables.store, mode="r")) == ["theirs", "../../out", 5, "second"]
    cellscale.measure(image.url, layer="cells")
    assert cellscale.export_ngio(image.url) == 1
    cellscale.save_image(labels[0], tmp_path / "i.zarr", axes="yx", overwrite=True)
    assert names_of(zarr.open_group(tables.store, mode="r")) == ["theirs", "../../out", 5]
    assert Path(image.url, "tables", "theirs", "zarr.json").exists()


def test_a_layer_that_is_replaced_while_its_table_is_written_has_no_table(tmp_path: Path) -> None:
    image = drawn(tmp_path / "i.zarr")
    found = open_labels(image.url, "cells")

    def rows_of_a_layer_that_is_replaced() -> Iterator[Any]:
        yield from parts(found)
        cellscale.save_labels(np.ones((1, 40, 40), np.uint32), image.url, "cells", overwrite=True)

    with pytest.raises(MissingError, match="was replaced or removed while its table was written"):
        write_feature_table(found, "cells", rows_of_a_layer_that_is_replaced(), overwrite=False)
    assert names_of(zarr.open_group(f"{image.url}/tables", mode="r")) == []


def test_a_list_of_tables_of_another_kind_and_a_store_without_an_image_are_named(tmp_path: Path) -> None:
    image = drawn(tmp_path / "i.zarr")
    zarr.create_group(f"{image.url}/tables", attributes={"tables": "cells"})
    with pytest.raises(DamagedError, match="attribute `tables` is not a list"):
        cellscale.export_ngio(image.url)
    shutil.copytree(f"{image.url}/labels", tmp_path / "o.zarr" / "labels")
    zarr.create_group(tmp_path / "o.zarr", overwrite=False)
    with pytest.raises(MissingError, match="holds label layers and no image"):
        cellscale.export_ngio(tmp_path / "o.zarr")


def test_a_feature_table_on_an_object_store(s3: dict[str, Any]) -> None:
    image = drawn("s3://cells/feature-table.zarr", storage_options=s3)
    assert cellscale.export_ngio(image.url, storage_options=s3) == 2
    with pytest.raises(ExistsError):
        cellscale.export_ngio(image.url, storage_options=s3)
    assert cellscale.export_table(image.url, "s3://cells/o.h5ad", storage_options=s3) == 2
    found = pd.read_parquet(f"{image.url}/tables/cells/table.parquet", storage_options=s3)
    assert found.label.tolist() == [1, 2]


def test_a_read_only_store_is_named(tmp_path: Path) -> None:
    image = drawn(tmp_path / "i.zarr")
    shutil.make_archive(str(tmp_path / "i"), "zip", image.url)
    with pytest.raises(StoreError, match="zip files are read only"):
        cellscale.export_ngio(tmp_path / "i.zip")


def test_options_of_one_output_are_refused_with_the_other(tmp_path: Path) -> None:
    image = drawn(tmp_path / "i.zarr")
    for words in (["--ngio", "--output", "o.csv"], ["--name", "a"], ["--overwrite"]):
        assert "--ngio" in CliRunner().invoke(cli, ["table", image.url, *words]).stderr


@pytest.mark.slow
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ngio_opens_a_feature_table(tmp_path: Path, version: str) -> None:
    if subprocess.run([NGIO_PYTHON, "-c", "import ngio"], capture_output=True, check=False).returncode:
        pytest.skip("no ngio: pip install ngio, or name the python that has it in NGIO_PYTHON")
    image = drawn(tmp_path / "i.zarr", version=version)
    cellscale.export_ngio(image.url)
    command = [NGIO_PYTHON, "-m", "tests.api.ngio_table", image.url, "cells", str(tmp_path / "found.json")]
    subprocess.run(command, cwd=Path(__file__).parents[2], check=True, timeout=300)
    found = json.loads((tmp_path / "found.json").read_text())
    stored = rows(image)
    assert (found["names"], found["kind"], found["layer"]) == (["cells"], "feature_table", "cells")
    assert found["index"] == ["label", stored.label.tolist()]
    assert found["columns"] == {name: stored[name].tolist() for name in stored if name != "label"}
    assert "intensity_mean-0" in found["measurements"]

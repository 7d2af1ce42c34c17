"""Object tables: unique columns, one schema for all parts, and no row twice after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import cellscale
from cellscale.ngff.attempts import OBJECTS
from cellscale.ngff.image import NgffImage
from cellscale.ngff.layer_tables import part_name, part_names
from cellscale.ngff.metadata import channel_names
from cellscale.segmentation.object_table import Measured, object_table, parquet, schema
from cellscale.storage.folder import Folder
from tests.blobs import blobs_model, blurred_noise
from tests.ngff.pictures import make


def parts(image: NgffImage, layer: str) -> list[Path]:
    return sorted(Path(image.url, "labels", layer, OBJECTS).glob("*.parquet"))


def segmented(image: NgffImage, layer: str = "cells") -> pd.DataFrame:
    cellscale.segment(image.url, model=blobs_model(), layer=layer, tile_size=40, backend="serial")
    return pd.read_parquet(Path(image.url, "labels", layer, OBJECTS))


@pytest.mark.parametrize(
    "names", [("a", "a_2", "a"), ("a", "a_1", "a"), ("1", "", "1"), ("a",) * 4, ("a", "a_1", "a_1", "a")]
)
def test_channels_with_like_names_keep_a_column_each(names: tuple[str, ...]) -> None:
    ome = {"omero": {"channels": [{"label": name} for name in names]}}
    made = channel_names(ome, len(names))
    assert len(set(made)) == len(names)
    assert [mine for mine, name in zip(made, names, strict=True) if mine == name][:1] == [names[0]]


def test_frames_with_and_without_cells_have_one_schema(tmp_path: Path) -> None:
    noise = blurred_noise((1, 90, 120))[0]
    image = make(tmp_path / "i.zarr", np.stack([noise * 0, noise, noise * 0 + 9]), "tyx")
    rows = segmented(image)
    assert len(parts(image, "cells")) >= 3
    assert {str(pq.read_schema(part)) for part in parts(image, "cells")} == {str(schema(["0"]))}
    assert set(rows.frame) == {1}
    assert len(rows) == cellscale.export_table(image.url, str(tmp_path / "t.csv"))


@pytest.mark.parametrize(
    ("dtype", "factor", "offset"),
    [("float64", 1e-12, 0), ("float32", 1e10, 0), ("float64", 1e290, 0), ("uint64", 1, 2**63), ("int16", 1, -9000)],
)
def test_mean_intensities_of_any_range(tmp_path: Path, dtype: str, factor: float, offset: int) -> None:
    pixels = blurred_noise((1, 90, 120)).astype(dtype) * np.dtype(dtype).type(factor) + np.dtype(dtype).type(offset)
    image = make(tmp_path / "i.zarr", pixels, "tyx")
    rows = segmented(image)
    labels = cellscale.open_labels(image.url, "cells").values[0]
    assert len(rows) > 5
    for label, mean in zip(rows.label, rows["intensity_mean-0"], strict=True):
        of_cell = pixels[0][labels == label].tolist()
        assert mean == pytest.approx(float(sum(of_cell)) / len(of_cell), rel=1e-12)


def test_pixels_that_are_no_number_in_a_channel_that_is_only_measured(tmp_path: Path) -> None:
    noise = blurred_noise((90, 120)).astype(np.float32)
    broken = noise.copy()
    broken[:, 60:] = np.nan
    image = make(tmp_path / "i.zarr", np.stack([noise, broken]), "cyx")
    rows = segmented(image)
    right = rows.bbox_x1_px > 60
    assert rows["intensity_mean-1"].isna().tolist() == right.tolist()
    assert rows["intensity_mean-0"].notna().all()


KILLED = """
import os, signal, sys
from cellscale.storage.folder import Folder
os.replace = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
Folder(url=sys.argv[1]).write("part-000000-000000.parquet", b"half of")
"""


def test_what_a_killed_writer_leaves_is_not_part_of_the_table(tmp_path: Path) -> None:
    folder = Folder(url=str(tmp_path / OBJECTS))
    image = Measured(shape=(4, 4), pixel_size_um=None, channels=["a"])
    rows = object_table({}, image, frame=0, z=0, labels=np.zeros(0, np.uint32))
    folder.write(part_name(0, 0), parquet(rows))
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / OBJECTS)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(os.listdir(tmp_path / OBJECTS)) == 2
    assert pd.read_parquet(tmp_path / OBJECTS).columns.tolist() == schema(["a"]).names
    assert folder.names() == {"part-000000-000000.parquet"}


def test_files_are_read_in_the_order_of_frames() -> None:
    names = [part_name(plane, group) for plane, group in ((0, 0), (0, 10), (9, 2), (1_000_000, 0))]
    assert part_names([*names[::-1], "objects.csv", ".part-000000-000000.parquet.1.part", "part-1-1.parquet"]) == names

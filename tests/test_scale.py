"""Long runs: the promise on a large frame, and a real training at the default settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import cellscale
from cellscale.methods import load_method
from cellscale.ngff.labels import open_labels
from cellscale.sources.synthetic import Scene
from cellscale.tiling.in_memory import tiled_frame, whole_frame
from cellscale.types import Box
from tests.blobs import blobs_model

SIDE = 4096
TILES = (512, 700, 1024, SIDE)


@pytest.mark.slow
def test_tiles_of_any_size_give_identical_layers_with_combs_diagonals_and_huge_cells(tmp_path: Path) -> None:
    movie = str(tmp_path / "large.zarr")
    cellscale.synthesize(movie, shape=(1, SIDE, SIDE), cells=12_000, landmarks=True, seed=3)
    layers, tables = [], []
    for tile in TILES:
        name = f"tile-{tile}"
        cellscale.segment(movie, model=blobs_model(), layer=name, tile_size=tile, backend="serial")
        layers.append(open_labels(movie, name).read(Box(0, 0, SIDE, SIDE)))
        tables.append(pd.read_parquet(f"{movie}/labels/{name}/objects.parquet"))
    assert layers[0].max() > 3000
    assert all(np.array_equal(layers[0], other) for other in layers[1:])
    assert all(tables[0].equals(other) for other in tables[1:])


@pytest.mark.slow
def test_each_landmark_is_one_cell_at_any_tile_size() -> None:
    scene = Scene(shape=(1, SIDE, SIDE), cells=2_000, landmarks=True)
    truth = scene.labels(0, Box(0, 0, SIDE, SIDE))
    method: Any = load_method("saw")
    perfect = method.perfect_prediction(truth)
    maps = {name: np.rint(255 * values).astype(np.uint8) for name, values in perfect.items()}
    landmarks = range(3 * 2_000 + 1, 3 * 2_000 + 7)
    frames = [tiled_frame(method, maps, tile) for tile in TILES]
    assert all(np.array_equal(frames[0], other) for other in frames[1:])
    for number in landmarks:
        inside = np.bincount(frames[0][truth == number])
        assert inside.max() > 0.9 * (truth == number).sum()


@pytest.mark.slow
def test_contours_by_tiles_are_those_of_the_whole_frame() -> None:
    truth = Scene(shape=(1, SIDE, SIDE), cells=4_000).labels(0, Box(0, 0, SIDE, SIDE))
    method: Any = load_method("multicellnet", radius=24, extent=64)
    perfect = method.perfect_prediction(truth)
    maps = {name: np.rint(255 * values).astype(np.uint8) for name, values in perfect.items()}
    whole = whole_frame(method, maps)
    assert whole.max() > 1000
    assert np.array_equal(tiled_frame(method, maps, 512), whole)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*")
def test_saw_learns_real_cells_at_the_default_settings(data: Path, tmp_path: Path) -> None:
    """DIC-C2DH-HeLa, sequence 01, silver truth: SEG of held-out frames."""
    folder, movie, model = data / "DIC-C2DH-HeLa", str(tmp_path / "dic.zarr"), str(tmp_path / "model")
    cellscale.import_images(str(folder / "01_raw.tif"), movie, masks=str(folder / "01_st_seg.tif"))
    cellscale.train("saw", [movie], output=model, frames=(0, 64), validation_frames=(64, 72))
    cellscale.segment(movie, model=model, frames=(72, 84))
    assert cellscale.evaluate(movie, frames=(72, 84)).seg >= 0.78

"""Type checkers read the public API: right calls pass, wrong ones are reported."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import cellscale

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "cellscale"
RIGHT = """
import cellscale

import numpy as np
import xarray as xr
from pathlib import Path

nuclei = cellscale.load_model(Path("nuclei"))
labels: np.ndarray = nuclei.segment(np.zeros((8, 64, 64)), axes="tyx", settings={"tile_size": 512})
labelled: xr.DataArray = nuclei.segment(xr.DataArray(np.zeros((64, 64)), dims=("y", "x")))
cellscale.save_image(labels, Path("saved.zarr"), pixel_size_um=0.65)
corrected: str = cellscale.save_labels(labels, Path("saved.zarr"), "corrected", frames=[1, 3])
image = cellscale.import_images("frames.tif", "movie.zarr", masks="masks.tif", pixel_size_um=0.65)
model = cellscale.train("saw", ["movie.zarr"], output="m", frames=(0, 8), settings={"steps": 20, "unet.width": 8})
result = cellscale.segment("movie.zarr", model=model, tile_size=512, backend="serial", z_mode="slices")
cells: int = result.cells
url: str = result.layer
forecast = cellscale.plan("movie.zarr", model="nuclei", settings={"window_size": 4096})
tiles: int = forecast.tiles
scores = cellscale.evaluate("movie.zarr", layer="cells", ground_truth="truth", frames=(0, None))
f1: float = scores.f1
maps: str = cellscale.predict_maps("movie.zarr", model=model, output="maps.zarr", level="auto")
full: str = cellscale.upsample_labels("movie.zarr", layer="cells", new_layer="full")
rows: int = cellscale.export_table("movie.zarr", "objects.csv", layer="cells")
"""
WRONG = """
import cellscale

cellscale.segment(3, model="m")
cellscale.load_model("nuclei").segment([[1, 2]])
cellscale.load_model("nuclei").segment(np.zeros((64, 64)), axis="yx")
cellscale.save_labels(np.zeros((64, 64)), "movie.zarr")
cellscale.segment("movie.zarr", modle="m")
cellscale.segment("movie.zarr")
cellscale.segment("movie.zarr", model="m", tile_size="512")
cellscale.segment("movie.zarr", model="m", z_mode="max")
cellscale.segment("movie.zarr", model="m", backend="local")
cellscale.plan("movie.zarr", model="m", overwrite=True)
cellscale.train("saw", "movie.zarr", output="m", settings=["steps=20"])
cellscale.predict_maps("movie.zarr", model="m", output="maps.zarr", layer="cells")
cellscale.evaluate("movie.zarr", labels="cells")
cellscale.evaluate("movie.zarr").f2
cellscale.export_table("movie.zarr", output=7)
cellscale.nonsense(1)
cells: str = cellscale.segment("movie.zarr", model="m").cells
"""


def reported(code: str, folder: Path) -> set[int]:
    """Lines of a program in which `mypy --strict` finds an error; the project's cache makes it quick."""
    script = folder / "program.py"
    script.write_text(code)
    words = ["--config-file", str(ROOT / "pyproject.toml"), "--no-error-summary", str(script)]
    command = [sys.executable, "-m", "mypy", *words]
    lines = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.splitlines()
    return {int(line.split(":")[1]) for line in lines if "program.py:" in line and ": error: " in line}


def test_wrong_uses_are_reported_and_right_ones_are_not(tmp_path: Path) -> None:
    first = RIGHT.count("\n") + 1
    wrong = WRONG.replace("import cellscale\n", "")
    calls = {first + number for number, line in enumerate(wrong.splitlines()) if "cellscale" in line}
    assert reported(RIGHT + wrong, tmp_path) == calls


def test_the_stub_names_what_the_package_loads() -> None:
    tree = ast.parse((PACKAGE / "__init__.pyi").read_text())
    typed = {
        name.asname: f"{line.module}:{name.name}"
        for line in tree.body
        if isinstance(line, ast.ImportFrom)
        for name in line.names
    }
    assert typed == vars(cellscale)["_PLACES"]
    assert {*typed, "__version__"} == {*cellscale.__all__}


def test_no_public_name_is_a_folder_of_the_package() -> None:
    """Importing a folder would put the module in the place of the function."""
    assert not {path.parent.name for path in PACKAGE.glob("*/__init__.py")} & {*cellscale.__all__}

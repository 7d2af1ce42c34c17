"""Files and folders of other formats are imported and segmented by one call, and the call again goes on."""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner
from numpy.typing import NDArray

import cellscale
from cellscale.cli.main import cli
from cellscale.errors import ExistsError, InputError
from cellscale.ngff.image import open_image
from cellscale.ngff.labels import list_labels, open_labels
from cellscale.ngff.metadata import read_node
from cellscale.types import Box
from tests.blobs import blobs_model, blurred_noise
from tests.sources.microscope_writers import write_lif

SETTINGS = {"precision": "fp32"}


def run(image: Any, output: Any, **options: Any) -> cellscale.SegmentationResult:
    return cellscale.segment(image, output=output, model=blobs_model(), backend="serial", settings=SETTINGS, **options)


def labels(url: Path, layer: str = "cells", t: int = 0) -> NDArray[Any]:
    found = open_labels(str(url), layer)
    return found.read(Box(0, 0, found.size("y"), found.size("x")), t=t)


def frames_tif(path: Path, frames: int = 2) -> NDArray[np.uint16]:
    """An OME-TIFF of frames with scale, interval and a name of its channel."""
    pixels = blurred_noise((frames, 60, 70), seed=1)
    metadata = {
        "axes": "TYX",
        "PhysicalSizeX": 0.65,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": 0.65,
        "PhysicalSizeYUnit": "µm",
        "TimeIncrement": 90.0,
        "TimeIncrementUnit": "s",
        "Channel": {"Name": ["DAPI"]},
    }
    tifffile.imwrite(path, pixels, ome=True, metadata=metadata)
    return pixels


def command(*words: str | Path) -> Any:
    trust = ("--trust-model", "tests.blobs", "--set", "precision=fp32", "--serial")
    return CliRunner().invoke(cli, ["--quiet", "segment", *map(str, words), *trust])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    cellscale.save_model(blobs_model(), tmp_path / "model")
    return tmp_path / "model"


def test_one_command_from_a_tiff_to_labels(tmp_path: Path, model: Path) -> None:
    pixels = frames_tif(tmp_path / "frames.ome.tif")
    done = command(tmp_path / "frames.ome.tif", "--model", model, "--output", tmp_path / "movie.zarr")
    assert done.exit_code == 0, done.output
    image = open_image(str(tmp_path / "movie.zarr"))
    assert (image.pixel_size_um(), image.frame_interval_s(), image.channels) == ((0.65, 0.65), 90.0, ("DAPI",))
    cellscale.save_image(pixels, tmp_path / "direct.zarr")
    expected = cellscale.segment(
        tmp_path / "direct.zarr", model=blobs_model(), backend="serial", settings=SETTINGS, tile_size=16
    )
    assert f"{expected.cells} cells in 2 frames" in done.output
    for t in range(2):
        np.testing.assert_array_equal(labels(tmp_path / "movie.zarr", t=t), labels(tmp_path / "direct.zarr", t=t))
    assert expected.cells > 5


def test_the_same_call_goes_on_with_the_image_that_is_there(tmp_path: Path) -> None:
    frames_tif(tmp_path / "frames.tif")

    def stop(step: str, done: int, total: int) -> None:
        if (step, done) == ("decode", 1):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "frames.tif", tmp_path / "movie.zarr", on_progress=stop)
    image = open_image(str(tmp_path / "movie.zarr"))
    made, chunk = read_node(image.store), next((tmp_path / "movie.zarr" / "0").rglob("c/*/*/*"))
    before = chunk.stat().st_mtime_ns
    assert made is not None
    assert made.notes["origin"]["name"] == "frames.tif"
    assert str(tmp_path) not in str(made.attributes)
    seen: list[str] = []
    result = run(tmp_path / "frames.tif", tmp_path / "movie.zarr", on_progress=lambda step, *_: seen.append(step))
    assert result.report.reused["decode"] == 1
    assert "import" not in seen
    assert chunk.stat().st_mtime_ns == before
    run(tmp_path / "frames.tif", tmp_path / "movie.zarr", layer="again")
    assert sorted(list_labels(image.url)) == ["again", "cells"]


def test_an_import_by_hand_is_known_too(tmp_path: Path) -> None:
    frames_tif(tmp_path / "frames.tif")
    cellscale.import_images(tmp_path / "frames.tif", tmp_path / "movie.zarr", pixel_size_um=0.5)
    run(tmp_path / "frames.tif", tmp_path / "movie.zarr")
    assert open_image(str(tmp_path / "movie.zarr")).pixel_size_um() == (0.5, 0.5)
    cellscale.import_images(tmp_path / "frames.tif", tmp_path / "part.zarr", frames=(0, 1))
    with pytest.raises(ExistsError, match=r"exists and was imported from .*, which has changed since then, or in part"):
        run(tmp_path / "frames.tif", tmp_path / "part.zarr")


def test_an_output_of_something_else_is_refused(tmp_path: Path) -> None:
    frames_tif(tmp_path / "frames.tif")
    frames_tif(tmp_path / "others.tif")
    run(tmp_path / "frames.tif", tmp_path / "movie.zarr")
    with pytest.raises(ExistsError, match=r"movie\.zarr exists and was not imported from .*others\.tif"):
        run(tmp_path / "others.tif", tmp_path / "movie.zarr", layer="b", overwrite=True)
    cellscale.save_image(np.zeros((8, 8), np.uint8), tmp_path / "array.zarr")
    with pytest.raises(ExistsError, match="was not imported from"):
        run(tmp_path / "frames.tif", tmp_path / "array.zarr")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "text").write_text("kept")
    with pytest.raises(ExistsError, match="was not imported from"):
        run(tmp_path / "frames.tif", tmp_path / "notes")
    os.utime(tmp_path / "frames.tif", ns=(1, 1))
    with pytest.raises(ExistsError, match="which has changed since then"):
        run(tmp_path / "frames.tif", tmp_path / "movie.zarr", layer="b")
    assert list_labels(str(tmp_path / "movie.zarr")) == ("cells",)


def test_a_file_needs_an_output_of_its_own(tmp_path: Path, model: Path) -> None:
    frames_tif(tmp_path / "frames.tif")
    done = command(tmp_path / "frames.tif", "--model", model)
    assert isinstance(done.exception, InputError)
    assert "frames.tif is not OME-Zarr. Name the OME-Zarr image to make of it" in str(done.exception)
    with pytest.raises(InputError, match="holds the input"):
        run(tmp_path / "frames.tif", tmp_path)
    with pytest.raises(cellscale.CellscaleError, match="nucleii"):
        cellscale.segment(tmp_path / "frames.tif", output=tmp_path / "movie.zarr", model="nucleii", backend="serial")
    assert not (tmp_path / "movie.zarr").exists()


@pytest.mark.parametrize("name", ["a.npy", "a.npz::stack"])
def test_arrays_in_files(tmp_path: Path, name: str) -> None:
    pixels = blurred_noise((2, 50, 60), seed=3)
    np.save(tmp_path / "a.npy", pixels)
    np.savez(tmp_path / "a.npz", stack=pixels, other=pixels[:, :20])
    result = run(f"{tmp_path}/{name}", f"{tmp_path}/movie.zarr", ome_zarr_version="0.4")
    assert result.cells > 3
    assert open_image(f"{tmp_path}/movie.zarr").version == "0.4"
    run(f"{tmp_path}/{name}", f"{tmp_path}/movie.zarr", layer="again", ome_zarr_version="0.4")


def test_a_folder_of_several_sizes_becomes_a_collection(tmp_path: Path, model: Path) -> None:
    folder, output = tmp_path / "tiffs", tmp_path / "c.zarr"
    folder.mkdir()
    for number, side in enumerate((40, 52, 64)):
        tifffile.imwrite(folder / f"field{number}.tif", blurred_noise((side, side + 4), seed=number))
    with pytest.raises(InputError, match=r"holds 3 images\. Use segment_plate"):
        run(folder, output)
    assert not output.exists()
    done = command(folder, "--model", model, "--output", output)
    assert done.exit_code == 0, done.output
    assert "cells in 3 images" in done.output
    shapes = [labels(output / str(number)).shape for number in range(3)]
    assert shapes == [(40, 44), (52, 56), (64, 68)]
    again = cellscale.segment_plate(folder, output=output, model=blobs_model(), backend="serial", settings=SETTINGS)
    assert again.reused == ("0", "1", "2")
    tifffile.imwrite(folder / "field9.tif", blurred_noise((40, 44), seed=9))
    with pytest.raises(ExistsError, match="which has changed since then"):
        cellscale.segment_plate(folder, output=output, model=blobs_model(), backend="serial", settings=SETTINGS)


def test_a_folder_of_frames_stays_one_image(tmp_path: Path, model: Path) -> None:
    folder = tmp_path / "tiffs"
    folder.mkdir()
    for number in range(3):
        tifffile.imwrite(folder / f"t{number}.tif", blurred_noise((40, 44), seed=number))
    done = command(folder, "--model", model, "--output", tmp_path / "movie.zarr")
    assert done.exit_code == 0, done.output
    assert open_image(str(tmp_path / "movie.zarr")).levels[0].shape == (3, 40, 44)


def test_two_series_of_a_microscope_file(tmp_path: Path, model: Path) -> None:
    steps = {"x": 0.5e-6, "y": 0.5e-6, "z": 2e-6, "t": 60.0}
    images = {f"Position {i}": blurred_noise((2, 1, 1, 40, 50 + i), seed=i) for i in range(2)}
    write_lif(tmp_path / "two.lif", images, channels=["Green"], steps=steps)
    done = command(tmp_path / "two.lif", "--model", model, "--output", tmp_path / "c.zarr")
    assert done.exit_code == 0, done.output
    assert "cells in 2 images" in done.output
    for i in range(2):
        image = open_image(str(tmp_path / "c.zarr" / str(i)))
        assert image.pixel_size_um() == pytest.approx((0.5, 0.5))
        assert image.frame_interval_s() == pytest.approx(60.0)
        assert image.channels == ("Green",)
        assert labels(tmp_path / "c.zarr" / str(i), t=1).max() > 0


def test_a_plan_of_a_file_is_refused_with_the_commands_that_make_it(tmp_path: Path, model: Path) -> None:
    frames_tif(tmp_path / "my frames.tif")
    with pytest.raises(InputError, match=r"my frames\.tif is not OME-Zarr, and `plan` reads OME-Zarr alone") as refused:
        cellscale.plan(tmp_path / "my frames.tif", model=str(model))
    first, second = (shlex.split(words) for words in re.findall("`cellscale ([^`]+)`", str(refused.value))[:2])
    trust = ("--model", str(model), "--trust-model", "tests.blobs", "--json")
    assert CliRunner().invoke(cli, first).exit_code == 0
    assert json.loads(CliRunner().invoke(cli, [*second, *trust]).stdout)["tiles"] == 2
    with pytest.raises(InputError, match=r"predict-maps .*frames\.zarr"):
        cellscale.predict_maps(tmp_path / "my frames.tif", model=str(model), output=tmp_path / "maps.zarr")
